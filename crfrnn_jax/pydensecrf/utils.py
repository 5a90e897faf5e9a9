"""Unaries and features with the names and conventions of `pydensecrf.utils`."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from crfrnn_jax.checks import (
    InputError,
    as_numbers,
    check_at_least,
    check_grid,
    check_integer,
    check_integers,
    check_number,
    check_positives,
    check_real,
    shown,
)
from crfrnn_jax.refine.arrays import as_numpy
from crfrnn_jax.unaries import unary_from_labels as logits_of_labels


def unary_from_labels(
    labels: Any, n_labels: int, gt_prob: float, zero_unsure: bool = True
) -> np.ndarray:
    """Unary energies of labels that are right with a probability.

    Args:
      labels: int, of any shape: 1..n_labels and 0 where nothing is known, or, without
        `zero_unsure`, 0..n_labels - 1.
      n_labels: number of labels, at least 2; 0 is none of them with `zero_unsure`.
      gt_prob: above 0 and below 1.
      zero_unsure: whether 0 says nothing.

    Returns:
      float32 [n_labels, points].

    Raises:
      ValueError: naming the argument that is wrong.

    Examples:
      >>> energies = unary_from_labels(np.array([1, 2, 0]), 2, gt_prob=0.9)
      >>> print(energies.astype(float).round(2).tolist())
      [[0.11, 2.3, 0.69], [2.3, 0.11, 0.69]]
    """
    labels = as_numpy("labels", labels)
    check_integers("labels", labels)
    check_at_least("n_labels", n_labels, 2)
    zero_unsure = bool(zero_unsure)
    wide = labels.astype(np.int64)
    lowest, highest = (0, n_labels) if zero_unsure else (0, n_labels - 1)
    if wide.size and not lowest <= wide.min() <= wide.max() <= highest:
        raise InputError(
            f"labels: expected {lowest}..{highest}, got {wide.min()}..{wide.max()}"
        )
    check_number("gt_prob", gt_prob, "above 0 and below 1", lambda p: 0 < p < 1)
    wide = wide.reshape(-1) - zero_unsure
    unknown = -1 if zero_unsure else None
    logits = logits_of_labels(
        wide.astype(np.int32), float(gt_prob), n_labels, unknown=unknown
    )
    return np.array(-logits.T, np.float32, order="C")


def unary_from_softmax(
    sm: Any, scale: float | None = None, clip: float | None = 1e-5
) -> np.ndarray:
    """Unary energies of probabilities.

    Args:
      sm: real [labels, ...], probabilities.
      scale: above 0 and at most 1, how far the probabilities are trusted: they are
        mixed with equal ones. None is 1.
      clip: above 0; probabilities below count as this much. None is the least number
        above 0: infinite energies would be no more sure, and spread.

    Returns:
      float32 [labels, points].

    Raises:
      ValueError: naming the argument that is wrong.

    Examples:
      >>> energies = unary_from_softmax(np.array([[0.5, 1.0], [0.5, 0.0]]))
      >>> print(energies.astype(float).round(2).tolist())
      [[0.69, -0.0], [0.69, 11.51]]
    """
    sm = as_numpy("sm", sm)
    check_real("sm", sm)
    if sm.ndim < 1 or sm.size == 0:
        raise InputError(f"sm: expected [labels, ...], got {list(sm.shape)}")
    if not (np.isfinite(sm).all() and sm.min() >= 0 and sm.max() <= 1 + 1e-3):
        raise InputError(
            f"sm: expected probabilities in 0..1, got {sm.min()}..{sm.max()}; take the "
            "softmax of scores first"
        )
    if _sums_to_one(sm, -1) and not _sums_to_one(sm, 0):
        raise InputError(
            f"sm: expected [labels, ...], got {list(sm.shape)} that add up to 1 over "
            "the last axis; move it to the front"
        )
    if scale is not None:
        check_number("scale", scale, "above 0, at most 1", lambda s: 0 < s <= 1)
    if clip is not None:
        check_number("clip", clip, "above 0 and below 1", lambda c: 0 < c < 1)
    probabilities = sm.astype(np.float64)
    if scale is not None:
        probabilities = scale * probabilities + (1 - scale) / len(sm)
    least = np.finfo(np.float32).tiny if clip is None else clip
    energies = -np.log(np.clip(probabilities, least, 1.0))
    return energies.reshape(len(sm), -1).astype(np.float32)


def _sums_to_one(probabilities: np.ndarray, axis: int) -> bool:
    sums = probabilities.sum(axis, dtype=np.float64)
    return bool(np.abs(sums - 1).max() < 1e-3)


def compute_unary(labels: Any, M: int, GT_PROB: float = 0.5) -> np.ndarray:
    """Deprecated there and here: `unary_from_labels`."""
    warnings.warn(
        "compute_unary is deprecated, use unary_from_labels instead",
        DeprecationWarning,
        stacklevel=2,
    )
    return unary_from_labels(labels, M, GT_PROB)


def softmax_to_unary(sm: Any, GT_PROB: float = 1) -> np.ndarray:
    """Deprecated there and here: `unary_from_softmax`."""
    warnings.warn(
        "softmax_to_unary is deprecated, use unary_from_softmax instead",
        DeprecationWarning,
        stacklevel=2,
    )
    return unary_from_softmax(sm, None if GT_PROB == 1 else GT_PROB, clip=None)


def create_pairwise_gaussian(
    sdims: Sequence[float], shape: Sequence[int]
) -> np.ndarray:
    """Features of positions on a grid, for `DenseCRF.addPairwiseEnergy`.

    Args:
      sdims: a width for each of the grid's axes, positive.
      shape: the grid's sides.

    Returns:
      float32 [axes, points]: positions over widths, first axis first.

    Raises:
      ValueError: they are not as many, or not positive.

    Examples:
      >>> create_pairwise_gaussian((2.0, 1.0), (2, 2)).tolist()
      [[0.0, 0.0, 0.5, 0.5], [0.0, 1.0, 0.0, 1.0]]
    """
    if isinstance(shape, np.ndarray) and shape.ndim == 1:
        shape = shape.tolist()
    check_grid("shape", shape)
    sides = tuple(shape)
    widths = _widths("sdims", sdims, len(sides), "of the shape's axes")
    return (np.indices(sides).astype(np.float32).reshape(len(sides), -1)) / widths


def create_pairwise_bilateral(
    sdims: Sequence[float], schan: float | Sequence[float], img: Any, chdim: int = -1
) -> np.ndarray:
    """Features of positions and channels, for `DenseCRF.addPairwiseEnergy`.

    Args:
      sdims: a width for each of the image's axes of positions, positive.
      schan: width of the channels, or one for each, positive.
      img: real, an image or volume of any number of axes.
      chdim: which axis the channels are; -1 is none, of a single channel.

    Returns:
      float32 [axes + channels, points]: positions, first axis first, and channels, over
      their widths.

    Raises:
      ValueError: naming the argument that is wrong.

    Examples:
      >>> image = np.array([[[30.0], [60.0]]])
      >>> create_pairwise_bilateral((1.0, 1.0), 30.0, image, chdim=2).tolist()
      [[0.0, 0.0], [0.0, 1.0], [1.0, 2.0]]
    """
    image = as_numpy("img", img)
    check_real("img", image)
    check_integer("chdim", chdim)
    if not -1 <= chdim < image.ndim or image.size == 0:
        raise InputError(
            f"chdim: expected -1 or an axis of img, {list(image.shape)}, got {chdim}"
        )
    channels = image[None] if chdim == -1 else np.moveaxis(image, chdim, 0)
    positions = create_pairwise_gaussian(sdims, channels.shape[1:])
    given = np.asarray(as_numbers("schan", schan), np.float32)
    if given.ndim == 0:
        given = np.full(len(channels), given)
    widths = _widths("schan", given, len(channels), "of the channels")
    colours = channels.astype(np.float32).reshape(len(channels), -1) / widths
    return np.concatenate([positions, colours])


def _widths(name: str, widths: Any, count: int, whose: str) -> np.ndarray:
    """A column of positive widths."""
    given = np.asarray(as_numbers(name, widths), np.float32)
    if given.shape != (count,):
        raise InputError(
            f"{name}: expected {count} widths, {whose}, got {shown(widths)}"
        )
    check_positives(name, given, count)
    return given[:, None]
