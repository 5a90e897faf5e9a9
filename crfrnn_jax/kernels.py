"""The Gaussian kernels' normalised filters: message passing, by any of the methods."""

from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol, get_args

import jax
import jax.numpy as jnp

from crfrnn_jax.checks import check_choice
from crfrnn_jax.exact import exact_filter, filter_sides, side_kernels
from crfrnn_jax.features import spatial_features
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


def normalised_filter(
    features: jax.Array,
    dtype: jax.typing.DTypeLike,
    method: Method,
    mask: jax.Array | None = None,
) -> Filter:
    """The kernel's filter divided, per point, by its filter of ones: K q / K 1.

    Args:
      features: float [points, d], divided by the kernel widths.
      dtype: dtype of the values to be filtered.
      method: "lattice" or "exact".
      mask: bool [points, 1], False at points that neither send nor receive; they
        receive 0. None is all True.

    Returns:
      A function of values [points, channels], and of a matrix [mixed, channels] by
      which it mixes them if it is given.

    Raises:
      ValueError: `features` or `method` is wrong.
    """
    check_choice("method", method, METHODS)
    if mask is not None:
        # Where a valid point lies, padding makes no vertex of its own, through which
        # the valid ones would be blurred.
        features = jnp.where(mask, features, features[jnp.argmax(mask)])
    if method == "lattice":
        unnormalised = partial(filter_lattice, build_lattice(features))
    else:
        unnormalised = _mix_before(partial(exact_filter, features))
    return _normalise(unnormalised, len(features), dtype, mask)


def normalised_spatial_filter(
    shape: tuple[int, int],
    theta_gamma: jax.typing.ArrayLike,
    dtype: jax.typing.DTypeLike,
    method: SpatialMethod,
    mask: jax.Array | None = None,
) -> Filter:
    """As `normalised_filter`, of the positions of an image's pixels.

    Args:
      shape: (height, width) of the image.
      theta_gamma: kernel width in pixels, positive.
      dtype: dtype of the values to be filtered.
      method: "lattice", "exact" or "separable".
      mask: bool [height * width, 1] or None.

    Raises:
      ValueError: an argument is wrong.
    """
    check_choice("method", method, SPATIAL_METHODS)
    if method != "separable":
        features = spatial_features(shape, theta_gamma)
        return normalised_filter(features, dtype, method, mask)
    kernels = side_kernels(shape, theta_gamma, dtype)
    unnormalised = _mix_before(partial(filter_sides, kernels))
    return _normalise(unnormalised, shape[0] * shape[1], dtype, mask)


def _mix_before(filter_values: Callable[[jax.Array], jax.Array]) -> Filter:
    def mix_and_filter(values, mixing=None):
        if mixing is not None:
            values = jnp.matmul(values, mixing.T, precision="highest")
        return filter_values(values)

    return mix_and_filter


def _normalise(unnormalised: Filter, points: int, dtype, mask) -> Filter:
    ones = jnp.ones((points, 1), dtype)
    # The authors' 1e-20 keeps a point whose kernel vanishes from dividing by zero.
    if mask is None:
        normaliser = unnormalised(ones) + 1e-20
        return lambda values, mixing=None: unnormalised(values, mixing) / normaliser
    normaliser = unnormalised(jnp.where(mask, ones, 0)) + 1e-20

    def filter_valid(values, mixing=None):
        filtered = unnormalised(jnp.where(mask, values, 0), mixing)
        return jnp.where(mask, filtered / normaliser, 0)

    return filter_valid
