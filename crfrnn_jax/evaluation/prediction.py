"""Predictors: functions of one image to its labels, for each row of the results."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crfrnn_jax.checks import InputError
from crfrnn_jax.crf import CRFParams, crf_rnn
from crfrnn_jax.models import Segmenter

# uint8 [height, width, channels] -> integer [height, width]
Predict = Callable[[np.ndarray], np.ndarray]
# uint8 [height, width, channels] -> float32 [height, width, labels]
Unary = Callable[[np.ndarray], jax.Array]


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


def unary_of(model: Segmenter, params: Any) -> Unary:
    """The backbone's logits of an image."""
    return lambda image: _unary(model, params, image)


def plain_predictor(model: Segmenter, params: Any) -> Predict:
    """The likeliest labels by the backbone alone."""
    return lambda image: likeliest_labels(_unary(model, params, image))


def end_to_end_predictor(model: Segmenter, params: Any, num_iterations: int) -> Predict:
    """The likeliest labels after the CRF-RNN that was trained with the backbone."""
    return lambda image: likeliest_labels(
        _refined(model, params, image, num_iterations)
    )


# Compiled once for a model and a size of images, whatever the parameters: a training
# run predicts with new ones at every evaluation.
@partial(jax.jit, static_argnames="model")
def _unary(model, params, image):
    return model.apply({"params": params}, image[None], method=model.unary)[0]


@partial(jax.jit, static_argnames=("model", "num_iterations"))
def _refined(model, params, image, num_iterations):
    def refine(module):
        images = image[None]
        return module.refine(images, module.unary(images), num_iterations)

    return model.apply({"params": params}, method=refine)[0]


def likeliest_labels(logits: jax.Array) -> np.ndarray:
    """The labels of the greatest logits, integer [height, width].

    Raises:
      ValueError: a logit is NaN, which would pass for label 0.
    """
    if jnp.isnan(logits).any():
        raise InputError("logits: expected numbers, got NaN in some pixels")
    return np.asarray(jnp.argmax(logits, axis=-1))


def postprocess(
    image: np.ndarray, logits: jax.Array, setting: CRFSetting, num_iterations: int
) -> np.ndarray:
    """The likeliest labels after a hand-set CRF on given logits."""
    identity = jnp.eye(logits.shape[-1])
    params = CRFParams(
        setting.spatial_weight * identity,
        setting.bilateral_weight * identity,
        -identity,
    )
    refined = crf_rnn(
        image,
        logits,
        params,
        num_iterations=num_iterations,
        theta_alpha=setting.theta_alpha,
        theta_beta=setting.theta_beta,
        theta_gamma=setting.theta_gamma,
    )
    return likeliest_labels(refined)


def postprocessing_predictor(
    model: Segmenter, params: Any, setting: CRFSetting, num_iterations: int
) -> Predict:
    """The likeliest labels by the backbone and a hand-set CRF after it."""
    return lambda image: postprocess(
        image, _unary(model, params, image), setting, num_iterations
    )
