"""Tiles keep every pixel once, and each with its context."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crfrnn_jax import InputError
from crfrnn_jax.tiles import plan_tiles


@st.composite
def plans(draw):
    """The sides of an image, of its tiles and their overlap."""
    shape = draw(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    overlap = draw(st.integers(0, 20))
    return shape, draw(st.integers(2 * overlap + 1, 100)), overlap


@given(plans())
def test_every_pixel_is_kept_once_and_where_it_was_read(plan):
    shape, side, overlap = plan
    places = np.arange(np.prod(shape)).reshape(shape)
    kept = np.zeros(shape, int)
    for tile in plan_tiles(shape, side, overlap):
        kept[tile.kept] += 1
        read = places[tile.window]
        np.testing.assert_array_equal(read[tile.inner], places[tile.kept])
        assert read[0, 0] == places[tile.origin]
    np.testing.assert_array_equal(kept, 1)


@given(plans())
def test_windows_have_one_shape_and_kept_pixels_their_context(plan):
    shape, side, overlap = plan
    for tile in plan_tiles(shape, side, overlap):
        for axis, length in enumerate(shape):
            window, kept = tile.window[axis], tile.kept[axis]
            assert 0 <= window.start < window.stop <= length
            assert window.stop - window.start == min(side, length)
            assert window.start <= max(0, kept.start - overlap)
            assert window.stop >= min(length, kept.stop + overlap)


@given(plans())
def test_there_are_as_few_tiles_as_the_overlap_allows(plan):
    """The first and the last keep one overlap more than those between, at the ends."""
    shape, side, overlap = plan
    counts = [
        1 if length <= side else -(-(length - 2 * overlap) // (side - 2 * overlap))
        for length in shape
    ]
    assert len(plan_tiles(shape, side, overlap)) == np.prod(counts)


def test_an_image_may_be_taken_whole():
    (tile,) = plan_tiles((3, 7), None, 20)
    assert tile.window == tile.kept == tile.inner == (slice(0, 3), slice(0, 7))


@pytest.mark.parametrize(
    ("shape", "side", "overlap", "message"),
    [
        ((9, 9), 8, 4, "tile: expected more than twice the overlap, 8 pixels, got 8"),
        ((2, 2), 8, 4, "tile: expected more than twice the overlap"),  # whatever shape
        ((9, 9), 0, 0, "tile: expected at least 1, got 0"),
        ((9, 9), 4.0, 0, "tile: expected an integer"),
        ((9, 9), 4, -1, "overlap: expected at least 0, got -1"),
        ((9, 0), 4, 1, "shape: expected"),
    ],
)
def test_tiles_that_can_not_be_are_refused(shape, side, overlap, message):
    with pytest.raises(InputError, match=message):
        plan_tiles(shape, side, overlap)
