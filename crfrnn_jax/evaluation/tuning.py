"""Hand-set CRFs after a network, scored on many images at a time, and the best chosen.

The network's logits are computed once. Images of one size are stacked and go through
one program, whose widths and weights are arguments: no setting compiles anew. A stack
is divided over the devices of this process, and the images over the processes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from crfrnn_jax.checks import InputError
from crfrnn_jax.crf import crf_rnn
from crfrnn_jax.data import SegmentationData
from crfrnn_jax.evaluation.devices import Device, map_on_devices
from crfrnn_jax.evaluation.prediction import (
    CRFSetting,
    Unary,
    pad_to_multiple,
    potts_params,
)
from crfrnn_jax.metrics import mean_iou
from crfrnn_jax.processes import failing_together, places_of, sum_over_processes

# A setting -> int64 [images, labels, labels], in the order of the examples.
ScoreSetting = Callable[[CRFSetting], np.ndarray]
# A device -> the backbone's logits of an image, which it computes.
UnaryOn = Callable[[Device], Unary]

_BY_IMAGE = PartitionSpec("images")


class _Stack(NamedTuple):
    """Images of one size, padded alike, divided over devices.

    Attributes:
      indices: the places among the examples of all but the last, which fill up.
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
    unary_on: UnaryOn,
    data: SegmentationData,
    examples: Iterable[Mapping[str, Any]],
    devices: Sequence[Device],
    *,
    num_iterations: int,
    multiple_of: int = 1,
) -> ScoreSetting:
    """A function from a setting to the confusion matrix of every example.

    All images and logits are kept on the devices: four bytes a pixel and label.

    Args:
      unary_on: the backbone's logits of an image; computed once for each example.
      data: for its labels.
      examples: training images, never those the results are reported on; of several
        processes each has its part, as `eval_examples` gives it.
      devices: of this process.
      num_iterations: mean-field iterations.
      multiple_of: images are padded to sides that this number divides, as in
        `postprocess`; so fewer sizes have to be compiled for.

    Returns:
      The function; it raises InputError where a logit is NaN. All processes call it.

    Raises:
      ValueError: there is no example, or a label is out of range.
    """
    mesh = Mesh(np.asarray(devices), ("images",))
    with failing_together("the backbone's logits"):
        stacks = _stack(unary_on, data, examples, mesh, multiple_of)
    count = sum(len(stack.indices) for stack in stacks)
    places = places_of(count)
    total = int(sum_over_processes(np.int64(count), "number of examples"))
    if not total:
        raise InputError("examples: expected one at least, got none")

    def score_setting(setting: CRFSetting) -> np.ndarray:
        confusions = np.zeros((total, data.num_labels, data.num_labels), np.int64)
        with failing_together("scoring a setting"):
            for stack in stacks:
                own = [places[index] for index in stack.indices]
                confusions[own] = count_stack(stack, setting)[: len(own)]
        return sum_over_processes(confusions, "confusions")

    def count_stack(stack: _Stack, setting: CRFSetting) -> np.ndarray:
        counted, is_nan = _confusions(
            stack.images,
            stack.logits,
            stack.labels,
            stack.masks,
            jax.tree.map(np.float32, setting),
            num_iterations=num_iterations,
            mesh=mesh,
        )
        if np.any(is_nan):
            raise InputError(f"logits: expected numbers, got NaN with {setting}")
        return np.asarray(counted)

    return score_setting


def _stack(
    unary_on: UnaryOn,
    data: SegmentationData,
    examples: Iterable[Mapping[str, Any]],
    mesh: Mesh,
    multiple_of: int,
) -> list[_Stack]:
    def score_on(device: Device) -> Callable[[Mapping[str, Any]], Any]:
        unary = unary_on(device)
        return lambda example: (example, np.asarray(unary(example["image"])))

    groups: dict[tuple[int, ...], list[tuple[int, Any]]] = {}
    scored = map_on_devices(score_on, examples, list(mesh.devices.flat))
    for index, (example, logits) in enumerate(scored):
        label = np.asarray(example["label"])
        valid = label != data.ignore_label
        if not np.isin(label[valid], np.arange(data.num_labels)).all():
            raise InputError(
                f"labels: expected 0..{data.num_labels - 1}, got {np.unique(label)}"
            )
        image, mask = pad_to_multiple(example["image"], multiple_of)
        logits, _ = pad_to_multiple(logits, multiple_of)
        counted, _ = pad_to_multiple(np.where(valid, label, -1)[..., None], multiple_of)
        counted = counted[..., 0]
        if mask is not None:
            counted = np.where(mask, counted, -1)
        entry = (image, logits, counted.astype(np.int32), mask)
        groups.setdefault(image.shape, []).append((index, entry))
    return [_stack_of_one_size(group, mesh) for group in groups.values()]


def _stack_of_one_size(group: Sequence[tuple[int, Any]], mesh: Mesh) -> _Stack:
    entries = [entry for _, entry in group]
    image, logits, label, mask = entries[0]
    # As many for each device: what fills up counts nothing.
    fill = (image, logits, np.full_like(label, -1), mask)
    entries += [fill] * (-len(entries) % mesh.size)
    images, logits, labels, masks = zip(*entries, strict=True)
    if all(mask is None for mask in masks):
        stacked_masks = None
    else:
        whole = np.ones(image.shape[:2], bool)
        stacked_masks = np.stack([whole if mask is None else mask for mask in masks])
    stacks = (np.stack(images), np.stack(logits), np.stack(labels), stacked_masks)
    stacks = jax.device_put(stacks, NamedSharding(mesh, _BY_IMAGE))
    return _Stack([index for index, _ in group], *stacks)


@partial(jax.jit, static_argnames=("num_iterations", "mesh"))
def _confusions(images, logits, labels, masks, setting, *, num_iterations, mesh):
    """Confusion matrices int32 [images, labels, labels], and whether logits are NaN."""
    size = logits.shape[-1]

    def of_one(setting, item):
        image, image_logits, label, mask = item
        refined = crf_rnn(
            image,
            image_logits,
            potts_params(setting, size),
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

    def of_device(setting, stack):
        # One image after another, for the reason that `CRFRNN` gives.
        return lax.map(partial(of_one, setting), stack)

    of_all = jax.shard_map(
        of_device,
        mesh=mesh,
        in_specs=(PartitionSpec(), _BY_IMAGE),
        out_specs=_BY_IMAGE,
        check_vma=False,  # which does not know the filters' custom derivatives
    )
    return of_all(setting, (images, logits, labels, masks))


def tune_postprocessing(
    unary_on: UnaryOn,
    data: SegmentationData,
    examples: Iterable[Mapping[str, Any]],
    devices: Sequence[Device],
    candidates: Sequence[CRFSetting],
    *,
    num_iterations: int,
    multiple_of: int = 1,
    report: Callable[[CRFSetting, float], None],
) -> CRFSetting:
    """Chooses the setting with the best mean IoU, as Krähenbühl and Koltun by search.

    Args:
      unary_on: as in `setting_scorer`, like the three that follow.
      data: as there.
      examples: as there.
      devices: as there.
      candidates: the settings to try.
      num_iterations: mean-field iterations.
      multiple_of: as there.
      report: called with each setting and its mean IoU.

    Returns:
      The best candidate, the first of equals.
    """
    score_setting = setting_scorer(
        unary_on,
        data,
        examples,
        devices,
        num_iterations=num_iterations,
        multiple_of=multiple_of,
    )
    results = []
    for setting in candidates:
        results.append(mean_iou(score_setting(setting).sum(0)))
        report(setting, results[-1])
    return candidates[int(np.argmax(results))]
