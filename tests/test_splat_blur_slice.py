"""What the passes promise each other, and that XLA keeps them apart."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from oracles import DictLattice
from test_filtering import relative_error
from test_in_memory import conditions
from test_lattice import POINTS, features_of

from crfrnn_jax import build_lattice, filter_lattice
from crfrnn_jax.splat_blur_slice import in_splat_order, padded_channels, splat

RNG = np.random.default_rng(9)


@pytest.mark.parametrize(
    ("channels", "padded"), [(1, 1), (16, 16), (17, 24), (24, 24), (25, 32)]
)
def test_splat_adds_up_to_the_vertices_and_pads_their_channels(channels, padded):
    values = RNG.normal(size=(POINTS, channels)).astype(np.float32)
    lattice = build_lattice(features_of("clustered", 3))
    rows = int(lattice.num_vertices)
    expected = np.zeros((rows, padded))
    for ids, weights in zip(lattice.vertex_ids, lattice.barycentric, strict=True):
        np.add.at(expected[:, :channels], ids, np.asarray(weights)[:, None] * values)
    assert padded_channels(channels) == padded
    vertices = splat(lattice, rows, in_splat_order(lattice, values))
    assert vertices.shape == expected.shape
    assert relative_error(vertices, expected) < 1e-5
    assert not vertices[:, channels:].any()


@pytest.mark.parametrize("d", [2, 3])
def test_every_axis_of_the_blur_is_kept_apart_on_a_cpu(d):
    """Two in the loop's turn and, where their number is odd, one after it.

    Also if the lattice is a constant to the compiler, which then knows its vertices.
    """
    lattice = build_lattice(features_of("spread", d))
    values = jnp.ones((POINTS, 3))

    def transposed(lattice, values):
        _, transpose = jax.vjp(lambda values: filter_lattice(lattice, values), values)
        return transpose(values)

    kept_apart = 2 + (d + 1) % 2
    for function in (filter_lattice, transposed):
        assert conditions(function, lattice, values) == kept_apart
        assert conditions(partial(function, lattice), values) == kept_apart


@pytest.fixture
def another_platform(monkeypatch):
    """What is compiled for platforms other than a CPU; nothing compiled before."""

    chosen = []

    def of_others(*arguments, default, cpu):
        chosen.append(default)
        return default(*arguments)

    monkeypatch.setattr(lax, "platform_dependent", of_others)
    jax.clear_caches()
    yield
    jax.clear_caches()
    assert chosen


@pytest.mark.parametrize("d", [2, 5])
def test_the_blur_of_other_platforms_is_the_same(another_platform, d):
    values = RNG.normal(size=(POINTS, 17)).astype(np.float32)
    features = features_of("spread", d)
    lattice, oracle = build_lattice(features), DictLattice(features)
    filtered, transpose = jax.vjp(partial(filter_lattice, lattice), values)
    assert relative_error(filtered, oracle.filter(values)) < 1e-5
    truth = oracle.filter(values, reverse=True)
    assert relative_error(*transpose(jnp.asarray(values)), truth) < 1e-5
