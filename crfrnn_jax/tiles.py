"""Tiles of an image too large to be computed at once: what is read, and what is kept.

A tile is computed together with its surroundings, the overlap, of which nothing is
kept: so that what is kept has context on all sides, as far as the image has any.
"""

import math
from itertools import pairwise
from typing import NamedTuple

from crfrnn_jax.checks import InputError, check_at_least, check_sides

# Rows and columns.
Window = tuple[slice, slice]


class Tile(NamedTuple):
    """A part of an image.

    Attributes:
      window: the rows and columns that are computed.
      kept: those of them that are kept.
      inner: the same within the window: `result[tile.inner]` goes to `kept`.
    """

    window: Window
    kept: Window
    inner: Window

    @property
    def origin(self) -> tuple[int, int]:
        """(row, column) of the window's first pixel."""
        rows, columns = self.window
        return rows.start, columns.start


def plan_tiles(shape: tuple[int, int], side: int | None, overlap: int) -> list[Tile]:
    """Cuts an image into tiles that keep each of its pixels once.

    All windows have one shape, so that one program does for all. There are as few as
    the overlap allows, evenly spread: neighbours share at least twice the overlap, and
    each keeps half of what they share.

    Args:
      shape: (height, width) of the image.
      side: that of a window in pixels; a side of the image that is no longer is taken
        whole. None is the image whole.
      overlap: pixels around what is kept, where the image does not end.

    Raises:
      ValueError: the window's side is not above twice the overlap, or an argument is no
        integer of its range.
    """
    check_sides("shape", shape)
    if side is None:
        side = max(*shape, 2 * overlap + 1)
    check_tiling(side, overlap)
    rows, columns = (_cut(length, side, overlap) for length in shape)
    return [
        Tile(*zip(down, across, strict=True)) for down in rows for across in columns
    ]


def check_tiling(side: int, overlap: int) -> None:
    """Raises InputError unless a window's side is more than twice the overlap."""
    check_at_least("overlap", overlap, 0)
    check_at_least("tile", side, 1)
    if side <= 2 * overlap:
        raise InputError(
            f"tile: expected more than twice the overlap, {2 * overlap} pixels, got "
            f"{side}; a smaller overlap errs more"
        )


def crf_overlap(theta_alpha: float, theta_gamma: float) -> int:
    """The overlap in pixels that a CRF of these widths is given: twice the larger.

    Messages reach further, by about a width an iteration, but fade: docs/refine.md has
    what is measured.
    """
    return math.ceil(2 * max(theta_alpha, theta_gamma))


def _cut(length: int, side: int, overlap: int) -> list[tuple[slice, slice, slice]]:
    """The windows along one axis: each, what it keeps, and that within it."""
    step = side - 2 * overlap
    side = min(side, length)
    count = -(-(length - side) // step) + 1
    starts = [i * (length - side) // max(count - 1, 1) for i in range(count)]
    borders = [(a + b + side) // 2 for a, b in pairwise(starts)]
    kept = pairwise([0, *borders, length])
    return [
        (slice(at, at + side), slice(first, end), slice(first - at, end - at))
        for at, (first, end) in zip(starts, kept, strict=True)
    ]
