"""Mixing channels within the filter is mixing the values before it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import DictLattice
from test_filtering import VALUES, relative_error
from test_lattice import POINTS, features_of

from crfrnn_jax import build_lattice, filter_lattice

MIXING = np.random.default_rng(5).normal(size=(2, 3)).astype(np.float32)


def test_mixing_among_the_vertices_is_mixing_the_values():
    lattice = build_lattice(features_of("spread", 3))
    mixed = filter_lattice(lattice, VALUES, MIXING)
    assert mixed.shape == (POINTS, 2)
    assert relative_error(mixed, filter_lattice(lattice, VALUES @ MIXING.T)) < 1e-6


@pytest.mark.parametrize(("channels", "mixed"), [(17, 2), (3, 17), (17, 21)])
def test_channels_are_padded_before_and_after_they_are_mixed(channels, mixed):
    rng = np.random.default_rng(7)
    values = rng.normal(size=(POINTS, channels)).astype(np.float32)
    mixing = rng.normal(size=(mixed, channels)).astype(np.float32)
    features = features_of("spread", 3)
    ours = filter_lattice(build_lattice(features), values, mixing)
    truth = DictLattice(features).filter(values) @ mixing.T
    assert relative_error(ours, truth) < 1e-5


@pytest.mark.parametrize(("channels", "mixed"), [(3, 2), (17, 19)])
def test_what_is_infinite_is_mixed_into_infinities_where_it_lies(channels, mixed):
    """Padding times infinity is NaN, which nothing may read."""
    rng = np.random.default_rng(10)
    features = features_of("spread", 3)
    features[:100] += 1000
    values = rng.normal(size=(POINTS, channels)).astype(np.float32)
    mixing = rng.uniform(0.5, 1, size=(mixed, channels)).astype(np.float32)
    lattice = build_lattice(features)
    finite = filter_lattice(lattice, values, mixing)
    values[17, 1] = np.inf
    ours = np.asarray(filter_lattice(lattice, values, mixing))
    assert np.isposinf(ours[17]).all()
    assert not np.isnan(ours).any()
    np.testing.assert_array_equal(ours[100:], finite[100:])


def test_mixing_under_vmap_is_a_loop():
    batch = np.stack([features_of("spread", 3), features_of("clustered", 3)])
    mixings = np.stack([MIXING, 2 - MIXING])

    def filter_and_mix(features, mixing):
        return filter_lattice(build_lattice(features), VALUES, mixing)

    together = jax.vmap(filter_and_mix)(batch, mixings)
    for ours, *alone in zip(together, batch, mixings, strict=True):
        assert relative_error(ours, np.asarray(filter_and_mix(*alone))) < 1e-6


@pytest.mark.parametrize("moved", ["features", "values", "mixing", "all"])
def test_derivatives_of_mixing_are_those_of_mixed_values(moved):
    """In each argument alone, for which the rule has ways of its own, and in all."""
    arguments = {
        "features": features_of("spread", 3),
        "values": VALUES,
        "mixing": MIXING,
    }
    names = [moved] if moved != "all" else list(arguments)
    rng = np.random.default_rng(6)
    moves = [rng.normal(size=arguments[n].shape).astype(np.float32) for n in names]
    other = rng.normal(size=(POINTS, 2)).astype(np.float32)

    def derivatives(mix):
        def function(*moved):
            a = arguments | dict(zip(names, moved, strict=True))
            return mix(build_lattice(a["features"]), a["values"], a["mixing"])

        at = tuple(jnp.asarray(arguments[name]) for name in names)
        _, tangent = jax.jvp(function, at, tuple(moves))
        _, transpose = jax.vjp(function, *at)
        return tangent, *transpose(jnp.asarray(other))

    ours = jax.jit(lambda: derivatives(filter_lattice))()
    truth = jax.jit(
        lambda: derivatives(lambda x, v, m: filter_lattice(x, jnp.matmul(v, m.T)))
    )()
    for one, expected in zip(ours, truth, strict=True):
        assert np.abs(expected).max() > 0.1
        assert relative_error(one, np.asarray(expected)) < 1e-5


@pytest.mark.parametrize(
    ("mixing", "message"),
    [
        (np.ones(3), r"mixing: expected shape \[mixed, channels=3\], got \[3\]"),
        (np.ones((3, 2)), r"mixing: expected shape .*channels=3\], got \[3, 2\]"),
        (np.ones((3, 3), int), r"mixing: expected floating-point .*got dtype int"),
    ],
)
def test_bad_mixing_raises(mixing, message):
    lattice = build_lattice(features_of("spread", 2))
    with pytest.raises(ValueError, match=message):
        filter_lattice(lattice, VALUES, mixing)
