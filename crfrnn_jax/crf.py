"""Mean-field inference of the dense CRF as a recurrent network (Zheng et al. 2015).

The energy is E(x) = sum_i psi_u(x_i)
+ sum_{i<j} mu(x_i, x_j) sum_m w^(m) k^(m)(f_i, f_j), with a spatial and a bilateral
Gaussian kernel. The layer's unary input U = -psi_u are logits: bigger is likelier.
Signs, normalisation and the number of iterations are those of the authors' code, where
it differs from the paper's text.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, Protocol, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.checks import (
    InputError,
    check_at_least,
    check_choice,
    check_floating,
    check_positive,
    check_real,
    check_shape,
)
from crfrnn_jax.exact import exact_filter, filter_sides, side_kernels
from crfrnn_jax.features import bilateral_features, spatial_features
from crfrnn_jax.filtering import filter_lattice
from crfrnn_jax.lattice import build_lattice

Method = Literal["lattice", "exact"]
METHODS = get_args(Method)
SpatialMethod = Literal["lattice", "exact", "separable"]
SPATIAL_METHODS = get_args(SpatialMethod)


class Filter(Protocol):
    """A linear filter of each channel alone, between points."""

    def __call__(
        self, values: jax.Array, mixing: jax.Array | None = None, /
    ) -> jax.Array:
        """Filters values [points, channels] @ mixing.T, or the values themselves.

        Args:
          values: float [points, channels].
          mixing: float [mixed, channels] or None.

        Returns:
          float [points, mixed] or [points, channels].
        """
        ...


class CRFParams(NamedTuple):
    """Learnable parameters of the CRF; row = label that receives, column = that sends.

    Attributes:
      spatial_weights: [labels, labels], applied to the spatial kernel's messages.
      bilateral_weights: [labels, labels], applied to the bilateral kernel's messages.
      compatibility: [labels, labels], applied to the weighted sum and subtracted from
        the unary. Minus the identity is the Potts model: it rewards the label the
        neighbourhood has, which under a softmax is the same as to punish the others.
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
    current: jax.Array, unary: jax.Array, params: CRFParams, filters: Filters
) -> jax.Array:
    """One mean-field iteration, the function f of the recurrent network (section 4).

    Softmax, message passing, weighting, compatibility transform and the addition of the
    unary (algorithm 1), in the order that takes logits to logits.

    Args:
      current: float [points, labels], logits of the current marginals.
      unary: float [points, labels], the network's logits U.
      params: the CRF's parameters.
      filters: the normalised filters of the two kernels.

    Returns:
      float [points, labels], logits of the updated marginals.

    Raises:
      ValueError: naming the argument whose rank, size or dtype is wrong.
    """
    sizes = check_shape("unary", unary, "points labels")
    check_shape("current", current, "points labels", sizes)
    check_floating("unary", unary)
    check_floating("current", current)
    _check_params(params, sizes["labels"])
    # Messages of half precision would be rounded on their way.
    marginals = _softmax(current.astype(np.promote_types(current.dtype, np.float32)))
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


