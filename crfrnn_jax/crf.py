"""Mean-field inference of the dense CRF as a recurrent network (Zheng et al. 2015).

The energy is E(x) = sum_i psi_u(x_i)
+ sum_{i<j} mu(x_i, x_j) sum_m w^(m) k^(m)(f_i, f_j), with a spatial and a bilateral
Gaussian kernel. The layer's unary input U = -psi_u are logits: bigger is likelier.
Signs, normalisation and the number of iterations are those of the authors' code, where
it differs from the paper's text.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.checks import (
    InputError,
    as_numbers,
    check_at_least,
    check_choice,
    check_floating,
    check_mask,
    check_positive,
    check_real,
    check_shape,
)
from crfrnn_jax.crf_model import restore, set_up
from crfrnn_jax.features import Numbers
from crfrnn_jax.iterations import (
    NORMALISATIONS,
    Normalisation,
    iterate,
)
from crfrnn_jax.kernel_filters import prepare_kernel
from crfrnn_jax.kernels import (
    METHODS,
    SPATIAL_METHODS,
    Method,
    SpatialMethod,
    bilateral_kernel,
    spatial_kernel,
)


class CRFParams(NamedTuple):
    """Learnable parameters of the CRF; row = label that receives, column = that sends.

    Attributes:
      spatial_weights: [labels, labels], applied to the spatial kernel's messages.
      bilateral_weights: [labels, labels], applied to the bilateral kernel's messages.
      compatibility: [labels, labels], applied to the weighted sum and subtracted from
        the unary. Minus the identity is the Potts model: it rewards the label the
        neighbourhood has, which under a softmax is the same as to punish the others.

    In `crf_rnn` all three may have a leading axis, [iterations, labels, labels], for
    parameters that the iterations do not share.

    Examples:
      >>> params = init_crf_params(2)
      >>> params._replace(bilateral_weights=2 * params.bilateral_weights)[1].tolist()
      [[10.0, 0.0], [0.0, 10.0]]
    """

    spatial_weights: jax.Array
    bilateral_weights: jax.Array
    compatibility: jax.Array


def init_crf_params(num_labels: int) -> CRFParams:
    """The authors' initial parameters: 3 I, 5 I and -I, float32 [labels, labels].

    Raises:
      ValueError: `num_labels` is not an integer of at least 1.

    Examples:
      >>> init_crf_params(2).compatibility.tolist()
      [[-1.0, -0.0], [-0.0, -1.0]]
    """
    check_at_least("num_labels", num_labels, 1)
    identity = jnp.eye(num_labels, dtype=jnp.float32)
    return CRFParams(3.0 * identity, 5.0 * identity, -identity)


def crf_rnn(
    image: jax.typing.ArrayLike,
    logits: jax.typing.ArrayLike,
    params: CRFParams,
    *,
    mask: jax.typing.ArrayLike | None = None,
    num_iterations: int = 5,
    theta_alpha: jax.typing.ArrayLike = 160.0,
    theta_beta: jax.typing.ArrayLike = 3.0,
    theta_gamma: jax.typing.ArrayLike = 3.0,
    origin: Numbers = 0.0,
    method: Method = "lattice",
    spatial_method: SpatialMethod | None = None,
    normalisation: Normalisation = "softmax",
) -> jax.Array:
    """Refines logits with mean-field inference of a dense CRF (Zheng et al. 2015).

    Differentiable with respect to the image, the logits, the parameters and the widths.
    Compiled once per shape, number of iterations and method: other widths, parameters
    and images do not recompile. The images of a batch are refined one after another.

    Args:
      image: [height, width, channels] in 0..255, any number of channels, any real
        dtype; or a batch of images, with an axis before.
      logits: float [height, width, labels], log-probabilities up to a constant per
        pixel; of a batch, with its axis before.
      params: parameters for the same number of labels, matrices [labels, labels], or
        [num_iterations, labels, labels] for iterations that do not share theirs.
      mask: bool [height, width], False where a pixel is padding: it neither sends nor
        receives messages, counts in no normaliser, and keeps its logits; of a batch,
        with its axis before. None is all True.
      num_iterations: mean-field iterations, at least 0; 0 returns the logits. The
        authors train with 5 and test with 10.
      theta_alpha: width of the bilateral kernel in pixels, positive.
      theta_beta: width of the bilateral kernel in intensity units, positive.
      theta_gamma: width of the spatial kernel in pixels, positive.
      origin: (row, column) of the first pixel, of a window of a larger image: with it
        the window has the whole's lattice.
      method: "lattice", linear in the pixels, or "exact", quadratic.
      spatial_method: how the spatial kernel is filtered, if not as the bilateral one:
        "separable" is exact and takes two matrix products, whose time grows with the
        pixels times height + width.
      normalisation: "softmax" or "relu", as in `mean_field_step`.

    Returns:
      Logits of the last iteration in the shape of those given, not normalised; float32,
      or in JAX's 64-bit mode float64 if the logits are.

    Raises:
      ValueError: naming the argument whose rank, size, dtype or value is wrong.

    Examples:
      >>> image = np.zeros((4, 6, 3), np.uint8)
      >>> image[:, 3:] = 200
      >>> logits = np.zeros((4, 6, 2), np.float32)
      >>> logits[1, 1, 0] = logits[2, 4, 1] = 2  # all that is known
      >>> refined = crf_rnn(image, logits, init_crf_params(2))
      >>> refined.argmax(-1)[0].tolist()
      [0, 0, 0, 1, 1, 1]
    """
    is_batch = getattr(image, "ndim", None) == 4
    axes = "batch height width" if is_batch else "height width"
    sizes = check_shape("image", image, f"{axes} channels")
    sizes = {axis: sizes[axis] for axis in axes.split()}
    labels = check_shape("logits", logits, f"{axes} labels", sizes)["labels"]
    check_floating("logits", logits)
    check_real("image", image)
    check_at_least("num_iterations", num_iterations, 0)
    _check_params(params, labels, num_iterations)
    if mask is not None:
        check_mask("mask", mask, axes, sizes)
    thetas = (theta_alpha, theta_beta, theta_gamma)
    for name, theta in zip(("alpha", "beta", "gamma"), thetas, strict=True):
        check_positive(f"theta_{name}", theta)
    check_choice("method", method, METHODS)
    if spatial_method is None:
        spatial_method = method
    check_choice("spatial_method", spatial_method, SPATIAL_METHODS)
    check_choice("normalisation", normalisation, NORMALISATIONS)
    return _crf_rnn(
        image,
        logits,
        params,
        mask,
        thetas,
        as_numbers("origin", origin),
        num_iterations=int(num_iterations),
        methods=(spatial_method, method),
        normalisation=normalisation,
    )


def _check_params(params: CRFParams, labels: int, num_iterations: int) -> None:
    """Checks the matrices: one of each, or one of each for every iteration."""
    if not isinstance(params, CRFParams):
        raise InputError(f"params: expected CRFParams, got {type(params).__name__}")
    axes, sizes = "labels labels'", {"labels": labels, "labels'": labels}
    if jnp.ndim(params.compatibility) == 3:
        axes, sizes = f"iterations {axes}", sizes | {"iterations": num_iterations}
    for field, matrix in zip(CRFParams._fields, params, strict=True):
        check_shape(f"params.{field}", matrix, axes, sizes)
        check_floating(f"params.{field}", matrix)


@partial(jax.jit, static_argnames=("num_iterations", "methods", "normalisation"))
def _crf_rnn(
    image,
    logits,
    params,
    mask,
    thetas,
    origin,
    *,
    num_iterations,
    methods,
    normalisation,
):
    theta_alpha, theta_beta, theta_gamma = thetas
    spatial_method, method = methods
    is_batch = jnp.ndim(logits) == 4
    spatial = spatial_kernel(
        logits.shape[-3:-1],
        theta_gamma,
        origin=origin,
        weights=params.spatial_weights,
        method=spatial_method,
    )
    if is_batch and mask is None:  # the same for all images
        features = jnp.asarray(
            spatial.features, np.promote_types(logits.dtype, np.float32)
        )
        spatial = prepare_kernel(replace(spatial, features=features))

    def refine(item):
        image, logits, mask = item
        bilateral = bilateral_kernel(
            image,
            theta_alpha,
            theta_beta,
            origin=origin,
            weights=params.bilateral_weights,
            method=method,
        )
        model = set_up(logits, (spatial, bilateral), params.compatibility, mask)
        refined, _ = iterate(model, num_iterations, normalisation=normalisation)
        return restore(model, refined, logits)

    # Not vmap, which would compute every room for every image (`crfrnn_jax.rooms`) and
    # not the one that its vertices ask for.
    items = image, logits, mask
    return lax.map(refine, items) if is_batch else refine(items)
