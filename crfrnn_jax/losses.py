"""Losses of the training."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from crfrnn_jax.checks import InputError, check_choice, check_floating, check_shape

Reduction = Literal["mean", "sum"]


def softmax_cross_entropy(
    *,
    logits: jax.Array,
    labels: jax.Array,
    ignore_label: int,
    class_weights: jax.typing.ArrayLike | None = None,
    reduction: Reduction = "mean",
    robustness: float = 0.0,
) -> jax.Array:
    """Softmax cross-entropy of the pixels that are not ignored.

    The paper sums over the pixels; the mean does not depend on the size of the crops. A
    batch without a single valid pixel has the loss 0.

    Args:
      logits: float [..., labels].
      labels: int [...], each in 0..labels - 1 or `ignore_label`.
      ignore_label: label of the pixels that do not count.
      class_weights: float [labels], weight of each true class; mean and sum are
        weighted.
      reduction: "mean" or "sum", over the pixels.
      robustness: at least 0; a pixel's loss is -log(robustness + the true label's
        probability), so that one which is hopelessly wrong pulls no more. The robust
        log-likelihood of Krähenbühl and Koltun (2013), which the paper tried without
        gain.

    Returns:
      Scalar, at least float32. NaN if a label is out of range, never a wrong mean.

    Raises:
      ValueError: the shapes do not agree, the logits are not floating, or another
        argument is out of its range.
    """
    check_choice("reduction", reduction, get_args(Reduction))
    if robustness < 0:
        raise InputError(f"robustness: expected at least 0, got {robustness}")
    if logits.ndim == 0 or logits.shape[:-1] != labels.shape:
        raise InputError(
            f"labels: expected the shape of logits without its last axis, "
            f"{list(logits.shape[:-1])}, got {list(labels.shape)}"
        )
    check_floating("logits", logits)
    # Half precision can't even count the pixels of a crop.
    logits = logits.astype(np.promote_types(logits.dtype, np.float32))
    valid = labels != ignore_label
    # An ignored pixel may hold anything, NaN too, which no weight would make zero.
    logits = jnp.where(valid[..., None], logits, 0)
    labels = jnp.where(valid, labels, 0)
    weights = valid.astype(logits.dtype)
    if class_weights is not None:
        check_shape(
            "class_weights", class_weights, "labels", {"labels": logits.shape[-1]}
        )
        weights *= jnp.asarray(class_weights)[labels].astype(logits.dtype)
    # Through one-hot labels: the derivative of a gather by label is a scatter, which is
    # slow on every backend.
    truth = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    losses = optax.softmax_cross_entropy(logits, truth)
    if robustness > 0:
        losses = -jnp.logaddexp(-losses, np.log(robustness))
    known = (labels >= 0) & (labels < logits.shape[-1])
    losses = jnp.where(known, losses, jnp.nan)
    if reduction == "sum":
        return jnp.sum(losses * weights)
    total = jnp.sum(weights)
    return jnp.sum(losses * weights) / jnp.where(total > 0, total, 1)
