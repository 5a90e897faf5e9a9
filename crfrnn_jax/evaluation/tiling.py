"""Predictions of images that are too large for a network at once, tile by tile.

To the network a tile is an image of its own, and so it is to the CRF, but for its
lattice, which is the whole's. What they see at its borders is thrown away.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from crfrnn_jax.evaluation.prediction import WindowUnary, likeliest_labels
from crfrnn_jax.tiles import Tile, plan_tiles
from crfrnn_jax.writing import writing_array


class Tiling(NamedTuple):
    """How images are cut, as in `plan_tiles`.

    Attributes:
      side: of a tile in pixels, or None to take images whole.
      overlap: pixels around what is kept of a tile.
    """

    side: int | None
    overlap: int


WHOLE = Tiling(None, 0)


def predict_tiles(
    logits_of: WindowUnary, image: np.ndarray, tiling: Tiling
) -> Iterator[tuple[Tile, jax.Array]]:
    """Each tile of an image, and the logits of what is kept of it.

    Args:
      logits_of: the network.
      image: uint8 [height, width, channels].
      tiling: of the image.
    """
    height, width = image.shape[:2]
    for tile in plan_tiles((height, width), *tiling):
        yield tile, logits_of(image[tile.window], tile.origin)[tile.inner]


def predict_labels(
    logits_of: WindowUnary,
    image: np.ndarray,
    tiling: Tiling,
    probabilities: Path | None = None,
) -> np.ndarray:
    """The likeliest labels of an image, integer [height, width].

    Args:
      logits_of: the network.
      image: uint8 [height, width, channels].
      tiling: of the image.
      probabilities: where to write them, an .npy float32 [height, width, labels]; of an
        image that can't be predicted there is none.

    Raises:
      ValueError: a logit is NaN.
    """
    labels = np.empty(image.shape[:2], np.int32)
    with ExitStack() as stack:
        array = None
        for tile, logits in predict_tiles(logits_of, image, tiling):
            labels[tile.kept] = likeliest_labels(logits)
            if probabilities is None:
                continue
            if array is None:  # how many labels there are is known by the first tile
                shape = (*labels.shape, logits.shape[-1])
                array = stack.enter_context(writing_array(probabilities, shape))
            array[tile.kept] = jax.nn.softmax(logits)
    return labels
