"""A network's scores of an image, from an .npy."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crfrnn_jax.checks import InputError
from crfrnn_jax.unaries import check_no_softmax, is_softmax, logits_from_probabilities
from crfrnn_jax.weights.limits import reading

# What scores are: after the softmax or before it.
ScoreKind = Literal["probabilities", "logits"]


def read_scores(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """Reads an .npy of a network's scores, float [height, width, labels].

    Args:
      path: the file.
      mapped: whether to leave the numbers in the file, memory-mapped, until they are
        looked at; they have its byte order then.

    Raises:
      FileNotFoundError: there is none.
      ValueError: naming the file, if it is damaged or holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected an .npy of scores, got none")
    with reading(path, "an array of numpy's"):
        array = np.load(path, "r" if mapped else None, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.ndim != 3 or 0 in array.shape:
        got = list(array.shape) if isinstance(array, np.ndarray) else "an archive"
        raise InputError(f"{path}: expected [height, width, labels], got {got}")
    if array.dtype.kind != "f":
        raise InputError(f"{path}: expected floats, got {array.dtype}")
    if mapped:
        return array
    # Of the other byte order, as in files of other machines, which JAX refuses.
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def as_logits(path: Path, kind: ScoreKind, array: NDArray[Any]) -> NDArray[np.float32]:
    """What was read from a file as float32 logits.

    Args:
      path: the file, for messages.
      kind: what it holds.
      array: float [height, width, labels].

    Raises:
      ValueError: naming the file, if numbers are not finite, or not what it is to hold.
    """
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{path}: expected finite numbers, got NaN or infinity")
    try:
        if kind == "probabilities":
            return np.asarray(logits_from_probabilities(array))
        check_no_softmax("logits", is_softmax(array))
        return array
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
