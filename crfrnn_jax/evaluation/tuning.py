"""The hand-set CRF of the post-processing row, chosen on training images."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from crfrnn_jax.data import SegmentationData
from crfrnn_jax.evaluation.prediction import CRFSetting, Unary, postprocess
from crfrnn_jax.metrics import confusion_matrix, mean_iou


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
      unary: the backbone's logits of an image; computed once for each example.
      data: for its labels.
      examples: training images, never those the results are reported on.
      candidates: the settings to try.
      num_iterations: mean-field iterations.
      multiple_of: as in `postprocess`.
      report: called with each setting and its mean IoU.

    Returns:
      The best candidate, the first of equals.
    """
    scored = [(example, unary(example["image"])) for example in examples]
    results = []
    for setting in candidates:
        confusions = [
            confusion_matrix(
                labels=example["label"],
                predictions=postprocess(
                    example["image"],
                    logits,
                    setting,
                    num_iterations,
                    multiple_of=multiple_of,
                ),
                num_labels=data.num_labels,
                ignore_label=data.ignore_label,
            )
            for example, logits in scored
        ]
        results.append(mean_iou(np.sum(confusions, axis=0)))
        report(setting, results[-1])
    return candidates[int(np.argmax(results))]
