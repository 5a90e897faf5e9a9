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
    check_positive,
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
from crfrnn_jax.refine.arrays import check_known
from crfrnn_jax.refine.inputs import (
    Inputs,
    check_inputs,
    check_out,
    check_values,
)
from crfrnn_jax.tiles import Tile, crf_overlap, plan_tiles
from crfrnn_jax.unaries import logits_from_probabilities


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
    tile: int | None = None,
    overlap: int | None = None,
    out: Any = None,
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
      tile: side in pixels of the parts that are computed one after another, for images
        that are too large at once; more than twice the overlap. Arrays are then read by
        the tile, and may be `np.memmap`, or h5py's or zarr's.
      overlap: pixels around a tile that are computed with it and thrown away; twice the
        larger width unless given, by which a few of 1000 labels at most are others than
        the whole image's (docs/refine.md).
      out: where to write the marginals, in place of a new array: float of their shape,
        such as an `np.memmap`, and not the memory that is read.

    Returns:
      Probabilities, numpy float32 of the shape of those given: the marginals; or `out`.

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
    if probabilities is None:
        inputs = check_inputs("logits", logits, image, mask)
    else:
        inputs = check_inputs("probabilities", probabilities, image, mask)
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
    tiles = _plan(inputs, tile, overlap, thetas)
    if out is not None:
        check_out(out, inputs)
    check_values(inputs, tiles, max_intensity)
    marginals = np.empty(inputs.scores.shape, np.float32) if out is None else out
    for part in tiles:
        image, scores, mask = inputs.read(part.window)
        refined = _refine(
            image,
            scores,
            mask,
            thetas,
            weights,
            255 / max_intensity,
            np.array(part.origin, np.float32),
            from_logits=probabilities is None,
            num_iterations=int(num_iterations),
            normalisation=normalisation,
            methods=(spatial_method, method),
        )
        refined = np.asarray(refined)
        if not np.isfinite(refined if mask is None else refined[mask]).all():
            raise InputError(
                "theta_alpha, theta_beta, theta_gamma, bilateral_weight, "
                "spatial_weight: expected numbers that float32 can compute with, got "
                f"{(*thetas, *weights)}"
            )
        marginals[inputs.at(part.kept)] = refined[inputs.at(part.inner)]
    return marginals


def _plan(
    inputs: Inputs,
    tile: int | None,
    overlap: int | None,
    thetas: tuple[float, float, float],
) -> list[Tile]:
    if tile is None:
        if overlap is not None:
            raise InputError(f"overlap: expected it with tile alone, got {overlap}")
        return plan_tiles(inputs.sides, None, 0)
    theta_alpha, _, theta_gamma = thetas
    if overlap is None:
        overlap = crf_overlap(theta_alpha, theta_gamma)
    return plan_tiles(inputs.sides, tile, overlap)


def _check_weight(name: str, value: float) -> None:
    check_known(name, value)
    check_scalar(name, value)
    if not 0 <= np.asarray(value) < np.inf:
        raise InputError(f"{name}: expected a finite number of at least 0, got {value}")


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
    origin,
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
        origin=origin,
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
            origin=origin,
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
