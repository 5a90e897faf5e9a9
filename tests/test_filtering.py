"""The filter against the dictionary's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import (
    DictLattice,
    dense_filter,
    pixel_features,
)
from test_lattice import KINDS, POINTS, features_of

from crfrnn_jax import build_lattice, filter_lattice, filtering, room_filters, rooms

VALUES = np.random.default_rng(1).normal(size=(POINTS, 3)).astype(np.float32)


def relative_error(ours, truth):
    """Largest error against the largest value: single entries may cancel to zero."""
    assert np.isfinite(ours).all()
    return np.abs(np.asarray(ours, np.float64) - truth).max() / np.abs(truth).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", range(1, 7))
def test_filter_is_the_dictionarys(kind, d):
    """To 1e-5: some hundred float32 additions of 6e-8 each, and room to spare."""
    features = features_of(kind, d)
    lattice, oracle = build_lattice(features), DictLattice(features)
    assert int(lattice.num_vertices) == len(oracle.number)
    filtered = filter_lattice(lattice, VALUES)
    assert filtered.dtype == jnp.float32
    assert relative_error(filtered, oracle.filter(VALUES)) < 1e-5


@pytest.mark.parametrize("d", range(1, 7))
def test_filter_of_one_point_is_the_dictionarys(d):
    features = features_of("spread", d, points=1)
    filtered = filter_lattice(build_lattice(features), VALUES[:1])
    assert relative_error(filtered, DictLattice(features).filter(VALUES[:1])) < 1e-5


@pytest.mark.parametrize(
    ("kind", "d"), [("spread", 2), ("clustered", 5), ("far_1e4", 3)]
)
def test_filter_of_50_000_points_is_the_dictionarys(kind, d):
    features = features_of(kind, d, points=50_000)
    values = np.random.default_rng(2).uniform(size=(50_000, 2)).astype(np.float32)
    lattice, oracle = build_lattice(features), DictLattice(features)
    assert int(lattice.num_vertices) == len(oracle.number)
    filtered = filter_lattice(lattice, values)
    assert relative_error(filtered, oracle.filter(values)) < 1e-5


@pytest.mark.parametrize(
    ("low", "high", "width", "channels"),
    [
        (0, 1 / 64, 1.5, 3),
        (1 / 64, 3 / 64, 4.0, 3),
        (3 / 64, 5 / 64, 8.0, 3),
        (5 / 64, 8 / 64, 10.0, 3),
        (8 / 64, 13 / 64, 14.0, 3),
        (8 / 64, 13 / 64, 14.0, 17),
        (13 / 64, 24 / 64, 20.0, 3),
        (24 / 64, 1, 1e5, 3),
        (0, 6 / 64, 8.0, 2),
        (6 / 64, 24 / 64, 20.0, 2),
        (24 / 64, 1, 1e5, 2),
    ],
)
def test_a_room_of_any_size_gives_the_same(monkeypatch, low, high, width, channels):
    """The least lattice for which there is a choice, and one without.

    Two channels are narrow, and have less of a choice; 17 are padded.
    """
    points = 11_000
    rng = np.random.default_rng(4)
    features = (width * rng.normal(size=(points, 2))).astype(np.float32)
    values, other = rng.normal(size=(2, points, channels)).astype(np.float32)
    lattice, oracle = build_lattice(features), DictLattice(features)
    rows = lattice.neighbours[0, 0].size
    assert rooms._LEAST_ROWS <= rows < 1.1 * rooms._LEAST_ROWS
    assert low * rows < int(lattice.num_vertices) < high * rows
    truth = oracle.filter(values)
    assert relative_error(filter_lattice(lattice, values), truth) < 1e-5
    mixing = rng.normal(size=(2, channels)).astype(np.float32)
    mixed = filter_lattice(lattice, values, mixing)
    assert relative_error(mixed, truth @ mixing.T) < 1e-5

    def derivatives(weights, values):
        def of_weights_and_values(weights, values):
            return filter_function(lattice._replace(barycentric=weights), values)

        arguments = weights, values
        _, tangent = jax.jvp(of_weights_and_values, arguments, (weights[::-1], other))
        _, transpose = jax.vjp(of_weights_and_values, *arguments)
        return tangent, *transpose(jnp.asarray(other))

    filter_function = filtering._filter_lattice.__wrapped__
    chosen = jax.jit(derivatives)(lattice.barycentric, values)
    monkeypatch.setattr(rooms, "_LEAST_ROWS", 2**30)
    whole = jax.jit(lambda *arguments: derivatives(*arguments))(
        lattice.barycentric, values
    )
    for ours, truth in zip(chosen, whole, strict=True):
        assert relative_error(ours, np.asarray(truth)) < 1e-5


def test_many_channels_are_padded_and_come_out_as_if_they_were_few():
    """17 channels, which are padded, and their derivatives, beside 9 and 8 of them."""
    rng = np.random.default_rng(8)
    features = rng.normal(size=(POINTS, 3)).astype(np.float32)
    values, *moves = rng.normal(size=(3, POINTS, 17)).astype(np.float32)
    move, cotangent = moves

    def filter_all(features, values):
        return filter_lattice(build_lattice(features), values)

    def filter_in_two(features, values):
        parts = jnp.split(values, [9], axis=1)
        return jnp.concatenate([filter_all(features, part) for part in parts], axis=1)

    def derivatives(function):
        arguments = features, values
        result, tangent = jax.jvp(function, arguments, (features[::-1], move))
        _, transpose = jax.vjp(function, *arguments)
        return result, tangent, *transpose(jnp.asarray(cotangent))

    together, apart = derivatives(filter_all), derivatives(filter_in_two)
    for ours, truth in zip(together, apart, strict=True):
        assert relative_error(ours, np.asarray(truth)) < 1e-5


@pytest.mark.parametrize(("channels", "narrow"), [(1, True), (2, True), (3, False)])
@pytest.mark.parametrize("is_grid", [True, False])
def test_few_channels_and_grids_have_less_of_a_choice(
    monkeypatch, channels, narrow, is_grid
):
    told = []

    def with_room(function, rows, num_vertices, *arguments, narrow, is_grid):
        told.append((narrow, is_grid))
        return function(rows, *arguments)

    monkeypatch.setattr(room_filters, "with_room", with_room)
    lattice = build_lattice(np.zeros((7, 2), np.float32), is_grid=is_grid)
    filtering._filter_lattice.__wrapped__(lattice, jnp.ones((7, channels)))
    assert set(told) == {(narrow, is_grid)}


def smooth_image(height, width):
    """Three slow waves in 0..255, as the shading of a photograph."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(0.11 * x + 0.07 * y), np.cos(0.09 * x), np.sin(0.13 * y)]
    return (127.5 + 100 * np.stack(waves, axis=-1)).astype(np.float32)


