"""Gaussian kernels as values, and the normalised filters that pass their messages."""

import math
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, Literal, Protocol, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import Partial

from crfrnn_jax.checks import (
    InputError,
    as_numbers,
    check_choice,
    check_floating,
    check_grid,
    check_mask,
    check_positive,
    check_positives,
    check_real,
    check_shape,
)
from crfrnn_jax.exact import axis_kernel, exact_filter, filter_axes
from crfrnn_jax.features import (
    Numbers,
    bilateral_widths,
    image_features,
    position_features,
)
from crfrnn_jax.filtering import filter_lattice
from crfrnn_jax.lattice import build_lattice

Method = Literal["lattice", "exact"]
METHODS = get_args(Method)
SpatialMethod = Literal["lattice", "exact", "separable"]
SPATIAL_METHODS = get_args(SpatialMethod)
KernelNormalisation = Literal["none", "before", "after", "symmetric"]
KERNEL_NORMALISATIONS = get_args(KernelNormalisation)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("features", "widths", "weights"),
    meta_fields=("normalisation", "method", "grid"),
)
@dataclass(frozen=True, eq=False)
class GaussianKernel:
    """A Gaussian kernel between points, and the weights of its messages.

    k_ij = exp(-|(f_i - f_j) / widths|^2 / 2), the point itself included, normalised
    with s_i = sum_j k_ij as Krähenbühl and Koltun's code has it: "none" is k_ij,
    "before" k_ij / s_j, "after" k_ij / s_i, as in CRF-RNN, and "symmetric"
    k_ij / sqrt(s_i s_j).

    A pytree: `jit`, `grad` and `vmap` go through features, widths and weights; another
    normalisation, method or grid compiles anew.

    Attributes:
      features: real [points, d], of any kind. They are computed with in float32, or in
        JAX's 64-bit mode in float64 if the logits are: of coordinates that are large
        beside their differences, such as a map's, subtract the mean first.
      widths: one positive number, or [d] for one each, in the features' units.
      weights: of the messages between labels: one number, [labels] for one each, or
        [labels, labels], row = label that receives. In the mean field also
        [iterations, labels, labels], for weights that the iterations do not share.
      normalisation: "none", "before", "after" or "symmetric".
      method: "lattice", linear in the points and approximate; "exact", quadratic; or
        "separable", exact and fast, for the points of a regular grid.
      grid: the sides of the grid that the points lie on, if they do: inference holds
        the logits' shape against it. With "separable" the features are its positions,
        as `position_features` has them: each axis's coordinate, last axis first.

    Examples:
      >>> points = np.array([[0.0], [1.0], [9.0]], np.float32)
      >>> kernel = GaussianKernel(points, 2.0, weights=3.0, method="exact")
      >>> means = normalised_filter(kernel)(jnp.array([[0.0], [1.0], [5.0]]))
      >>> print(np.asarray(means).round(2).ravel())
      [0.47 0.53 5.  ]
    """

    features: jax.typing.ArrayLike
    widths: jax.typing.ArrayLike = 1.0
    _: KW_ONLY
    weights: jax.typing.ArrayLike = 1.0
    normalisation: KernelNormalisation = "after"
    method: SpatialMethod = "lattice"
    grid: tuple[int, ...] | None = None


def spatial_kernel(
    shape: tuple[int, ...],
    theta_gamma: jax.typing.ArrayLike = 3.0,
    *,
    spacing: Numbers = 1.0,
    weights: jax.typing.ArrayLike = 3.0,
    normalisation: KernelNormalisation = "after",
    method: SpatialMethod = "lattice",
) -> GaussianKernel:
    """The smoothness kernel: of the positions on a grid of any number of axes.

    Args:
      shape: (length,), (height, width), (depth, height, width) or more.
      theta_gamma: width, positive, in pixels or in the spacing's unit.
      spacing: as in `position_features`.
      weights: as in `GaussianKernel`; the authors start with 3.
      normalisation: as in `GaussianKernel`.
      method: as in `GaussianKernel`.

    Raises:
      ValueError: the shape, the spacing or the width is wrong.

    Examples:
      >>> scan = spatial_kernel((20, 64, 64), 4.0, spacing=(5.0, 0.7, 0.7))  # in mm
      >>> scan.features.shape
      (81920, 3)
    """
    check_positive("theta_gamma", theta_gamma)
    check_choice("normalisation", normalisation, KERNEL_NORMALISATIONS)
    check_choice("method", method, SPATIAL_METHODS)
    return GaussianKernel(
        position_features(shape, spacing),
        theta_gamma,
        weights=weights,
        normalisation=normalisation,
        method=method,
        grid=tuple(shape),
    )


