"""Post-processing of one image or a batch, checked, compiled and kept."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.checks import (
    InputError,
    check_at_least,
    check_choice,
    check_floating,
    check_intensities,
    check_mask,
    check_positive,
    check_real,
    check_scalar,
)
from crfrnn_jax.inference import mean_field
from crfrnn_jax.kernel_filters import prepare_kernel
from crfrnn_jax.kernels import (
    KERNEL_NORMALISATIONS,
    METHODS,
    SPATIAL_METHODS,
    KernelNormalisation,
    Method,
    SpatialMethod,
    bilateral_kernel,
    spatial_kernel,
)
from crfrnn_jax.refine.arrays import as_numpy, check_known, image_as_numpy
from crfrnn_jax.unaries import (
    check_no_probabilities,
    check_probabilities,
    logits_from_probabilities,
)


def refine(
    image: Any,
    *,
    probabilities: Any = None,
    logits: Any = None,
    mask: Any = None,
    theta_alpha: float = 80.0,
    theta_beta: float = 13.0,
    theta_gamma: float = 3.0,
    bilateral_weight: float = 10.0,
    spatial_weight: float = 3.0,
    num_iterations: int = 5,
    normalisation: KernelNormalisation = "symmetric",
    method: Method = "lattice",
    spatial_method: SpatialMethod | None = None,
    max_intensity: float = 255.0,
) -> np.ndarray:
    """Sharpens a segmentation with a dense CRF, in one call (Krähenbühl, Koltun 2011).

    Takes arrays of NumPy, JAX, PyTorch or any library with `__array__` or `__dlpack__`.
    Compiled at the first call for a shape, and kept. The default widths and weights are
    those that post-processing mostly is done with; `crfrnn_jax.mean_field` has all the
    rest: other kernels, matrices of weights, volumes, gradients.

    Args:
      image: [height, width, channels], or [height, width] for a gray one, in
        0..max_intensity, any real dtype; or a batch of them with an axis before.
      probabilities: float [height, width, labels] (with the batch's axis before), that
        add up to 1: what a softmax gives. Either this or `logits`.
      logits: float of the same shape: what a network gives before the softmax.
      mask: bool [height, width], False at pixels that take no part, such as padding,
        which keep their marginals.
      theta_alpha: width of the bilateral kernel in pixels, positive.
      theta_beta: its width in intensities, of 255, positive.
      theta_gamma: width of the spatial kernel in pixels, positive.
      bilateral_weight: of the bilateral kernel's messages.
      spatial_weight: of the spatial kernel's messages.
      num_iterations: of the mean field, at least 0.
      normalisation: of both kernels, as in `GaussianKernel`.
      method: "lattice" or "exact", which is quadratic in the pixels.
      spatial_method: of the spatial kernel, if not the same: "separable" is exact.
      max_intensity: the greatest intensity an image of this kind can have: 255 for 8
        bits, 65535 for 16, 1 for floats in 0..1.

    Returns:
      Probabilities, numpy float32 of the shape of those given: the marginals.

    Raises:
      ValueError: naming the argument that is wrong, what was expected and what came.

    Examples:
      >>> image = np.zeros((4, 6, 3), np.uint8)
      >>> image[:, 3:] = 200
      >>> noisy = np.full((4, 6, 2), 0.5, np.float32)
      >>> noisy[1, 1] = 0.9, 0.1
      >>> noisy[2, 4] = 0.2, 0.8
      >>> refine(image, probabilities=noisy).argmax(-1)[0].tolist()
      [0, 0, 0, 1, 1, 1]
    """
    if (probabilities is None) == (logits is None):
        raise InputError(
            "probabilities, logits: expected one of them, got "
            + ("none" if logits is None else "both")
        )
    name = "logits" if probabilities is None else "probabilities"
    scores = as_numpy(name, logits if probabilities is None else probabilities)
    _check_scores(name, scores)
    points = scores.shape[:-1]
    image = _with_channels(image_as_numpy("image", image), name, scores.shape)
    if mask is not None:
        mask = as_numpy("mask", mask)
        axes = ("batch", "height", "width")[-len(points) :]
        check_mask("mask", mask, " ".join(axes), dict(zip(axes, points, strict=True)))
    thetas = theta_alpha, theta_beta, theta_gamma
    for theta, value in zip(("alpha", "beta", "gamma"), thetas, strict=True):
        check_known(f"theta_{theta}", value)
        check_positive(f"theta_{theta}", value)
    weights = bilateral_weight, spatial_weight
    for kernel, value in zip(("bilateral", "spatial"), weights, strict=True):
        _check_weight(f"{kernel}_weight", value)
    check_known("max_intensity", max_intensity)
    check_positive("max_intensity", max_intensity)
    check_at_least("num_iterations", num_iterations, 0)
    check_choice("normalisation", normalisation, KERNEL_NORMALISATIONS)
    check_choice("method", method, METHODS)
    spatial_method = method if spatial_method is None else spatial_method
    check_choice("spatial_method", spatial_method, SPATIAL_METHODS)
    _check_values(image, name, scores, mask, max_intensity)
    refined = _refine(
        image,
        scores,
        mask,
        thetas,
        weights,
        255 / max_intensity,
        from_logits=probabilities is None,
        num_iterations=int(num_iterations),
        normalisation=normalisation,
        methods=(spatial_method, method),
    )
    refined = np.array(refined)  # that may be written to
    if not np.isfinite(refined if mask is None else refined[mask]).all():
        raise InputError(
            "theta_alpha, theta_beta, theta_gamma, bilateral_weight, spatial_weight: "
            f"expected numbers that float32 can compute with, got {(*thetas, *weights)}"
        )
    return refined


def _check_scores(name: str, scores: np.ndarray) -> None:
    if scores.dtype.kind in "iu":
        raise InputError(
            f"{name}: expected floating-point values, got dtype {scores.dtype}; labels "
            "go through unary_from_labels"
        )
    check_floating(name, scores)
    if scores.ndim not in (3, 4) or 0 in scores.shape:
        raise InputError(
            f"{name}: expected shape [height, width, labels] or [batch, height, width, "
            f"labels], none of them 0, got {list(scores.shape)}"
        )
    if scores.shape[-1] == 1:
        raise InputError(
            f"{name}: expected at least 2 labels, got {list(scores.shape)}; one "
            "probability p of an object are those of two labels, 1 - p and p, and one "
            "logit s those of 0 and s"
        )


def _with_channels(image: np.ndarray, name: str, scores: tuple[int, ...]) -> np.ndarray:
    """The image with an axis of channels, if it belongs to scores of this shape."""
    check_real("image", image)
    points, shape = scores[:-1], image.shape
    # Rather a picture of scribbles in colour than gray images that are 3 wide, and
    # rather PyTorch's order than so few rows with a label for each of many channels.
    is_color = len(shape) == 3 == len(points) and shape[-1] in (3, 4)
    is_channels_first = shape[-1:] == scores[-1:] and points[-2] <= 4 < scores[-1]
    if image.ndim == len(points):
        image = image[..., None]
    fits = image.shape[:-1] == points and image.shape[-1] > 0
    if fits and not is_color and not is_channels_first:
        return image
    hint = "channels and labels come last, height before width"
    if fits and is_color:
        hint = "labels of one channel give scores [height, width, labels]"
    elif shape[:2] == points[1:]:
        hint = "image[None] is a batch of one, and so are the scores"
    raise InputError(
        f"image: expected [*{list(points)}, channels] or {list(points)}, as the {name} "
        f"have shape {list(scores)}, got shape {list(shape)}; {hint}"
    )


def _check_weight(name: str, value: float) -> None:
    check_known(name, value)
    check_scalar(name, value)
    if not 0 <= np.asarray(value) < np.inf:
        raise InputError(f"{name}: expected a finite number of at least 0, got {value}")


def _check_values(
    image: np.ndarray,
    name: str,
    scores: np.ndarray,
    mask: np.ndarray | None,
    max_intensity: float,
) -> None:
    """Checks what the pixels that take part hold."""
    if mask is not None:
        image, scores = image[mask], scores[mask]
    if not image.size:
        return
    if name == "probabilities":
        check_probabilities(scores)
    else:
        _check_logits(scores)
    check_intensities("image", image, max_intensity)


def _check_logits(logits: np.ndarray) -> None:
    """A label may be impossible, -inf, but not all of a pixel's."""
    with np.errstate(over="ignore"):
        logits = logits.astype(np.float32)
    check_no_probabilities("logits", logits)
    if np.isnan(logits).any() or np.isposinf(logits).any():
        raise InputError("logits: expected finite numbers, got NaN or infinity")
    if np.isneginf(logits).all(axis=-1).any():
        raise InputError("logits: expected a finite one of each pixel, got all -inf")


@partial(
    jax.jit,
    static_argnames=("from_logits", "num_iterations", "normalisation", "methods"),
)
def _refine(
    image,
    scores,
    mask,
    thetas,
    weights,
    scale,
    *,
    from_logits,
    num_iterations,
    normalisation,
    methods,
):
    theta_alpha, theta_beta, theta_gamma = thetas
    bilateral_weight, spatial_weight = weights
    spatial_method, method = methods

    spatial = spatial_kernel(
        scores.shape[-3:-1],
        theta_gamma,
        weights=spatial_weight,
        normalisation=normalisation,
        method=spatial_method,
    )
    if mask is None:  # the same for all images
        spatial = prepare_kernel(spatial)

    def refine_one(item):
        image, scores, mask = item
        scores = scores.astype(jnp.float32)
        bilateral = bilateral_kernel(
            image.astype(jnp.float32) * scale,
            theta_alpha,
            theta_beta,
            weights=bilateral_weight,
            normalisation=normalisation,
            method=method,
        )
        logits = scores if from_logits else logits_from_probabilities(scores)
        refined = mean_field(
            logits, (spatial, bilateral), mask=mask, num_iterations=num_iterations
        )
        marginals = jax.nn.softmax(refined)
        if mask is None:
            return marginals
        kept = jax.nn.softmax(scores) if from_logits else scores
        return jnp.where(mask[..., None], marginals, kept)

    if scores.ndim == 3:
        return refine_one((image, scores, mask))
    # Not vmap, which would take the largest room for every image (`crfrnn_jax.rooms`).
    return lax.map(refine_one, (image, scores, mask))
