"""Losses of the training."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from crfrnn_jax.checks import (
    InputError,
    check_choice,
    check_floating,
    check_integer,
    check_integers,
    check_mask,
    check_number,
    check_real,
    check_shape,
)
from crfrnn_jax.kernel_filters import normalised_filter
from crfrnn_jax.kernels import (
    KernelNormalisation,
    Method,
    bilateral_kernel,
)

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
      class_weights: float [labels], of at least 0, weight of each true class; mean and
        sum are weighted.
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

    Examples:
      >>> logits = np.array([[0.0, 0.0], [9.0, 0.0]], np.float32)
      >>> labels = np.array([1, 255])
      >>> loss = softmax_cross_entropy(logits=logits, labels=labels, ignore_label=255)
      >>> print(round(float(loss), 4))  # log 2, of the first alone
      0.6931
    """
    check_choice("reduction", reduction, get_args(Reduction))
    check_number("robustness", robustness, "of at least 0", lambda r: 0 <= r < np.inf)
    logits = _checked(logits, labels, ignore_label)
    labels = labels.astype(jnp.int32)
    valid = labels != ignore_label
    # An ignored pixel may hold anything, NaN too, which no weight would make zero.
    logits = jnp.where(valid[..., None], logits, 0)
    if class_weights is not None:
        check_real("class_weights", class_weights)
        check_shape(
            "class_weights", class_weights, "labels", {"labels": logits.shape[-1]}
        )
        known = not isinstance(class_weights, Tracer)
        if known and not np.all(np.asarray(class_weights) >= 0):
            raise InputError(
                f"class_weights: expected numbers of at least 0, got {class_weights}"
            )
    weights = pixel_weights(
        labels=labels, ignore_label=ignore_label, class_weights=class_weights
    ).astype(logits.dtype)
    labels = jnp.where(valid, labels, 0)
    # Through one-hot labels: the derivative of a gather by label is a scatter, which is
    # slow on every backend.
    truth = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    # A logit of another label may be -inf.
    log_q = jnp.where(truth > 0, jax.nn.log_softmax(logits), 0)
    losses = -jnp.sum(log_q, axis=-1)
    if robustness > 0:
        losses = -jnp.logaddexp(-losses, np.log(robustness))
    known = (labels >= 0) & (labels < logits.shape[-1])
    losses = jnp.where(known, losses, jnp.nan)
    if reduction == "sum":
        return jnp.sum(losses * weights)
    total = jnp.sum(weights)
    return jnp.sum(losses * weights) / jnp.where(total > 0, total, 1)


