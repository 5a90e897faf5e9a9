"""Mean-field inference of the dense CRF as a recurrent network (Zheng et al. 2015).

The energy is E(x) = sum_i psi_u(x_i)
+ sum_{i<j} mu(x_i, x_j) sum_m w^(m) k^(m)(f_i, f_j), with a spatial and a bilateral
Gaussian kernel. The layer's unary input U = -psi_u are logits: bigger is likelier.
Signs, normalisation and the number of iterations are those of the authors' code, where
it differs from the paper's text.
"""

from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.checks import (
    InputError,
    check_at_least,
    check_choice,
    check_floating,
    check_mask,
    check_positive,
    check_real,
    check_shape,
)
from crfrnn_jax.features import bilateral_features
from crfrnn_jax.kernels import (
    METHODS,
    SPATIAL_METHODS,
    Filter,
    Method,
    SpatialMethod,
    normalised_filter,
    normalised_spatial_filter,
)

Normalisation = Literal["softmax", "relu"]
NORMALISATIONS = get_args(Normalisation)


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
    """

    spatial_weights: jax.Array
    bilateral_weights: jax.Array
    compatibility: jax.Array


class Filters(NamedTuple):
    """The two kernels' normalised filters, as from `normalised_filter`."""

    spatial: Filter
    bilateral: Filter


def init_crf_params(num_labels: int) -> CRFParams:
    """The authors' initial parameters: 3 I, 5 I and -I, float32 [labels, labels].

    Raises:
      ValueError: `num_labels` is not an integer of at least 1.
    """
    check_at_least("num_labels", num_labels, 1)
    identity = jnp.eye(num_labels, dtype=jnp.float32)
    return CRFParams(3.0 * identity, 5.0 * identity, -identity)


def mean_field_step(
    current: jax.Array,
    unary: jax.Array,
    params: CRFParams,
    filters: Filters,
    *,
    normalisation: Normalisation = "softmax",
) -> jax.Array:
    """One mean-field iteration, the function f of the recurrent network (section 4).

    Softmax, message passing, weighting, compatibility transform and the addition of the
    unary (algorithm 1), in the order that takes logits to logits.

    Args:
      current: float [points, labels], logits of the current marginals.
      unary: float [points, labels], the network's logits U.
      params: the CRF's parameters.
      filters: the normalised filters of the two kernels.
      normalisation: what makes marginals of logits: "softmax", or "relu", which divides
        their positive parts by the sum of these (the paper's section 5 finds it worse).

    Returns:
      float [points, labels], logits of the updated marginals.

    Raises:
      ValueError: naming the argument whose rank, size, dtype or value is wrong.
    """
    sizes = check_shape("unary", unary, "points labels")
    check_shape("current", current, "points labels", sizes)
    check_floating("unary", unary)
    check_floating("current", current)
    _check_params(params, sizes["labels"])
    check_choice("normalisation", normalisation, NORMALISATIONS)
    # Messages of half precision would be rounded on their way.
    current = current.astype(np.promote_types(current.dtype, np.float32))
    marginals = _softmax(current) if normalisation == "softmax" else _relu(current)
    # The filters act on each label alone, so labels may be mixed within them, by the
    # weights and the compatibility at once.
    spatial, bilateral = (
        jnp.matmul(params.compatibility, weights, precision="highest")
        for weights in (params.spatial_weights, params.bilateral_weights)
    )
    messages = filters.spatial(marginals, spatial)
    return unary - messages - filters.bilateral(marginals, bilateral)


@jax.custom_jvp
def _softmax(logits: jax.Array) -> jax.Array:
    return jax.nn.softmax(logits, axis=-1)


@_softmax.defjvp
def _softmax_jvp(primals, tangents):
    """Reverse mode keeps the marginals; by itself it would keep the exponentials, too.

    The one label map that is kept for each iteration.
    """
    marginals = _softmax(*primals)
    (tangent,) = tangents
    mean = jnp.sum(marginals * tangent, axis=-1, keepdims=True)
    return marginals, marginals * (tangent - mean)