def crf_rnn(
    image: jax.typing.ArrayLike,
    logits: jax.typing.ArrayLike,
    params: CRFParams,
    *,
    num_iterations: int = 5,
    theta_alpha: jax.typing.ArrayLike = 160.0,
    theta_beta: jax.typing.ArrayLike = 3.0,
    theta_gamma: jax.typing.ArrayLike = 3.0,
    method: Method = "lattice",
    spatial_method: SpatialMethod | None = None,
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
      params: parameters for the same number of labels.
      num_iterations: mean-field iterations, at least 0; 0 returns the logits. The
        authors train with 5 and test with 10.
      theta_alpha: width of the bilateral kernel in pixels, positive.
      theta_beta: width of the bilateral kernel in intensity units, positive.
      theta_gamma: width of the spatial kernel in pixels, positive.
      method: "lattice", linear in the pixels, or "exact", quadratic.
      spatial_method: how the spatial kernel is filtered, if not as the bilateral one:
        "separable" is exact and takes two matrix products, whose time grows with the
        pixels times height + width.

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
    _check_params(params, labels)
    check_at_least("num_iterations", num_iterations, 0)
    thetas = (theta_alpha, theta_beta, theta_gamma)
    for name, theta in zip(("alpha", "beta", "gamma"), thetas, strict=True):
        check_positive(f"theta_{name}", theta)
    check_choice("method", method, METHODS)
    if spatial_method is None:
        spatial_method = method
    check_choice("spatial_method", spatial_method, SPATIAL_METHODS)
    methods = spatial_method, method
    return _crf_rnn(image, logits, params, thetas, int(num_iterations), methods)


def _check_params(params: CRFParams, labels: int) -> None:
    if not isinstance(params, CRFParams):
        raise InputError(f"params: expected CRFParams, got {type(params).__name__}")
    square = {"labels": labels, "labels'": labels}
    for field, matrix in zip(CRFParams._fields, params, strict=True):
        check_shape(f"params.{field}", matrix, "labels labels'", square)
        check_floating(f"params.{field}", matrix)


@partial(jax.jit, static_argnames=("num_iterations", "methods"))
def _crf_rnn(image, logits, params, thetas, num_iterations, methods):
    dtype = np.promote_types(logits.dtype, np.float32)
    shape = logits.shape
    unary = logits.astype(dtype).reshape(-1, shape[-1])
    params = jax.tree.map(lambda matrix: matrix.astype(dtype), params)
    theta_alpha, theta_beta, theta_gamma = (jnp.asarray(t, dtype) for t in thetas)
    spatial_method, bilateral_method = methods
    bilateral = bilateral_features(image.astype(dtype), theta_alpha, theta_beta)
    filters = Filters(
        _spatial_filter(shape[:2], theta_gamma, dtype, spatial_method),
        normalised_filter(bilateral, dtype, bilateral_method),
    )

    def step(current, _):
        return mean_field_step(current, unary, params, filters), None

    refined, _ = lax.scan(step, unary, length=num_iterations)
    return refined.reshape(shape)


def normalised_filter(
    features: jax.Array, dtype: jax.typing.DTypeLike, method: Method
) -> Filter:
    """The kernel's filter divided, per point, by its filter of ones: K q / K 1.

    Args:
      features: float [points, d], divided by the kernel widths.
      dtype: dtype of the values to be filtered.
      method: "lattice" or "exact".

    Returns:
      A function of values [points, channels], and of a matrix [mixed, channels] by
      which it mixes them if it is given.

    Raises:
      ValueError: `features` or `method` is wrong.
    """
    check_choice("method", method, METHODS)
    if method == "lattice":
        unnormalised = partial(filter_lattice, build_lattice(features))
    else:
        unnormalised = _mix_before(partial(exact_filter, features))
    return _normalise(unnormalised, len(features), dtype)


def _spatial_filter(shape, theta_gamma, dtype, method: SpatialMethod) -> Filter:
    if method != "separable":
        features = spatial_features(shape, theta_gamma)
        return normalised_filter(features, dtype, method)
    kernels = side_kernels(shape, theta_gamma, dtype)
    unnormalised = _mix_before(partial(filter_sides, kernels))
    return _normalise(unnormalised, shape[0] * shape[1], dtype)


def _mix_before(filter_values: Callable[[jax.Array], jax.Array]) -> Filter:
    def mix_and_filter(values, mixing=None):
        if mixing is not None:
            values = jnp.matmul(values, mixing.T, precision="highest")
        return filter_values(values)

    return mix_and_filter


def _normalise(unnormalised: Filter, points: int, dtype) -> Filter:
    ones = jnp.ones((points, 1), dtype)
    # The authors' 1e-20 keeps a point whose kernel vanishes from dividing by zero.
    normaliser = unnormalised(ones) + 1e-20
    return lambda values, mixing=None: unnormalised(values, mixing) / normaliser