def test_filter_of_an_image_is_the_dictionarys():
    """A smooth image under the authors' widths, with an edge through the middle."""
    image = smooth_image(20, 24)
    image[:, 12:] = 255 - image[:, 12:]
    values = np.random.default_rng(3).uniform(size=(480, 4)).astype(np.float32)
    for features in pixel_features(image, 160, 3, 3):
        filtered = filter_lattice(build_lattice(features), values)
        assert relative_error(filtered, DictLattice(features).filter(values)) < 1e-5


@pytest.mark.parametrize("d", [2, 5])
def test_normalised_filter_is_close_to_the_gaussian(d):
    """Within 5 per cent on average, as blur and interpolation spread no exact Gaussian.

    Adams et al. (2010) report errors of a few per cent; a wrong scale of the features,
    a blur left out or a wrong order of the remainders makes far more of it.
    """
    image = smooth_image(20, 24)
    features = pixel_features(image, 8, 40, 3)[0 if d == 2 else 1]
    values = image.reshape(-1, 3) / np.float32(255)
    ones = np.ones((480, 1), np.float32)
    lattice = build_lattice(features)
    ours = filter_lattice(lattice, values) / filter_lattice(lattice, ones)
    truth = dense_filter(features, values) / dense_filter(features, ones)
    assert np.mean(np.abs(ours - truth) / truth) < 0.05


