"""Scores of predictors on a data set."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from crfrnn_jax.data import SegmentationData
from crfrnn_jax.evaluation.devices import Device, map_on_devices
from crfrnn_jax.evaluation.prediction import Predict
from crfrnn_jax.metrics import (
    boundary_distance,
    confusion_matrix,
    iou_per_class,
    mean_iou,
    pixel_accuracy,
    trimap_confusions,
)
from crfrnn_jax.processes import failing_together, sum_over_processes

# A device -> predictors by name, which run on it.
PredictorsOn = Callable[[Device], Mapping[str, Predict]]


class Score(NamedTuple):
    """What a predictor got right and wrong.

    Attributes:
      confusion: int64 [labels, labels] of all pixels.
      trimaps: int64 [widths, labels, labels] of the pixels near the true boundaries.
    """

    confusion: np.ndarray
    trimaps: np.ndarray

    @property
    def mean_iou(self) -> float:
        """Mean IoU of all pixels, 0..1."""
        return mean_iou(self.confusion)

    def summary(self) -> dict[str, Any]:
        """The metrics as plain numbers, 0..1, None where there is nothing to count."""
        return {
            "mean_iou": _number(self.mean_iou),
            "pixel_accuracy": _number(pixel_accuracy(self.confusion)),
            "iou_per_class": [_number(iou) for iou in iou_per_class(self.confusion)],
            "trimap_mean_iou": [_number(mean_iou(band)) for band in self.trimaps],
            "trimap_pixel_accuracy": [
                _number(pixel_accuracy(band)) for band in self.trimaps
            ],
        }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def score(
    predictors_on: PredictorsOn,
    data: SegmentationData,
    examples: Iterable[Mapping[str, Any]],
    devices: Sequence[Device],
    *,
    trimap_widths: tuple[int, ...] = (),
) -> dict[str, Score]:
    """Scores several predictors in one pass over the examples.

    The examples are shared out over devices, and over the processes of a run.

    Args:
      predictors_on: makes the predictors of a device.
      data: for its labels.
      examples: of the data set, each with `image` and `label`; of several processes
        each has its part.
      devices: of this process.
      trimap_widths: of the bands along the boundaries, in pixels.

    Returns:
      A score for each name, of all examples once each, the same in every process.
    """

    def score_on(device: Device):
        return partial(_score_one, predictors_on(device), data, trimap_widths)

    names = predictors_on(devices[0])
    scores = map_on_devices(score_on, examples, devices)
    with failing_together("scoring"):
        sums = _sum(scores, names, data, trimap_widths)
    sums = sum_over_processes(sums, "scores")
    return {name: sums[name] for name in names}


def _score_one(
    predictors: Mapping[str, Predict],
    data: SegmentationData,
    trimap_widths: tuple[int, ...],
    example: Mapping[str, Any],
) -> dict[str, Score]:
    distance = None
    if trimap_widths:
        distance = boundary_distance(example["label"], data.ignore_label)
    scores = {}
    for name, predict in predictors.items():
        pair = {
            "labels": example["label"],
            "predictions": predict(example["image"]),
            "num_labels": data.num_labels,
            "ignore_label": data.ignore_label,
        }
        trimaps = np.zeros((0, data.num_labels, data.num_labels), np.int64)
        if distance is not None:
            trimaps = trimap_confusions(**pair, distance=distance, widths=trimap_widths)
        scores[name] = Score(confusion_matrix(**pair), trimaps)
    return scores


def _sum(
    scores: Iterable[Mapping[str, Score]],
    names: Iterable[str],
    data: SegmentationData,
    trimap_widths: tuple[int, ...],
) -> dict[str, Score]:
    size = data.num_labels
    zero = Score(
        np.zeros((size, size), np.int64),
        np.zeros((len(trimap_widths), size, size), np.int64),
    )
    total = dict.fromkeys(names, zero)
    for of_one in scores:
        total = {
            name: jax.tree.map(np.add, sums, of_one[name])
            for name, sums in total.items()
        }
    return total
