"""Exact Gaussian filtering: the truth that the lattice approximates."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.checks import check_floating, check_shape

# Kernel entries held at a time: 16 MiB in float32, whatever the number of points.
_BLOCK_ENTRIES = 2**22


@jax.jit
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
    """
    sizes = check_shape("features", features, "points d")
    check_shape("values", values, "points channels", {"points": sizes["points"]})
    check_floating("features", features)
    check_floating("values", values)
    features, values = jnp.asarray(features), jnp.asarray(values)
    dtype = np.promote_types(values.dtype, np.float32)

    @jax.checkpoint
    def filter_point(feature):
        squared_distance = jnp.sum((features - feature[None]) ** 2, axis=1)
        kernel = jnp.exp(-0.5 * squared_distance).astype(dtype)
        return jnp.matmul(kernel, values.astype(dtype), precision="highest")

    block = max(1, _BLOCK_ENTRIES // sizes["points"])
    return lax.map(filter_point, features, batch_size=block).astype(values.dtype)