def test_one_lattice_filters_values_of_any_precision():
    features = features_of("spread", 3)
    lattice = build_lattice(features)
    truth = DictLattice(features).filter(VALUES)
    half = filter_lattice(lattice, jnp.asarray(VALUES, jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    # Of 8 significant bits few are lost on the way through seven sums.
    assert relative_error(np.asarray(half, np.float32), truth) < 0.05
    with jax.enable_x64(True):
        double = filter_lattice(lattice, VALUES.astype(np.float64))
    assert double.dtype == np.float64
    assert relative_error(double, truth) < 1e-6


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_point_that_is_not_finite_filters_to_nan_and_distant_ones_to_numbers(bad):
    """The point's weights are NaN wherever it is placed; far off nothing changes."""
    features = features_of("far_1e4", 3)
    clean = filter_lattice(build_lattice(features), VALUES)
    features[17, 1] = bad
    filtered = filter_lattice(build_lattice(features), VALUES)
    assert np.isnan(filtered[17]).all()
    finite = np.isfinite(filtered).all(axis=1)
    near = np.abs(features - features_of("far_1e4", 3)[17]).max(axis=1) < 12
    np.testing.assert_allclose(
        filtered[finite & ~near], clean[finite & ~near], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_stay_among_their_neighbours(bad):
    features = features_of("spread", 3)
    features[:100] += 1000
    values = VALUES.copy()
    values[17] = bad
    lattice = build_lattice(features)
    filtered = filter_lattice(lattice, values)
    assert not np.isfinite(filtered[17]).any()
    np.testing.assert_array_equal(filtered[100:], filter_lattice(lattice, VALUES)[100:])


def test_an_infinite_value_stays_in_its_vertices():
    """Of 5 and 3 entries, so that the next one's are the start of a full piece."""
    features = np.repeat(np.array([[0.3], [90.3]], np.float32), (5, 3), axis=0)
    lattice = build_lattice(features)
    for place in range(8):
        values = np.ones((8, 1), np.float32)
        values[place] = np.inf
        infinite = np.isposinf(filter_lattice(lattice, values))[:, 0]
        np.testing.assert_array_equal(infinite, features[:, 0] == features[place, 0])


def test_an_infinite_value_is_one_wherever_it_stands():
    """Also last in a piece that is not full: of 13 entries, a vertex has 8 and 5."""
    points = 13
    lattice = build_lattice(np.full((points, 1), 0.3, np.float32))
    for place in (0, 7, 8, 12):
        values = np.ones((points, 1), np.float32)
        values[place] = np.inf
        assert np.isposinf(filter_lattice(lattice, values)).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.ones(POINTS),
            r"values: expected shape \[points=200, channels\], got \[200\]",
        ),
        (np.ones((7, 3)), r"values: expected shape \[points=200, .*got \[7, 3\]"),
        (np.ones((POINTS, 0)), r"values: axis 'channels' is empty"),
        (np.ones((POINTS, 3), int), r"values: expected floating-point .*got dtype int"),
    ],
)
def test_bad_values_raise(values, message):
    lattice = build_lattice(features_of("spread", 2))
    with pytest.raises(ValueError, match=message):
        filter_lattice(lattice, values)


def test_what_is_no_lattice_is_named():
    with pytest.raises(ValueError, match=r"lattice: expected one from build_lattice"):
        filter_lattice(features_of("spread", 2), VALUES)


def test_half_precision_values_are_summed_in_single():
    """20 000 ones in one place: a bfloat16 sum would stop growing at 256."""
    points = 20_000
    lattice = build_lattice(np.full((points, 2), 0.3, np.float32))
    ones = np.ones((points, 1), np.float32)
    full = filter_lattice(lattice, ones)
    half = filter_lattice(lattice, jnp.asarray(ones, jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    # Only the result is rounded, to 8 bits.
    np.testing.assert_allclose(half.astype(jnp.float32), full, rtol=2.0**-8)
