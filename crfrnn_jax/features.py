"""Pixel features of the two Gaussian kernels of the dense CRF.

Conventions of the whole package: images and label maps are [height, width, channels];
x is the column, y the row, both in pixels; intensities are in 0..255; points of an
image are its pixels in row-major order.
"""

import jax
import jax.numpy as jnp

from crfrnn_jax.checks import check_positive, check_real, check_shape, check_sides


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
    """
    check_sides("shape", shape)
    check_positive("theta_gamma", theta_gamma)
    dtype = _widest_float(theta_gamma)
    return _positions(shape).astype(dtype) / jnp.asarray(theta_gamma, dtype)


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
    """
    check_shape("image", image, "height width channels")
    check_real("image", image)
    check_positive("theta_alpha", theta_alpha)
    check_positive("theta_beta", theta_beta)
    image = jnp.asarray(image)
    height, width, channels = image.shape
    dtype = _widest_float(image, theta_alpha, theta_beta)
    theta_alpha, theta_beta = (jnp.asarray(t, dtype) for t in (theta_alpha, theta_beta))
    positions = _positions((height, width)).astype(dtype) / theta_alpha
    intensities = image.reshape(-1, channels).astype(dtype) / theta_beta
    return jnp.concatenate([positions, intensities], axis=1)


def _widest_float(*arrays) -> jnp.dtype:
    """Float64 if one of the arrays is, else float32."""
    dtypes = [getattr(array, "dtype", None) for array in arrays]
    return jnp.dtype("float64" if jnp.float64 in dtypes else "float32")


def _positions(shape: tuple[int, int]) -> jax.Array:
    height, width = shape
    y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    return jnp.stack([x.ravel(), y.ravel()], axis=1).astype(jnp.float32)
