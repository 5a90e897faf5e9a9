"""A network's scores of an image, from an .npy."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crfrnn_jax.checks import InputError
from crfrnn_jax.unaries import check_no_probabilities, logits_from_probabilities

# What scores are: after the softmax or before it.
Scores = Literal["probabilities", "logits"]


def read_scores(path: Path) -> NDArray[Any]:
    """Reads an .npy of a network's scores, float [height, width, labels].

    Raises:
      FileNotFoundError: there is none.
      ValueError: naming the file, if it is damaged or holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected an .npy of scores, got none")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(
            f"{path}: expected an array of numpy's, got: {error}"
        ) from error
    if not isinstance(array, np.ndarray) or array.ndim != 3 or 0 in array.shape:
        got = list(array.shape) if isinstance(array, np.ndarray) else "an archive"
        raise InputError(f"{path}: expected [height, width, labels], got {got}")
    if array.dtype.kind != "f":
        raise InputError(f"{path}: expected floats, got {array.dtype}")
    return array


def as_logits(path: Path, scores: Scores, array: NDArray[Any]) -> NDArray[np.float32]:
    """What was read from a file as float32 logits.

    Args:
      path: the file, for messages.
      scores: what it holds.
      array: float [height, width, labels].

    Raises:
      ValueError: naming the file, if numbers are not finite, or not what it is to hold.
    """
    if not np.isfinite(array).all():
        raise InputError(f"{path}: expected finite numbers, got NaN or infinity")
    try:
        if scores == "probabilities":
            return np.asarray(logits_from_probabilities(array), np.float32)
        check_no_probabilities("logits", array)
        return array.astype(np.float32)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