def pixel_weights(
    *,
    labels: jax.Array,
    ignore_label: int,
    class_weights: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """What each pixel counts in the sum, and so the sum of them in the mean.

    Args:
      labels: as in `softmax_cross_entropy`, like the others.
      ignore_label: as there.
      class_weights: as there.

    Returns:
      [...], 0 where a pixel is ignored: float32, or of the dtype of class_weights.
    """
    valid = labels != ignore_label
    if class_weights is None:
        return valid.astype(jnp.float32)
    weights = jnp.asarray(class_weights)[jnp.where(valid, labels, 0)]
    return jnp.where(valid, weights, jnp.zeros((), weights.dtype))


def expected_iou_loss(
    *, logits: jax.Array, labels: jax.Array, ignore_label: int
) -> jax.Array:
    """One less the mean expected intersection over union of the softmax Q.

    Of a label l, the sum of Q_i(l) over the points that have it, over their number and
    the sum of Q_i(l) over those that have not; the mean is over the labels that are
    there. A batch without a single valid pixel has the loss 0.

    Args:
      logits: float [..., labels].
      labels: int [...], each in 0..labels - 1 or `ignore_label`.
      ignore_label: label of the pixels that do not count.

    Returns:
      Scalar in 0..1, at least float32. NaN if a label is out of range.

    Raises:
      ValueError: the shapes do not agree, or the logits are not floating.

    References:
      Krähenbühl, Koltun, "Parameter Learning and Convergent Inference for Dense Random
      Fields", ICML 2013, section 5.

    Examples:
      >>> logits = np.array([[9.0, 0.0], [0.0, 9.0]], np.float32)
      >>> loss = expected_iou_loss(
      ...     logits=logits, labels=np.array([0, 1]), ignore_label=255
      ... )
      >>> print(round(float(loss), 3))
      0.0
    """
    logits = _checked(logits, labels, ignore_label)
    num_labels = logits.shape[-1]
    labels = labels.astype(jnp.int32)
    valid = labels != ignore_label
    marginals = jax.nn.softmax(jnp.where(valid[..., None], logits, 0))
    truth = jax.nn.one_hot(labels, num_labels, dtype=logits.dtype)
    truth = jnp.where(valid[..., None], truth, 0).reshape(-1, num_labels)
    marginals = jnp.where(valid[..., None], marginals, 0).reshape(-1, num_labels)
    count = jnp.sum(truth, axis=0)
    right = jnp.sum(truth * marginals, axis=0)
    union = count + jnp.sum(marginals, axis=0) - right
    is_there = count > 0
    iou = right / jnp.where(is_there, union, 1)
    number = jnp.sum(is_there)
    missed = jnp.sum(jnp.where(is_there, 1 - iou, 0)) / jnp.maximum(number, 1)
    wrong = valid & ((labels < 0) | (labels >= num_labels))
    return jnp.where(jnp.any(wrong), jnp.nan, missed)


def _checked(logits: jax.Array, labels: jax.Array, ignore_label: int) -> jax.Array:
    """The logits, at least float32; InputError if they and the labels do not agree."""
    check_floating("logits", logits)
    check_integers("labels", labels)
    check_integer("ignore_label", ignore_label)
    shape = jnp.shape(logits)
    if not shape or shape[-1] == 0:
        raise InputError(
            f"logits: expected [..., labels], at least one label, got {list(shape)}"
        )
    if shape[:-1] != jnp.shape(labels):
        raise InputError(
            f"labels: expected the shape of logits without its last axis, "
            f"{list(shape[:-1])}, got {list(jnp.shape(labels))}"
        )
    # Half precision can't even count the pixels of a crop.
    return logits.astype(np.promote_types(logits.dtype, np.float32))


def dense_crf_loss(
    *,
    images: jax.typing.ArrayLike,
    logits: jax.Array,
    mask: jax.typing.ArrayLike | None = None,
    theta_alpha: jax.typing.ArrayLike = 100.0,
    theta_beta: jax.typing.ArrayLike = 15.0,
    normalisation: KernelNormalisation = "after",
    method: Method = "lattice",
) -> jax.Array:
    """How often pixels that look alike and lie near each other disagree.

    The Potts energy of a network's softmax S under the bilateral kernel, of N pixels:
    1/N sum_ij k_ij (1 - sum_l S_il S_jl). Regularises a network that is trained on few
    labelled pixels, beside a cross-entropy on those (Tang et al. 2018).

    Args:
      images: [batch, height, width, channels] in 0..255, any real dtype.
      logits: float [batch, height, width, labels].
      mask: bool [batch, height, width], False at pixels that do not count.
      theta_alpha: width of the kernel in pixels, positive.
      theta_beta: width of the kernel in intensity units, positive.
      normalisation: of the kernel. With "after" the loss is in 0..1, the chance that a
        pixel and one drawn by the kernel have other labels; with "none" it is the
        paper's sum, divided by the pixels.
      method: "lattice" or "exact".

    Returns:
      Scalar float32, the mean over all valid pixels; 0 without any. Differentiable in
      the images, the logits and the widths.

    Raises:
      ValueError: naming the argument whose rank, size, dtype or value is wrong.

    References:
      Tang, Perazzi, Djelouah, Ben Ayed, Schroers, Boykov, "On Regularized Losses for
      Weakly-supervised CNN Segmentation", ECCV 2018.

    Examples:
      >>> images = np.full((1, 4, 6, 3), 80, np.uint8)  # all alike
      >>> same = np.full((1, 4, 6, 2), (9.0, -9.0), np.float32)
      >>> unlike = np.where(np.arange(6)[:, None] > 2, -same, same)
      >>> for logits in (same, unlike):
      ...     print(round(float(dense_crf_loss(images=images, logits=logits)), 2))
      0.0
      0.5
    """
    sizes = check_shape("images", images, "batch height width channels")
    del sizes["channels"]
    check_shape("logits", logits, "batch height width labels", sizes)
    check_floating("logits", logits)
    if mask is not None:
        check_mask("mask", mask, "batch height width", sizes)

    def disagreement(item):
        image, logits, mask = item
        logits = logits.astype(jnp.float32).reshape(-1, logits.shape[-1])
        if mask is not None:
            mask = mask.reshape(-1)
            logits = jnp.where(mask[:, None], logits, 0)
        marginals = jax.nn.softmax(logits)
        kernel = bilateral_kernel(
            image, theta_alpha, theta_beta, normalisation=normalisation, method=method
        )
        filter_values = normalised_filter(kernel, mask=mask)
        ones = jnp.ones((len(marginals), 1), jnp.float32)
        # What comes from all pixels, less what comes from those of the same label.
        agreement = jnp.sum(marginals * filter_values(marginals))
        return jnp.sum(filter_values(ones)) - agreement

    total = jnp.sum(lax.map(disagreement, (jnp.asarray(images), logits, mask)))
    count = logits[..., 0].size if mask is None else jnp.maximum(jnp.sum(mask), 1)
    return total / count
