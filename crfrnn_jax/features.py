"""Features of Gaussian kernels: positions on a grid, and intensities beside them.

Conventions of the whole package: images and label maps are [height, width, channels];
x is the column, y the row, both in pixels; intensities are in 0..255; points of an
image are its pixels in row-major order.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from crfrnn_jax.checks import (
    InputError,
    as_numbers,
    check_choice,
    check_grid,
    check_integer,
    check_positive,
    check_positives,
    check_real,
    check_shape,
    check_sides,
)

# One number, or one for each of several.
Numbers = jax.typing.ArrayLike | Sequence[float]

# The axes of positions, by their number: of a signal, an image, a volume.
_AXES = {1: "length", 2: "height width", 3: "depth height width"}


def position_features(
    shape: tuple[int, ...], spacing: Numbers = 1.0, origin: Numbers = 0.0
) -> jax.Array:
    """Where the points of a regular grid lie: a signal's, an image's or a volume's.

    Args:
      shape: the grid's sides, (length,), (height, width) or (depth, height, width).
      spacing: distance of neighbours, positive: one number, or one for each of the
        grid's axes in their order, such as a scan's voxel sizes in millimetres.
      origin: where the first point lies, in the spacing's unit, one number or one for
        each axis in their order: of a window of a larger image (row, column), so that
        its pixels lie as in the whole. A lattice depends on it.

    Returns:
      float [points, dims], the coordinates, last axis first: x, y, z. Float64 if the
      spacing is, else float32.

    Raises:
      ValueError: `shape` is not positive integers, or the spacing not one positive
        number or one for each, or the origin not one number or one for each.

    Examples:
      >>> position_features((2, 2), spacing=(10.0, 1.0)).tolist()
      [[0.0, 0.0], [1.0, 0.0], [0.0, 10.0], [1.0, 10.0]]
    """
    check_grid("shape", shape)
    spacing = as_numbers("spacing", spacing)
    check_positives("spacing", spacing, len(shape))
    origin = as_numbers("origin", origin)
    if jnp.shape(origin) not in ((), (len(shape),)):
        raise InputError(
            f"origin: expected one number or {len(shape)}, got shape "
            f"{jnp.shape(origin)}"
        )
    dtype = _widest_float(spacing)
    steps, first = (
        jnp.broadcast_to(jnp.asarray(numbers, dtype), (len(shape),))
        for numbers in (spacing, origin)
    )
    places = jnp.meshgrid(*(jnp.arange(side) for side in shape), indexing="ij")
    last_first = jnp.stack([place.ravel() for place in reversed(places)], axis=1)
    return last_first.astype(dtype) * steps[None, ::-1] + first[None, ::-1]


def spatial_features(
    shape: tuple[int, int], theta_gamma: jax.typing.ArrayLike
) -> jax.Array:
    """Features of the smoothness kernel, exp(-|p_i - p_j|^2 / 2 theta_gamma^2).

    Args:
      shape: (height, width) of the image.
      theta_gamma: kernel width in pixels, positive.

    Returns:
      float [height * width, 2], the columns (x, y) / theta_gamma.

    Raises:
      ValueError: `shape` is not two positive numbers, or the width not positive.

    Examples:
      >>> spatial_features((1, 3), 2.0).tolist()
      [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]
    """
    check_sides("shape", shape)
    check_positive("theta_gamma", theta_gamma)
    dtype = _widest_float(theta_gamma)
    return position_features(shape).astype(dtype) / jnp.asarray(theta_gamma, dtype)


def image_features(
    image: jax.typing.ArrayLike,
    *,
    dims: int = 2,
    spacing: Numbers = 1.0,
    origin: Numbers = 0.0,
) -> jax.Array:
    """Positions and intensities side by side, not divided by any width yet.

    Args:
      image: real [height, width, channels], any number of channels; with `dims` other
        than 2 a signal [length, channels] or a volume [depth, height, width, channels].
      dims: number of the image's axes that are positions, all but the last.
      spacing: as in `position_features`.
      origin: as in `position_features`.

    Returns:
      float [points, dims + channels], the columns x, y, z and the channels. Float64 if
      an argument is, else float32.

    Raises:
      ValueError: the image has another rank or no real numbers, or the spacing or the
        origin is wrong.

    Examples:
      >>> image_features(np.array([[[7, 8]], [[9, 0]]], np.uint8)).tolist()
      [[0.0, 0.0, 7.0, 8.0], [0.0, 1.0, 9.0, 0.0]]
    """
    check_integer("dims", dims)
    check_choice("dims", int(dims), tuple(_AXES))
    sizes = check_shape("image", image, f"{_AXES[dims]} channels")
    check_real("image", image)
    positions = position_features(jnp.shape(image)[:-1], spacing, origin)
    dtype = _widest_float(image, positions)
    intensities = jnp.asarray(image).reshape(-1, sizes["channels"])
    return jnp.concatenate([positions.astype(dtype), intensities.astype(dtype)], axis=1)


def bilateral_features(
    image: jax.typing.ArrayLike,
    theta_alpha: jax.typing.ArrayLike,
    theta_beta: jax.typing.ArrayLike,
) -> jax.Array:
    """Features of the appearance kernel (Zheng et al. 2015, section 3).

    The kernel is exp(-|p_i - p_j|^2 / 2 theta_alpha^2 - |I_i - I_j|^2 / 2
    theta_beta^2).

    Args:
      image: [height, width, channels] in 0..255, any number of channels.
      theta_alpha: width in pixels, positive.
      theta_beta: width in intensity units, positive.

    Returns:
      float [height * width, 2 + channels], the columns (x / theta_alpha,
      y / theta_alpha, channels / theta_beta). Float64 if an argument is, else
      float32.

    Raises:
      ValueError: the image's rank is not 3, or a width is not positive.

    Examples:
      >>> bilateral_features(np.array([[[30], [60]]], np.uint8), 2.0, 10.0).tolist()
      [[0.0, 0.0, 3.0], [0.5, 0.0, 6.0]]
    """
    check_positive("theta_alpha", theta_alpha)
    check_positive("theta_beta", theta_beta)
    features = image_features(image)
    dtype = _widest_float(features, theta_alpha, theta_beta)
    widths = bilateral_widths(theta_alpha, theta_beta, 2, features.shape[1] - 2)
    return features.astype(dtype) / widths.astype(dtype)[None]


def bilateral_widths(
    theta_alpha: jax.typing.ArrayLike,
    theta_beta: jax.typing.ArrayLike,
    dims: int,
    channels: int,
) -> jax.Array:
    """The widths of `image_features`: [dims + channels]; `theta_beta` may be a vector.

    Float64 if an argument is, else float32.
    """
    dtype = _widest_float(theta_alpha, theta_beta)
    sides = ((theta_alpha, dims), (theta_beta, channels))
    return jnp.concatenate(
        [jnp.broadcast_to(jnp.asarray(theta, dtype), (n,)) for theta, n in sides]
    )


def _widest_float(*arrays) -> jnp.dtype:
    """Float64 if one of the arrays is, in JAX's 64-bit mode, else float32."""
    dtypes = [getattr(array, "dtype", None) for array in arrays]
    widest = jnp.dtype("float64" if jnp.float64 in dtypes else "float32")
    return jax.dtypes.canonicalize_dtype(widest)