def _relu(logits: jax.Array) -> jax.Array:
    positive = jax.nn.relu(logits)
    total = jnp.sum(positive, axis=-1, keepdims=True)
    # A point without a positive logit has no marginals and sends nothing.
    return positive / jnp.where(total > 0, total, 1)


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
    method: Method = "lattice",
    spatial_method: SpatialMethod | None = None,
    normalisation: Normalisation = "softmax",
) -> jax.Array:
    """Refines logits with mean-field inference of a dense CRF (Zheng et al. 2015).

    Differentiable with respect to the image, the logits, the parameters and the widths.
    Compiled once per shape, number of iterations and method: other widths, parameters
    and images do not recompile.

    Args:
      image: [height, width, channels] in 0..255, any number of channels, any real
        dtype.
      logits: float [height, width, labels], log-probabilities up to a constant per
        pixel.
      params: parameters for the same number of labels, matrices [labels, labels], or
        [num_iterations, labels, labels] for iterations that do not share theirs.
      mask: bool [height, width], False where a pixel is padding: it neither sends nor
        receives messages, counts in no normaliser, and keeps its logits. None is all
        True.
      num_iterations: mean-field iterations, at least 0; 0 returns the logits. The
        authors train with 5 and test with 10.
      theta_alpha: width of the bilateral kernel in pixels, positive.
      theta_beta: width of the bilateral kernel in intensity units, positive.
      theta_gamma: width of the spatial kernel in pixels, positive.
      method: "lattice", linear in the pixels, or "exact", quadratic.
      spatial_method: how the spatial kernel is filtered, if not as the bilateral one:
        "separable" is exact and takes two matrix products, whose time grows with the
        pixels times height + width.
      normalisation: "softmax" or "relu", as in `mean_field_step`.

    Returns:
      Logits [height, width, labels] of the last iteration, not normalised; float32, or
      in JAX's 64-bit mode float64 if the logits are.

    Raises:
      ValueError: naming the argument whose rank, size, dtype or value is wrong.
    """
    sizes = check_shape("image", image, "height width channels")
    sizes = {axis: sizes[axis] for axis in ("height", "width")}
    labels = check_shape("logits", logits, "height width labels", sizes)["labels"]
    check_floating("logits", logits)
    check_real("image", image)
    check_at_least("num_iterations", num_iterations, 0)
    _check_params(params, labels, num_iterations)
    if mask is not None:
        check_mask("mask", mask, "height width", sizes)
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
        num_iterations=int(num_iterations),
        methods=(spatial_method, method),
        normalisation=normalisation,
    )


def _check_params(
    params: CRFParams, labels: int, num_iterations: int | None = None
) -> None:
    """Checks the matrices; with `num_iterations` there may be as many of each."""
    if not isinstance(params, CRFParams):
        raise InputError(f"params: expected CRFParams, got {type(params).__name__}")
    axes, sizes = "labels labels'", {"labels": labels, "labels'": labels}
    if num_iterations is not None and jnp.ndim(params.compatibility) == 3:
        axes, sizes = f"iterations {axes}", sizes | {"iterations": num_iterations}
    for field, matrix in zip(CRFParams._fields, params, strict=True):
        check_shape(f"params.{field}", matrix, axes, sizes)
        check_floating(f"params.{field}", matrix)


@partial(jax.jit, static_argnames=("num_iterations", "methods", "normalisation"))
def _crf_rnn(
    image, logits, params, mask, thetas, *, num_iterations, methods, normalisation
):
    dtype = np.promote_types(logits.dtype, np.float32)
    shape = logits.shape
    given = logits.astype(dtype).reshape(-1, shape[-1])
    unary = given
    if mask is not None:
        # Padding may hold anything, NaN too, which no later product would make zero.
        image = jnp.where(mask[..., None], image, 0)
        mask = mask.reshape(-1, 1)
        unary = jnp.where(mask, given, 0)
    params = jax.tree.map(lambda matrix: matrix.astype(dtype), params)
    theta_alpha, theta_beta, theta_gamma = (jnp.asarray(t, dtype) for t in thetas)
    spatial_method, bilateral_method = methods
    bilateral = bilateral_features(image.astype(dtype), theta_alpha, theta_beta)
    filters = Filters(
        normalised_spatial_filter(shape[:2], theta_gamma, dtype, spatial_method, mask),
        normalised_filter(bilateral, dtype, bilateral_method, mask),
    )

    def step(current, own_params):
        step_params = params if own_params is None else own_params
        updated = mean_field_step(
            current, unary, step_params, filters, normalisation=normalisation
        )
        return updated, None

    shared = params.compatibility.ndim == 2
    refined, _ = lax.scan(
        step, unary, None if shared else params, length=num_iterations
    )
    if mask is not None:
        refined = jnp.where(mask, refined, given)
    return refined.reshape(shape)
