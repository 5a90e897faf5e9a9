"""A look at a stage on its way: scores of some validation images, and panels."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from crfrnn_jax.checks import InputError
from crfrnn_jax.data import SegmentationData, eval_examples
from crfrnn_jax.evaluation.devices import Device
from crfrnn_jax.evaluation.panels import save_panels
from crfrnn_jax.evaluation.prediction import (
    Predict,
    end_to_end_predictor,
    plain_predictor,
)
from crfrnn_jax.evaluation.scoring import score
from crfrnn_jax.models import Segmenter
from crfrnn_jax.processes import failing_together, is_first, own_part
from crfrnn_jax.training.configuration import Config
from crfrnn_jax.training.mesh import local_copy
from crfrnn_jax.training.stopping import StoppedError


class NoNumbersError(InputError):
    """The network's scores of an image are NaN."""


def validate(
    config: Config,
    stage: str,
    model: Segmenter,
    params: Any,
    data: SegmentationData,
    mesh: Mesh,
    panels: Path,
    is_told_to_stop: Callable[[], bool],
) -> dict[str, float]:
    """Scores some validation images and saves panels of the first few.

    Args:
      config: of the run.
      stage: which of its stages; its network is scored alone, and with the CRF if it
        trains that.
      model: the segmenter.
      params: its parameters, on the mesh.
      data: the data set.
      mesh: the devices that share the images out.
      panels: the picture to write.
      is_told_to_stop: asked before each image.

    Returns:
      Mean IoUs, 0..1, by the names that the log has for them.

    Raises:
      StoppedError: it was told to stop.
      NoNumbersError: a score is NaN.
    """
    here = jax.process_index()
    devices = [device for device in mesh.devices.flat if device.process_index == here]
    params = local_copy(mesh, params)
    multiple_of = config.eval.multiple_of

    def predictors_on(device: Device) -> dict[str, Predict]:
        own = jax.device_put(params, device)
        plain = _of_numbers(plain_predictor(model, own, multiple_of=multiple_of))
        if not config[stage].use_crf:
            return {"plain": plain}
        end_to_end = end_to_end_predictor(
            model, own, config.eval.num_iterations, multiple_of=multiple_of
        )
        return {"unary": plain, "end_to_end": _of_numbers(end_to_end)}

    limit = config.eval.validation_images
    examples = eval_examples(data, "val", limit=limit, part=own_part())
    scores = score(predictors_on, data, _unless(is_told_to_stop, examples), devices)
    with failing_together("drawing panels"):
        if is_first():
            rows = predictors_on(devices[0])
            examples = eval_examples(data, "val", limit=config.eval.panels)
            save_panels(panels, rows, data, _unless(is_told_to_stop, examples))
    return {f"val_mean_iou_{row}": of_row.mean_iou for row, of_row in scores.items()}


def _of_numbers(predict: Predict) -> Predict:
    """The same, whose error is not one of an image that can't be read."""

    def predict_numbers(image: np.ndarray) -> np.ndarray:
        try:
            return predict(image)
        except InputError as error:
            raise NoNumbersError(str(error)) from error

    return predict_numbers


def _unless(
    is_told_to_stop: Callable[[], bool], examples: Iterable[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    for example in examples:
        if is_told_to_stop():
            raise StoppedError
        yield example
