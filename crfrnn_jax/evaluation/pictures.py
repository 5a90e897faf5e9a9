"""Predictions as files: palette PNGs, overlays, arrays. Each is whole or not there."""

from pathlib import Path

import numpy as np
from PIL import Image

from crfrnn_jax.checks import InputError
from crfrnn_jax.evaluation.panels import palette
from crfrnn_jax.writing import write_whole

# Of all that a byte can say; by the rule, VOC's void, 255, is (224, 224, 192).
_COLOURS = palette(256)
_LINE = 4  # px
# Rows that are blended at once, in floats that take 8 times the room of the image.
_ROWS = 256


def overlay(image: np.ndarray, labels: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """The labels' colours over the image.

    Args:
      image: uint8 [height, width, 3].
      labels: integer [height, width], 0..255.
      opacity: of the colours, 0..1.

    Returns:
      uint8 [height, width, 3].
    """
    blended = np.empty_like(image)
    for first in range(0, len(image), _ROWS):
        rows = slice(first, first + _ROWS)
        blend = (1 - opacity) * image[rows] + opacity * _COLOURS[labels[rows]]
        blended[rows] = np.rint(blend)
    return blended


def save_labels(path: Path, labels: np.ndarray) -> None:
    """Writes labels [height, width] as a palette PNG: indices, in VOC's colours.

    Raises:
      ValueError: a label is none that a byte can hold.
    """
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > 255:
        raise InputError(
            f"{path}: expected labels in 0..255, as a palette has them, got "
            f"{lowest}..{highest}"
        )
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette(_COLOURS.tobytes())  # makes it mode "P", the indices as they are
    _save_picture(path, picture)


def save_overlay(path: Path, image: np.ndarray, labels: np.ndarray) -> None:
    """Writes the labels' colours over the image as a PNG."""
    _save_picture(path, Image.fromarray(overlay(image, labels)))


def save_before_after(
    path: Path, image: np.ndarray, before: np.ndarray, after: np.ndarray
) -> None:
    """Writes a PNG of both overlays side by side, a white line between them."""
    line = np.full((len(image), _LINE, 3), 255, np.uint8)
    pictures = [overlay(image, before), line, overlay(image, after)]
    _save_picture(path, Image.fromarray(np.concatenate(pictures, axis=1)))


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array as an .npy."""
    write_whole(path, lambda file: np.save(file, array, allow_pickle=False))


def _save_picture(path: Path, picture: Image.Image) -> None:
    write_whole(path, lambda file: picture.save(file, format="png"))
