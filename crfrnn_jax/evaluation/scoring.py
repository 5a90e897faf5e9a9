"""Scores of predictors on a data set."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from crfrnn_jax.data import SegmentationData
from crfrnn_jax.evaluation.prediction import Predict
from crfrnn_jax.metrics import (
    boundary_distance,
    confusion_matrix,
    iou_per_class,
    mean_iou,
    pixel_accuracy,
    trimap_confusions,
)


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
    predictors: Mapping[str, Predict],
    data: SegmentationData,
    examples: Iterable[Mapping[str, Any]],
    *,
    trimap_widths: tuple[int, ...] = (),
) -> dict[str, Score]:
    """Scores several predictors in one pass over the examples.

    Args:
      predictors: by name.
      data: for its labels.
      examples: of the data set, each with `image` and `label`.
      trimap_widths: of the bands along the boundaries, in pixels.

    Returns:
      A score for each name.
    """
    size = data.num_labels
    zero = Score(
        np.zeros((size, size), np.int64),
        np.zeros((len(trimap_widths), size, size), np.int64),
    )
    scores = dict.fromkeys(predictors, zero)
    for example in examples:
        distance = None
        if trimap_widths:
            distance = boundary_distance(example["label"], data.ignore_label)
        for name, predict in predictors.items():
            pair = {
                "labels": example["label"],
                "predictions": predict(example["image"]),
                "num_labels": size,
                "ignore_label": data.ignore_label,
            }
            confusion = scores[name].confusion + confusion_matrix(**pair)
            trimaps = scores[name].trimaps
            if distance is not None:
                trimaps = trimaps + trimap_confusions(
                    **pair, distance=distance, widths=trimap_widths
                )
            scores[name] = Score(confusion, trimaps)
    return scores
