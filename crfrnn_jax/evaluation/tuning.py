"""The hand-set CRF of the post-processing row, chosen on training images."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from crfrnn_jax.data import SegmentationData
from crfrnn_jax.evaluation.prediction import CRFSetting, Score, postprocess
from crfrnn_jax.evaluation.scoring import score


def tune_postprocessing(
    unary: Score,
    data: SegmentationData,
    examples: Iterable[Mapping[str, Any]],
    candidates: Sequence[CRFSetting],
    *,
    num_iterations: int,
    report: Callable[[CRFSetting, float], None],
) -> CRFSetting:
    """Chooses the setting with the best mean IoU, as Krähenbühl and Koltun by search.

    Args:
      unary: the backbone's logits of an image; computed once for each example.
      data: for its labels.
      examples: training images, never those the results are reported on.
      candidates: the settings to try.
      num_iterations: mean-field iterations.
      report: called with each setting and its mean IoU.

    Returns:
      The best candidate, the first of equals.
    """
    scored = [(example, unary(example["image"])) for example in examples]
    results = []
    for setting in candidates:
        # The examples come in order, so the logits go along with them.
        logits = iter([logits for _, logits in scored])

        def predict(image, setting=setting, logits=logits):
            return postprocess(image, next(logits), setting, num_iterations)

        result = score({"crf": predict}, data, [example for example, _ in scored])
        results.append(result["crf"].mean_iou)
        report(setting, results[-1])
    return candidates[max(range(len(results)), key=results.__getitem__)]
