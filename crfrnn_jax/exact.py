"""Exact Gaussian filtering: the truth that the lattice approximates.

Of any features in quadratic time, and of the positions of an image's pixels, which are
a regular grid, by a product along each side.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.checks import check_floating, check_positive, check_shape, check_sides

# Kernel entries held at a time: 16 MiB in float32, whatever the number of points.
_BLOCK_ENTRIES = 2**22


def exact_filter(
    features: jax.typing.ArrayLike, values: jax.typing.ArrayLike
) -> jax.Array:
    """Filters values with the dense Gaussian kernel of the features.

    out_i = sum_j exp(-|f_i - f_j|^2 / 2) v_j, the point itself included. Time grows
    with the square of the points, memory with the points: the kernel is made in blocks,
    and made again for the derivative.

    Args:
      features: float [points, d], already divided by the kernel widths.
      values: float [points, channels].

    Returns:
      [points, channels] in the dtype of `values`.

    Raises:
      ValueError: wrong rank, mismatched sizes or dtypes that are not floating.

    Examples:
      >>> features = np.array([[0.0], [2.0]], np.float32)
      >>> filtered = exact_filter(features, np.array([[1.0], [0.0]], np.float32))
      >>> print(np.asarray(filtered).round(3).ravel())
      [1.    0.135]
    """
    sizes = check_shape("features", features, "points d")
    check_shape("values", values, "points channels", {"points": sizes["points"]})
    check_floating("features", features)
    check_floating("values", values)
    return _exact_filter(features, values)


@jax.jit
def _exact_filter(features: jax.Array, values: jax.Array) -> jax.Array:
    dtype = np.promote_types(values.dtype, np.float32)

    @jax.checkpoint
    def filter_point(feature):
        squared_distance = jnp.sum((features - feature[None]) ** 2, axis=1)
        kernel = jnp.exp(-0.5 * squared_distance).astype(dtype)
        return jnp.matmul(kernel, values.astype(dtype), precision="highest")

    block = max(1, _BLOCK_ENTRIES // len(features))
    return lax.map(filter_point, features, batch_size=block).astype(values.dtype)


def separable_filter(
    shape: tuple[int, int],
    theta_gamma: jax.typing.ArrayLike,
    values: jax.typing.ArrayLike,
) -> jax.Array:
    """Filters an image with the dense Gaussian kernel of its pixels' positions.

    The same as `exact_filter` of `spatial_features`, in time that grows with the pixels
    times height + width: the kernel is the product of one of the rows and one of the
    columns, two matrices. Differentiable in the width and the values.

    Args:
      shape: (height, width) of the image.
      theta_gamma: kernel width in pixels, positive.
      values: float [height * width, channels].

    Returns:
      [height * width, channels] in the dtype of `values`.

    Raises:
      ValueError: an argument has the wrong rank, size, dtype or range.

    Examples:
      >>> impulse = np.zeros((9, 1), np.float32)
      >>> impulse[4] = 1
      >>> filtered = separable_filter((3, 3), 1.0, impulse)
      >>> print(np.asarray(filtered).round(3).reshape(3, 3)[1])
      [0.607 1.    0.607]
    """
    check_sides("shape", shape)
    check_positive("theta_gamma", theta_gamma)
    height, width = shape
    check_shape("values", values, "points channels", {"points": height * width})
    check_floating("values", values)
    values = jnp.asarray(values)
    dtype = np.promote_types(values.dtype, np.float32)
    theta_gamma = jnp.asarray(theta_gamma, dtype)
    places = [jnp.arange(side, dtype=dtype) for side in shape]
    return filter_axes([axis_kernel(place, theta_gamma) for place in places], values)


def axis_kernel(places: jax.Array, width: jax.Array) -> jax.Array:
    """exp(-(p_i - p_j)^2 / 2 width^2) between the places [side] along a grid's axis."""
    distances = (places[:, None] - places[None]) / width
    return jnp.exp(-0.5 * distances**2)


@jax.jit
def filter_axes(kernels: Sequence[jax.Array], values: jax.Array) -> jax.Array:
    """Filters values [points, channels] of a grid along its axes, one after another.

    Args:
      kernels: float [side, side] for each axis of the grid.
      values: float, at the grid's points in row-major order.
    """
    sides = [len(kernel) for kernel in kernels]
    check_shape("values", values, "points channels", {"points": math.prod(sides)})
    grid = values.reshape(*sides, -1)
    grid = grid.astype(kernels[0].dtype)
    for axis, kernel in enumerate(kernels):
        filtered = jnp.tensordot(kernel, grid, (1, axis), precision="highest")
        grid = jnp.moveaxis(filtered, 0, axis)
    return grid.reshape(values.shape).astype(values.dtype)
