"""Predictors: functions of one image to its labels, for each row of the results.

Programs are compiled once for each size of images. Where images come in many sizes,
they are padded to multiples of some number of pixels, which makes the sizes few;
padding is seen by the network, at the lower and right border, and never by the CRF.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crfrnn_jax.crf import CRFParams, crf_rnn
from crfrnn_jax.data.transforms import place_on_canvas
from crfrnn_jax.marginals import map_labels
from crfrnn_jax.models import Segmenter

# uint8 [height, width, channels] -> integer [height, width]
Predict = Callable[[np.ndarray], np.ndarray]
# uint8 [height, width, channels] -> float32 [height, width, labels]
Unary = Callable[[np.ndarray], jax.Array]
# The same, also of a window of a larger image, given (row, column) of its first pixel.
WindowUnary = Callable[..., jax.Array]


class CRFSetting(NamedTuple):
    """A hand-set CRF: a Potts model with one weight a kernel.

    Attributes:
      theta_alpha: width of the bilateral kernel in pixels.
      theta_beta: width of the bilateral kernel in 0..255 intensity units.
      theta_gamma: width of the spatial kernel in pixels.
      bilateral_weight: weight of the bilateral kernel.
      spatial_weight: weight of the spatial kernel.
    """

    theta_alpha: float
    theta_beta: float
    theta_gamma: float
    bilateral_weight: float
    spatial_weight: float


def unary_of(model: Segmenter, params: Any, *, multiple_of: int = 1) -> Unary:
    """The backbone's logits of an image.

    Args:
      model: the segmenter.
      params: its parameters.
      multiple_of: images are padded to sides that this number divides, unless the model
        places them on a canvas.
    """
    return lambda image: _logits(model, params, image, (0, 0), None, multiple_of)


def refined_of(
    model: Segmenter, params: Any, num_iterations: int, *, multiple_of: int = 1
) -> WindowUnary:
    """The logits after the CRF-RNN that was trained with the backbone.

    A window has the lattice of the whole image; to the network it is one of its own.
    """

    def logits_of(image: np.ndarray, origin: tuple[int, int] = (0, 0)) -> jax.Array:
        return _logits(model, params, image, origin, num_iterations, multiple_of)

    return logits_of


def plain_predictor(model: Segmenter, params: Any, *, multiple_of: int = 1) -> Predict:
    """The likeliest labels by the backbone alone."""
    unary = unary_of(model, params, multiple_of=multiple_of)
    return lambda image: likeliest_labels(unary(image))


def end_to_end_predictor(
    model: Segmenter, params: Any, num_iterations: int, *, multiple_of: int = 1
) -> Predict:
    """The likeliest labels after the CRF-RNN that was trained with the backbone."""
    refined = refined_of(model, params, num_iterations, multiple_of=multiple_of)
    return lambda image: likeliest_labels(refined(image))


def _logits(model, params, image, origin, num_iterations, multiple_of) -> jax.Array:
    """Logits [height, width, labels] of an image of any size."""
    height, width = image.shape[:2]
    origin = np.array(origin, np.float32)
    if not model.canvas:
        placed, mask = pad_to_multiple(image, multiple_of)
        logits = _apply(model, params, placed, mask, origin, num_iterations)
        return logits[:height, :width]
    nothing = np.zeros((height, width), np.int32)
    placed, _, mask = place_on_canvas(image, nothing, model.canvas, 0)
    logits = _apply(model, params, placed, mask, origin, num_iterations)
    logits = logits[: mask[:, 0].sum(), : mask[0].sum()]
    if logits.shape[:2] == (height, width):
        return logits
    return jax.image.resize(logits, (height, width, logits.shape[2]), "bilinear")


# Compiled once for a model and a size of images, whatever the parameters: a training
# run predicts with new ones at every evaluation.
@partial(jax.jit, static_argnames=("model", "num_iterations"))
def _apply(model, params, image, mask, origin, num_iterations):
    """Logits of one image: the backbone's, or with a number of iterations the CRF's."""

    def score(module):
        images, masks = image[None], None if mask is None else mask[None]
        logits = module.unary(images, masks)
        if num_iterations is None:
            return logits
        return module.refine(
            images, logits, masks, num_iterations=num_iterations, origin=origin
        )

    return model.apply({"params": params}, method=score)[0]


def pad_to_multiple(array, multiple_of: int):
    """Repeats the lower and right edges; also returns the mask, None if not padded."""
    height, width = array.shape[:2]
    pads = [(0, -height % multiple_of), (0, -width % multiple_of)]
    if not np.any(pads):
        return array, None
    mask = np.pad(np.ones((height, width), bool), pads)
    return np.pad(array, [*pads, (0, 0)], mode="edge"), mask


def likeliest_labels(logits: jax.Array) -> np.ndarray:
    """The labels of the greatest logits, integer [height, width].

    Raises:
      ValueError: a logit is NaN, which would pass for label 0.
    """
    return np.asarray(map_labels(logits))


def potts_params(setting: CRFSetting, num_labels: int) -> CRFParams:
    """The matrices of a hand-set CRF."""
    identity = jnp.eye(num_labels)
    return CRFParams(
        setting.spatial_weight * identity,
        setting.bilateral_weight * identity,
        -identity,
    )


def postprocess(
    image: np.ndarray,
    logits: jax.Array,
    setting: CRFSetting,
    num_iterations: int,
    *,
    multiple_of: int = 1,
) -> np.ndarray:
    """The likeliest labels after a hand-set CRF on given logits."""
    height, width = image.shape[:2]
    image, mask = pad_to_multiple(image, multiple_of)
    if mask is not None:
        logits = jnp.asarray(pad_to_multiple(np.asarray(logits), multiple_of)[0])
    refined = crf_rnn(
        image,
        logits,
        potts_params(setting, logits.shape[-1]),
        mask=mask,
        num_iterations=num_iterations,
        theta_alpha=setting.theta_alpha,
        theta_beta=setting.theta_beta,
        theta_gamma=setting.theta_gamma,
    )
    return likeliest_labels(refined[:height, :width])


def postprocessing_predictor(
    model: Segmenter,
    params: Any,
    setting: CRFSetting,
    num_iterations: int,
    *,
    multiple_of: int = 1,
) -> Predict:
    """The likeliest labels by the backbone and a hand-set CRF after it."""
    unary = unary_of(model, params, multiple_of=multiple_of)
    return lambda image: postprocess(
        image, unary(image), setting, num_iterations, multiple_of=multiple_of
    )
