"""What the filter does on the way: mix values before, divide and subtract after."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import DictLattice
from test_filtering import VALUES, relative_error
from test_lattice import POINTS, features_of

from crfrnn_jax import build_lattice, filter_lattice

MIXING = np.random.default_rng(5).normal(size=(2, 3)).astype(np.float32)
DIVISOR = np.random.default_rng(11).uniform(1, 2, (POINTS, 1)).astype(np.float32)
MINUEND = np.random.default_rng(12).normal(size=(POINTS, 2)).astype(np.float32)


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


@pytest.mark.parametrize("mixing", [None, MIXING])
@pytest.mark.parametrize("divisor", [None, DIVISOR])
@pytest.mark.parametrize("minuend", [None, MINUEND])
def test_results_are_divided_and_subtracted(mixing, divisor, minuend):
    values = VALUES[:, :2] if mixing is None else VALUES
    features = features_of("spread", 3)
    given = {"divisor": divisor, "minuend": minuend}
    ours = filter_lattice(build_lattice(features), values, mixing, **given)
    truth = DictLattice(features).filter(values)
    truth = truth if mixing is None else truth @ mixing.T
    truth = truth if divisor is None else truth / divisor
    truth = truth if minuend is None else minuend - truth
    assert relative_error(ours, truth) < 1e-5


def filtered_and_then(features, values, mixing, divisor=None, minuend=None):
    """Each step by itself."""
    mixed = jnp.matmul(values, mixing.T)
    filtered = filter_lattice(build_lattice(features), mixed)
    if divisor is not None:
        filtered /= divisor
    return filtered if minuend is None else minuend - filtered


ARGUMENTS = {
    "features": features_of("spread", 3),
    "values": VALUES,
    "mixing": MIXING,
    "divisor": DIVISOR,
    "minuend": MINUEND,
}


@pytest.mark.parametrize(
    ("moved", "without"),
    [
        (moved, without)
        for moved in (*ARGUMENTS, "all")
        for without in ("nothing", "divisor", "minuend")
        if moved != without
    ],
)
def test_derivatives_are_those_of_each_step_by_itself(moved, without):
    """In each argument alone, for which the rule has ways of its own, and in all.

    To 1e-5, as the filter itself.
    """
    given = {name: value for name, value in ARGUMENTS.items() if name != without}
    names = [moved] if moved != "all" else list(given)
    rng = np.random.default_rng(6)
    moves = [rng.normal(size=ARGUMENTS[n].shape).astype(np.float32) for n in names]
    other = rng.normal(size=(POINTS, 2)).astype(np.float32)

    def derivatives(filtered):
        def function(*moved):
            return filtered(**(given | dict(zip(names, moved, strict=True))))

        at = tuple(jnp.asarray(given[name]) for name in names)
        _, tangent = jax.jvp(function, at, tuple(moves))
        _, transpose = jax.vjp(function, *at)
        return tangent, *transpose(jnp.asarray(other))

    def at_once(features, **arguments):
        return filter_lattice(build_lattice(features), **arguments)

    ours = jax.jit(lambda: derivatives(at_once))()
    truth = jax.jit(lambda: derivatives(filtered_and_then))()
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"divisor": np.ones(POINTS)},
            r"divisor: expected shape \[points=200, one=1\]",
        ),
        ({"divisor": np.ones((3, 1))}, r"divisor: expected shape .*got \[3, 1\]"),
        ({"divisor": np.ones((POINTS, 1), int)}, "divisor: expected floating-point"),
        (
            {"minuend": MINUEND},
            r"minuend: expected shape .*channels=3\], got \[200, 2\]",
        ),
        (
            {"mixing": MIXING, "minuend": VALUES},
            r"minuend: expected shape .*mixed=2\], got \[200, 3\]",
        ),
        ({"minuend": np.ones((POINTS, 3), int)}, "minuend: expected floating-point"),
    ],
)
def test_a_bad_divisor_or_minuend_raises(arguments, message):
    lattice = build_lattice(features_of("spread", 2))
    with pytest.raises(ValueError, match=message):
        filter_lattice(lattice, VALUES, **arguments)


def test_a_minuend_alone_moves_whatever_the_values():
    """Where the filtered values are no numbers, too."""
    features = features_of("spread", 2)
    features[3] = np.nan
    lattice = build_lattice(features)

    def subtract_from(minuend):
        return filter_lattice(lattice, VALUES, MIXING, divisor=DIVISOR, minuend=minuend)

    _, tangent = jax.jvp(subtract_from, (MINUEND,), (np.ones_like(MINUEND),))
    np.testing.assert_array_equal(tangent, 1)
