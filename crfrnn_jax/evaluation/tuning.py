"""Hand-set CRFs after a network, scored on many images at a time, and the best chosen.

The network's logits are computed once. Images of one size are stacked and go through
one program, whose widths and weights are arguments: no setting compiles anew.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.checks import InputError
from crfrnn_jax.crf import crf_rnn
from crfrnn_jax.data import SegmentationData
from crfrnn_jax.evaluation.prediction import (
    CRFSetting,
    Unary,
    pad_to_multiple,
    potts_params,
)
from crfrnn_jax.metrics import mean_iou

# A setting -> int64 [images, labels, labels], in the order of the examples.
ScoreSetting = Callable[[CRFSetting], np.ndarray]


class _Stack(NamedTuple):
    """Images of one size, padded alike.

    Attributes:
      indices: their places among the examples.
      images: uint8 [images, height, width, channels].
      logits: float32 [images, height, width, labels].
      labels: int32 [images, height, width], -1 where it does not count.
      masks: bool [images, height, width], or None if none is padded.
    """

    indices: list[int]
    images: jax.Array
    logits: jax.Array
    labels: jax.Array
    masks: jax.Array | None


def setting_scorer(
    unary: Unary,
    data: SegmentationData,
    examples: Iterable[Mapping[str, Any]],
    *,
    num_iterations: int,
    multiple_of: int = 1,
) -> ScoreSetting:
    """A function from a setting to the confusion matrix of every example.

    All images and logits are kept on the device: four bytes a pixel and label.

    Args:
      unary: the backbone's logits of an image; computed once for each example.
      data: for its labels.
      examples: training images, never those the results are reported on.
      num_iterations: mean-field iterations.
      multiple_of: images are padded to sides that this number divides, as in
        `postprocess`; so fewer sizes have to be compiled for.

    Returns:
      The function; it raises InputError where a logit is NaN.

    Raises:
      ValueError: there is no example, or a label is out of range.
    """
    stacks = _stack(unary, data, examples, multiple_of)

    def score_setting(setting: CRFSetting) -> np.ndarray:
        count = sum(len(stack.indices) for stack in stacks)
        confusions = np.zeros((count, data.num_labels, data.num_labels), np.int64)
        values = CRFSetting(*(jnp.float32(value) for value in setting))
        for stack in stacks:
            counted, is_nan = _confusions(
                stack.images,
                stack.logits,
                stack.labels,
                stack.masks,
                values,
                num_iterations=num_iterations,
            )
            if is_nan.any():
                raise InputError(f"logits: expected numbers, got NaN with {setting}")
            confusions[stack.indices] = counted
        return confusions

    return score_setting


def _stack(
    unary: Unary,
    data: SegmentationData,
    examples: Iterable[Mapping[str, Any]],
    multiple_of: int,
) -> list[_Stack]:
    groups: dict[tuple[int, ...], list[tuple[int, Any]]] = {}
    for index, example in enumerate(examples):
        label = np.asarray(example["label"])
        valid = label != data.ignore_label
        if not np.isin(label[valid], np.arange(data.num_labels)).all():
            raise InputError(
                f"labels: expected 0..{data.num_labels - 1}, got {np.unique(label)}"
            )
        image, mask = pad_to_multiple(example["image"], multiple_of)
        logits, _ = pad_to_multiple(np.asarray(unary(example["image"])), multiple_of)
        counted, _ = pad_to_multiple(np.where(valid, label, -1)[..., None], multiple_of)
        counted = counted[..., 0]
        if mask is not None:
            counted = np.where(mask, counted, -1)
        entry = (image, logits, counted.astype(np.int32), mask)
        groups.setdefault(image.shape, []).append((index, entry))
    if not groups:
        raise InputError("examples: expected one at least, got none")
    return [_stack_of_one_size(group) for group in groups.values()]


def _stack_of_one_size(group: Sequence[tuple[int, Any]]) -> _Stack:
    images, logits, labels, masks = zip(*(entry for _, entry in group), strict=True)
    if all(mask is None for mask in masks):
        stacked_masks = None
    else:
        whole = np.ones(images[0].shape[:2], bool)
        stacked_masks = [whole if mask is None else mask for mask in masks]
        stacked_masks = jnp.asarray(np.stack(stacked_masks))
    return _Stack(
        [index for index, _ in group],
        jnp.asarray(np.stack(images)),
        jnp.asarray(np.stack(logits)),
        jnp.asarray(np.stack(labels)),
        stacked_masks,
    )


@partial(jax.jit, static_argnames="num_iterations")
def _confusions(images, logits, labels, masks, setting, *, num_iterations):
    """Confusion matrices int32 [images, labels, labels], and whether logits are NaN."""
    size = logits.shape[-1]
    params = potts_params(setting, size)

    def of_one(item):
        image, image_logits, label, mask = item
        refined = crf_rnn(
            image,
            image_logits,
            params,
            mask=mask,
            num_iterations=num_iterations,
            theta_alpha=setting.theta_alpha,
            theta_beta=setting.theta_beta,
            theta_gamma=setting.theta_gamma,
        )
        # Labels that do not count are -1: they fall into a bin of their own.
        pairs = jnp.where(label < 0, size**2, label * size + refined.argmax(-1))
        counts = jnp.bincount(pairs.reshape(-1), length=size**2 + 1)[:-1]
        return counts.reshape(size, size), jnp.isnan(refined).any()

    # One image after another, for the reason that `CRFRNN` gives.
    return lax.map(of_one, (images, logits, labels, masks))


def tune_postprocessing(
    unary: Unary,
    data: SegmentationData,
    examples: Iterable[Mapping[str, Any]],
    candidates: Sequence[CRFSetting],
    *,
    num_iterations: int,
    multiple_of: int = 1,
    report: Callable[[CRFSetting, float], None],
) -> CRFSetting:
    """Chooses the setting with the best mean IoU, as Krähenbühl and Koltun by search.

    Args:
      unary: as in `setting_scorer`, like `data` and `examples`.
      data: as there.
      examples: as there.
      candidates: the settings to try.
      num_iterations: mean-field iterations.
      multiple_of: as there.
      report: called with each setting and its mean IoU.

    Returns:
      The best candidate, the first of equals.
    """
    score_setting = setting_scorer(
        unary, data, examples, num_iterations=num_iterations, multiple_of=multiple_of
    )
    results = []
    for setting in candidates:
        results.append(mean_iou(score_setting(setting).sum(0)))
        report(setting, results[-1])
    return candidates[int(np.argmax(results))]
