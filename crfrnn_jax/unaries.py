"""Logits for inference, out of probabilities and out of labels.

Logits are log-probabilities up to a constant per point: bigger is likelier. Other
packages' unary energies are their negatives.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from crfrnn_jax.checks import (
    InputError,
    check_at_least,
    check_floating,
    check_integer,
    check_integers,
    check_number,
    check_real,
)

# How far from 1 the probabilities of a point may add up: half precision of 150 labels.
_SUM_TOLERANCE = 0.02


def logits_from_probabilities(
    probabilities: jax.typing.ArrayLike, *, lowest: float = 1e-5
) -> jax.Array:
    """Log-probabilities, of which none is so low that no evidence could outweigh it.

    Args:
      probabilities: float [*shape, labels], that add up to 1 over the labels.
      lowest: at least 1.2e-38 and below 1; those below count as this much, so that 0
        does not become minus infinity.

    Returns:
      float [*shape, labels], at least float32.

    Raises:
      ValueError: they do not add up to 1, are no numbers in 0..1 (where the values are
        known, outside of `jit`), or `lowest` is out of its range.

    Examples:
      >>> logits = logits_from_probabilities(np.array([0.25, 0.75, 0.0]))
      >>> print(np.asarray(logits).round(2))
      [ -1.39  -0.29 -11.51]
    """
    check_floating("probabilities", probabilities)
    shape = jnp.shape(probabilities)
    if not shape or 0 in shape:
        raise InputError(
            "probabilities: expected shape [*shape, labels], none of them 0, got "
            f"{list(shape)}"
        )
    tiny = float(np.finfo(np.float32).tiny)
    expected = f"of at least {tiny:.2g} and below 1"
    check_number("lowest", lowest, expected, lambda p: tiny <= p < 1)
    if not isinstance(probabilities, Tracer):
        check_probabilities(np.asarray(probabilities))
    probabilities = jnp.asarray(probabilities)
    dtype = np.promote_types(probabilities.dtype, np.float32)
    return jnp.log(jnp.maximum(probabilities.astype(dtype), lowest))


def check_probabilities(probabilities: np.ndarray) -> None:
    """Raises InputError unless they are in 0..1 and add up to 1 over the last axis."""
    if not np.isfinite(probabilities).all():
        raise InputError("probabilities: expected finite numbers, got NaN or infinity")
    lowest, highest = float(probabilities.min()), float(probabilities.max())
    sums = probabilities.sum(-1, dtype=np.float64)
    furthest = float(sums.flat[np.abs(sums - 1).argmax()])
    if lowest < 0 or abs(furthest - 1) > _SUM_TOLERANCE:
        raise InputError(
            "probabilities: expected numbers in 0..1 that add up to 1 over the last "
            f"axis, got {lowest:.4g}..{highest:.4g} with a sum of {furthest:.4g}; if "
            "they are scores, give them as logits; if labels come first, move that axis"
        )


def is_softmax(scores: np.ndarray) -> bool:
    """Whether scores are such as a softmax gives, in 0..1 with sums of 1."""
    sums = scores.sum(-1, dtype=np.float64)
    return bool(scores.min() >= 0 and np.abs(sums - 1).max() < 1e-3)


def check_no_softmax(name: str, found: bool) -> None:
    """Raises InputError if `is_softmax` is true of all of the logits."""
    if found:
        raise InputError(
            f"{name}: expected scores before the softmax, got numbers in 0..1 that add "
            "up to 1 everywhere: are they probabilities?"
        )


def unary_from_labels(
    labels: jax.typing.ArrayLike,
    confidence: jax.typing.ArrayLike,
    num_labels: int,
    *,
    unknown: int | None = None,
) -> jax.Array:
    """Logits of labels that are trusted to a degree: scribbles, or noisy annotations.

    Args:
      labels: int [*shape], each in 0..num_labels - 1 or `unknown`.
      confidence: probability that a label is right, at least 1.2e-38 and below 1: one
        number or [*shape]. The rest is shared evenly by the other labels.
      num_labels: number of labels, at least 2.
      unknown: label of points of which nothing is known: all labels alike.

    Returns:
      float32 [*shape, num_labels], log-probabilities.

    Raises:
      ValueError: naming the argument; labels and confidence out of range where they are
        known, outside of `jit`. Inside, a label that is out of range gives NaN.

    Examples:
      >>> unary = unary_from_labels(np.array([0, 2, 255]), 0.8, 3, unknown=255)
      >>> print(np.exp(unary).round(2))
      [[0.8  0.1  0.1 ]
       [0.1  0.1  0.8 ]
       [0.33 0.33 0.33]]
    """
    check_integers("labels", labels)
    check_at_least("num_labels", num_labels, 2)
    check_real("confidence", confidence)
    if jnp.shape(confidence) not in ((), jnp.shape(labels)):
        raise InputError(
            f"confidence: expected a number, or the labels' shape "
            f"{list(jnp.shape(labels))}, got {list(jnp.shape(confidence))}"
        )
    if unknown is not None:
        check_integer("unknown", unknown)
        check_integers("unknown", np.asarray(unknown))  # that labels can be
    if unknown is not None and 0 <= unknown < num_labels:
        raise InputError(
            f"unknown: expected a number that is no label, of {num_labels}, got "
            f"{unknown}"
        )
    if not isinstance(confidence, Tracer):
        _check_confidence(np.asarray(confidence, np.float32))
    if not isinstance(labels, Tracer):
        _check_labels(np.asarray(labels), num_labels, unknown)
    # Of 8 bits, 255 and -1 would be one, and one-hot labels wrap.
    labels = jnp.asarray(labels).astype(jnp.int32)
    confidence = jnp.asarray(confidence, jnp.float32)
    confidence = jnp.broadcast_to(confidence, labels.shape)[..., None]
    is_label = jax.nn.one_hot(labels, num_labels, dtype=jnp.bool_)
    others = (1 - confidence) / (num_labels - 1)
    logits = jnp.log(jnp.where(is_label, confidence, others))
    known = jnp.any(is_label, axis=-1, keepdims=True)
    says_nothing = (
        jnp.full(labels.shape, False) if unknown is None else (labels == unknown)
    )
    otherwise = jnp.where(says_nothing[..., None], -np.log(num_labels), jnp.nan)
    return jnp.where(known, logits, otherwise.astype(jnp.float32))


def _check_confidence(confidence: np.ndarray) -> None:
    # Less is 0 to XLA.
    tiny = np.finfo(np.float32).tiny
    if not ((confidence >= tiny) & (confidence < 1)).all():
        raise InputError(
            f"confidence: expected at least {tiny:.2g} and below 1 in float32, got "
            f"{confidence.min()}..{confidence.max()}"
        )


def _check_labels(labels: np.ndarray, num_labels: int, unknown: int | None) -> None:
    wrong = (labels < 0) | (labels >= num_labels)
    if unknown is not None:
        wrong &= labels != unknown
    if wrong.any():
        raise InputError(
            f"labels: expected 0..{num_labels - 1}"
            + ("" if unknown is None else f" or {unknown}, unknown")
            + f", got {labels[wrong].flat[0]}"
        )