def bilateral_kernel(
    image: jax.typing.ArrayLike,
    theta_alpha: jax.typing.ArrayLike = 160.0,
    theta_beta: Numbers = 3.0,
    *,
    dims: int = 2,
    spacing: Numbers = 1.0,
    weights: jax.typing.ArrayLike = 5.0,
    normalisation: KernelNormalisation = "after",
    method: Method = "lattice",
) -> GaussianKernel:
    """The appearance kernel: of positions and intensities (Zheng et al. 2015).

    Args:
      image: real [height, width, channels], any number of channels; with `dims` other
        than 2 a signal [length, channels] or a volume [depth, height, width, channels].
      theta_alpha: width of the positions, positive, in pixels or the spacing's unit.
      theta_beta: width of the intensities, positive, in their own unit: one number, or
        [channels] for one each.
      dims: number of the image's axes that are positions, all but the last.
      spacing: as in `position_features`.
      weights: as in `GaussianKernel`; the authors start with 5.
      normalisation: as in `GaussianKernel`.
      method: as in `GaussianKernel`.

    Raises:
      ValueError: the image has another rank, or a width or the spacing is wrong.

    Examples:
      >>> multispectral = np.zeros((8, 9, 5), np.float32)
      >>> bilateral_kernel(multispectral, 30.0, (10, 10, 10, 20, 20)).widths.tolist()
      [30.0, 30.0, 10.0, 10.0, 10.0, 20.0, 20.0]
    """
    features = image_features(image, dims=dims, spacing=spacing)
    channels = features.shape[1] - dims
    check_positive("theta_alpha", theta_alpha)
    theta_beta = as_numbers("theta_beta", theta_beta)
    check_positives("theta_beta", theta_beta, channels)
    check_choice("normalisation", normalisation, KERNEL_NORMALISATIONS)
    check_choice("method", method, METHODS)
    return GaussianKernel(
        features,
        bilateral_widths(theta_alpha, theta_beta, dims, channels),
        weights=weights,
        normalisation=normalisation,
        method=method,
        grid=jnp.shape(image)[:-1],
    )


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
      A function of values [points, channels], and of a matrix [mixed, channels] by
      which it mixes them if it is given. It is a pytree of arrays as well, and may go
      through `jit`.

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
    return Partial(_filter_normalised, mask, before, after, unnormalised)


def _filter_normalised(mask, before, after, unnormalised, values, mixing=None):
    """Sums between valid points, divided by what is given before and after."""
    values = _valid(mask, values)
    if before is not None:
        values = values / before
    filtered = unnormalised(values, mixing)
    if after is not None:
        filtered = filtered / after
    return _valid(mask, filtered)


def _valid(mask: jax.Array | None, values: jax.Array) -> jax.Array:
    return values if mask is None else jnp.where(mask, values, 0)


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
      See `prepare_kernel`.
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
    positions serves all images of a size. It is about half of the time of five
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
    dtype = jnp.promote_types(jnp.asarray(kernel.features).dtype, jnp.float32)
    return normalised_filter(kernel, dtype, mask)


def check_kernel(name: str, kernel: GaussianKernel) -> int:
    """Checks a kernel's fields but for the weights, and returns its number of points.

    Raises:
      InputError: naming the field.
    """
    if not isinstance(kernel, GaussianKernel):
        raise InputError(
            f"{name}: expected GaussianKernel, got {type(kernel).__name__}"
        )
    sizes = check_shape(f"{name}.features", kernel.features, "points d")
    check_real(f"{name}.features", kernel.features)
    check_positives(f"{name}.widths", kernel.widths, sizes["d"])
    check_choice(f"{name}.normalisation", kernel.normalisation, KERNEL_NORMALISATIONS)
    check_choice(f"{name}.method", kernel.method, SPATIAL_METHODS)
    is_separable = kernel.method == "separable"
    if kernel.grid is None and not is_separable:
        return sizes["points"]
    check_grid(f"{name}.grid", kernel.grid)
    assert kernel.grid is not None  # what check_grid lets through
    fits = math.prod(kernel.grid) == sizes["points"]
    if not fits or (is_separable and len(kernel.grid) != sizes["d"]):
        raise InputError(
            f"{name}.grid: expected one whose points and axes are those of the "
            f"features, {list(jnp.shape(kernel.features))}, got {kernel.grid}"
        )
    if is_separable and not isinstance(kernel.features, Tracer):
        lines = _coordinates(np.asarray(kernel.features), tuple(kernel.grid))
        mesh = np.meshgrid(*lines, indexing="ij")[::-1]
        if not np.array_equal(
            np.stack(mesh, -1).reshape(-1, len(mesh)), kernel.features
        ):
            raise InputError(
                f"{name}.features: expected positions on the grid {kernel.grid}, last "
                "axis first, as 'separable' needs them, got others"
            )
    return sizes["points"]


def _unnormalised(
    kernel: GaussianKernel,
    features: jax.Array,
    widths: jax.Array,
    mask: jax.Array | None,
) -> Filter:
    """The sums over all points, those of a mask with features that do no harm."""
    d = features.shape[1]
    if kernel.method == "separable":
        assert kernel.grid is not None  # by check_kernel
        lines = _coordinates(features, kernel.grid)
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
    filter_values = Partial(filter_lattice, build_lattice(features))
    if kernel.normalisation != "none":
        return filter_values
    # The factor by which `filter_lattice` falls short, which else cancels.
    return Partial(_filter_scaled, 2.0 ** (d + 1), filter_values)


def _coordinates(features: jax.Array | np.ndarray, grid: tuple[int, ...]) -> list[Any]:
    """Those along each of the grid's axes, of features [points, x, y, ...]."""
    on_grid = features.reshape(*grid, len(grid))[..., ::-1]
    first = (0,) * len(grid)
    return [
        on_grid[(*first[:axis], slice(None), *first[axis + 1 :], axis)]
        for axis in range(len(grid))
    ]


def _mix_and_filter(filter_values, values, mixing=None):
    sizes = check_shape("values", values, "points channels")
    check_floating("values", values)
    if mixing is not None:
        sizes = {"channels": sizes["channels"]}
        check_shape("mixing", mixing, "mixed channels", sizes)
        check_floating("mixing", mixing)
        values = jnp.matmul(values, mixing.T, precision="highest")
    return filter_values(values)


def _filter_scaled(scale, filter_values, values, mixing=None):
    return scale * filter_values(values, mixing)
