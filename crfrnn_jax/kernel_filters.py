"""The normalised filters that pass the messages of kernels, and kernels with theirs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from crfrnn_jax.checks import (
    check_mask,
)
from crfrnn_jax.exact import axis_kernel, exact_filter, filter_axes
from crfrnn_jax.filtering import check_filtered, filter_lattice
from crfrnn_jax.kernels import (
    GaussianKernel,
    KernelNormalisation,
    check_kernel,
    coordinates,
)
from crfrnn_jax.lattice import build_lattice
from crfrnn_jax.room_filters import divide_and_subtract


class Filter(Protocol):
    """A linear filter of each channel alone, between points."""

    def __call__(
        self,
        values: jax.Array,
        mixing: jax.Array | None = None,
        minuend: jax.Array | None = None,
        /,
    ) -> jax.Array:
        """Filters values [points, channels] @ mixing.T, or the values themselves.

        Args:
          values: float [points, channels].
          mixing: float [mixed, channels] or None.
          minuend: float in the result's shape, from which it is subtracted, or None.

        Returns:
          float [points, mixed] or [points, channels].
        """
        ...


def normalised_filter(
    kernel: GaussianKernel,
    dtype: jax.typing.DTypeLike = jnp.float32,
    mask: jax.Array | None = None,
) -> Filter:
    """The filter of a kernel, set up once to be called often.

    Its sums have the kernel's normalisation, but for 1e-20 that keeps a point whose
    kernel vanishes from dividing by zero. Without one the lattice's sums are brought to
    the Gaussian's scale, which they meet within a third for smooth data and up to six
    features.

    Args:
      kernel: its weights are not used.
      dtype: float32 or float64, of the values to be filtered.
      mask: bool [points], False at points that neither send nor receive; they receive
        0, and may hold any features but with "separable", whose coordinates must be
        those of the grid. None is all True.

    Returns:
      A function of values [points, channels], of a matrix [mixed, channels] by which
      it mixes them if it is given, and of an array from which it subtracts the result
      if that is given. It is a pytree of arrays as well, and may go through `jit`.

    Raises:
      ValueError: the kernel or the mask is wrong, naming the field.

    Examples:
      >>> blur = normalised_filter(spatial_kernel((5,), 1.0, method="separable"))
      >>> blur(jnp.ones((5, 1))).round(3).ravel().tolist()
      [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    points = check_kernel("kernel", kernel)
    features = jnp.asarray(kernel.features).astype(dtype)
    widths = jnp.asarray(kernel.widths).astype(dtype)
    if mask is not None:
        check_mask("mask", mask, "points", {"points": points})
        mask = jnp.asarray(mask)[:, None]
    unnormalised = _unnormalised(kernel, features, widths, mask)
    before = after = None
    if kernel.normalisation != "none":
        ones = jnp.ones((points, 1), dtype)
        # The authors' 1e-20 keeps a point whose kernel vanishes from dividing by zero.
        sums = unnormalised(_valid(mask, ones)) + 1e-20
        if kernel.normalisation == "symmetric":
            before = after = jnp.sqrt(sums)
        elif kernel.normalisation == "before":
            before = sums
        else:
            after = sums
    elif kernel.method == "lattice":
        # The factor by which `filter_lattice` falls short, which else cancels. Divided
        # by like a normaliser, as that is done on the way.
        after = jnp.full((points, 1), 2.0 ** -(features.shape[1] + 1), dtype)
    return Partial(_filter_normalised, mask, before, after, unnormalised)


def _filter_normalised(
    mask, before, after, unnormalised, values, mixing=None, minuend=None
):
    """Sums between valid points, divided by what is given before and after."""
    values = _valid(mask, values)
    if before is not None:
        values = values / before
    filtered = unnormalised(values, mixing, divisor=after, minuend=minuend)
    return _valid(mask, filtered, minuend)


def _valid(
    mask: jax.Array | None, values: jax.Array, others: jax.Array | None = None
) -> jax.Array:
    if mask is None:
        return values
    return jnp.where(mask, values, 0 if others is None else others.astype(values.dtype))


def _unnormalised(
    kernel: GaussianKernel,
    features: jax.Array,
    widths: jax.Array,
    mask: jax.Array | None,
) -> Callable[..., jax.Array]:
    """The sums over all points, those of a mask with features that do no harm.

    A function of the values and, as far as they are given, of the mixing, the divisor
    and the minuend of `filter_lattice`.
    """
    d = features.shape[1]
    if kernel.method == "separable":
        assert kernel.grid is not None  # by check_kernel
        lines = coordinates(features, kernel.grid)
        widths = jnp.broadcast_to(widths, (d,))[::-1]
        matrices = list(map(axis_kernel, lines, widths))
        return Partial(_mix_and_filter, Partial(filter_axes, matrices))
    if mask is not None:
        # Where a valid point lies, padding makes no vertex of its own, through which
        # the valid ones would be blurred. Replaced before the division, since NaN
        # would go from there into the derivative of the widths.
        valid = jnp.where(jnp.any(mask), features[jnp.argmax(mask)], 0)
        features = jnp.where(mask, features, valid)
    features = features / (widths if widths.ndim == 0 else widths[None])
    if kernel.method == "exact":
        return Partial(_mix_and_filter, Partial(exact_filter, features))
    # As many features as the grid has sides are taken for its positions. Were they
    # others, only time would be lost.
    is_grid = kernel.grid is not None and len(kernel.grid) == d
    lattice = build_lattice(features, is_grid=is_grid)
    return Partial(filter_lattice, lattice)


def _mix_and_filter(filter_values, values, mixing=None, *, divisor=None, minuend=None):
    points = None if divisor is None else len(divisor)
    check_filtered(values, mixing, divisor, minuend, points)
    if mixing is not None:
        values = jnp.matmul(values, mixing.T, precision="highest")
    return divide_and_subtract(filter_values(values), divisor, minuend)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("filter_values", "weights", "mask"),
    meta_fields=("points", "grid", "normalisation"),
)
@dataclass(frozen=True, eq=False)
class PreparedKernel:
    """A kernel whose filter is set up, to stand in its place again and again.

    Made by `prepare_kernel`. Other weights: `dataclasses.replace(kernel, weights=...)`.
    A pytree of arrays, which may be an argument of `jit` and of `lax.map`.

    Attributes:
      filter_values: as from `normalised_filter`.
      weights: as in `GaussianKernel`, and so are grid and normalisation.
      mask: bool [points] with which it was prepared, or None.
      points: number of points.
      grid: see there.
      normalisation: see there.

    Examples:
      >>> prepared = prepare_kernel(spatial_kernel((4, 6), 2.0))
      >>> prepared.points, prepared.normalisation
      (24, 'after')
    """

    filter_values: Filter
    weights: jax.typing.ArrayLike
    mask: jax.Array | None
    points: int
    grid: tuple[int, ...] | None
    normalisation: KernelNormalisation


