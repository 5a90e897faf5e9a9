"""Room for fewer vertices than there could be: enough, or seen not to be."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import DictLattice
from test_lattice import APART, MOST, POINTS, VALUES, features_of

from crfrnn_jax import build_lattice, filter_lattice


def test_capacity_of_exactly_the_vertices_changes_nothing():
    features = features_of("spread", 2)
    default = build_lattice(features)
    exact = build_lattice(features, capacity=int(default.num_vertices))
    np.testing.assert_array_equal(
        filter_lattice(exact, VALUES), filter_lattice(default, VALUES)
    )


def test_capacity_above_the_most_is_the_most():
    huge = build_lattice(APART, capacity=2**40)
    assert huge.neighbours.shape == build_lattice(APART).neighbours.shape


def test_capacity_too_small_raises_where_it_is_known():
    message = rf"capacity: expected at least {MOST} .*got {MOST - 1}"
    with pytest.raises(ValueError, match=message):
        build_lattice(APART, capacity=MOST - 1)


@partial(jax.jit, static_argnames="capacity")
def _filter_under_jit(features, capacity):
    lattice = build_lattice(features, capacity=capacity)
    return lattice, filter_lattice(lattice, VALUES)


@pytest.mark.parametrize("capacity", [1, POINTS // 2, MOST - 1])
def test_capacity_too_small_makes_nan_under_jit(capacity):
    lattice, filtered = _filter_under_jit(APART, capacity)
    assert lattice.overflowed
    assert int(lattice.num_vertices) == MOST
    assert np.isnan(filtered).all()

    def energy(features, values):
        lattice = build_lattice(features, capacity=capacity)
        return jnp.sum(filter_lattice(lattice, values))

    for gradient in jax.jit(jax.grad(energy, (0, 1)))(APART, VALUES):
        assert np.isnan(gradient).all()


def test_capacity_that_is_enough_under_jit():
    close = APART / np.float32(1e4)
    lattice, filtered = _filter_under_jit(close, MOST - 1)
    assert not lattice.overflowed
    np.testing.assert_allclose(filtered, DictLattice(close).filter(VALUES), atol=1e-5)


@pytest.mark.parametrize(
    ("capacity", "message"),
    [
        (0, r"capacity: expected at least 1, got 0"),
        (-4, r"capacity: expected at least 1, got -4"),
        (2.5, r"capacity: expected an integer, got 2\.5"),
        (True, r"capacity: expected an integer, got True"),
    ],
)
def test_bad_capacities_raise(capacity, message):
    with pytest.raises(ValueError, match=message):
        build_lattice(APART, capacity=capacity)