# What inference takes.
Kernel = GaussianKernel | PreparedKernel


def prepare_kernel(
    kernel: GaussianKernel,
    mask: jax.typing.ArrayLike | None = None,
) -> PreparedKernel:
    """Sets up a kernel's filter once, for inference that is called often.

    An image's lattice serves any logits on it, as of scribbles that grow; that of
    positions serves all images of a size. It is about two fifths of the time of five
    iterations.

    Args:
      kernel: the kernel; its features are computed with in float32, or if they are
        float64 in that.
      mask: bool [*shape], the mask of the inference to come, if that has one.

    Raises:
      ValueError: the kernel or the mask is wrong, naming the field.

    Examples:
      >>> image = np.zeros((4, 6, 3), np.uint8)
      >>> image[:, 3:] = 200
      >>> kernel = prepare_kernel(bilateral_kernel(image))
      >>> logits = np.zeros((4, 6, 2), np.float32)
      >>> logits[1, 1, 0] = logits[2, 4, 1] = 2
      >>> mean_field(logits, [kernel]).argmax(-1)[0].tolist()
      [0, 0, 0, 1, 1, 1]
      >>> logits[2, 4] = 2, 0  # and now they are alike
      >>> mean_field(logits, [kernel]).argmax(-1)[0].tolist()
      [0, 0, 0, 0, 0, 0]
    """
    points = check_kernel("kernel", kernel)
    if isinstance(mask, np.ndarray | jax.Array):
        mask = mask.reshape(-1)
    if mask is not None:
        check_mask("mask", mask, "points", {"points": points})
    return PreparedKernel(
        _set_up(kernel, mask),
        kernel.weights,
        None if mask is None else jnp.asarray(mask),
        points,
        kernel.grid,
        kernel.normalisation,
    )


@jax.jit
def _set_up(kernel, mask):
    dtype = np.promote_types(jnp.asarray(kernel.features).dtype, np.float32)
    return normalised_filter(kernel, dtype, mask)
