"""Gaussian kernels as values: features, widths, weights and a normalisation."""

import math
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from crfrnn_jax.checks import (
    InputError,
    as_numbers,
    check_choice,
    check_grid,
    check_positive,
    check_positives,
    check_real,
    check_shape,
)
from crfrnn_jax.features import (
    Numbers,
    bilateral_widths,
    image_features,
    position_features,
)

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
    origin: Numbers = 0.0,
    weights: jax.typing.ArrayLike = 3.0,
    normalisation: KernelNormalisation = "after",
    method: SpatialMethod = "lattice",
) -> GaussianKernel:
    """The smoothness kernel: of the positions on a grid of any number of axes.

    Args:
      shape: (length,), (height, width), (depth, height, width) or more.
      theta_gamma: width, positive, in pixels or in the spacing's unit.
      spacing: as in `position_features`.
      origin: as in `position_features`.
      weights: as in `GaussianKernel`; the authors start with 3.
      normalisation: as in `GaussianKernel`.
      method: as in `GaussianKernel`.

    Raises:
      ValueError: the shape, the spacing, the origin or the width is wrong.

    Examples:
      >>> scan = spatial_kernel((20, 64, 64), 4.0, spacing=(5.0, 0.7, 0.7))  # in mm
      >>> scan.features.shape
      (81920, 3)
    """
    check_positive("theta_gamma", theta_gamma)
    check_choice("normalisation", normalisation, KERNEL_NORMALISATIONS)
    check_choice("method", method, SPATIAL_METHODS)
    return GaussianKernel(
        position_features(shape, spacing, origin),
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
    origin: Numbers = 0.0,
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
      origin: as in `position_features`.
      weights: as in `GaussianKernel`; the authors start with 5.
      normalisation: as in `GaussianKernel`.
      method: as in `GaussianKernel`.

    Raises:
      ValueError: the image has another rank, or a width, the spacing or the origin is
        wrong.

    Examples:
      >>> multispectral = np.zeros((8, 9, 5), np.float32)
      >>> bilateral_kernel(multispectral, 30.0, (10, 10, 10, 20, 20)).widths.tolist()
      [30.0, 30.0, 10.0, 10.0, 10.0, 20.0, 20.0]
    """
    features = image_features(image, dims=dims, spacing=spacing, origin=origin)
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
        lines = coordinates(np.asarray(kernel.features), tuple(kernel.grid))
        mesh = np.meshgrid(*lines, indexing="ij")[::-1]
        if not np.array_equal(
            np.stack(mesh, -1).reshape(-1, len(mesh)), kernel.features
        ):
            raise InputError(
                f"{name}.features: expected positions on the grid {kernel.grid}, last "
                "axis first, as 'separable' needs them, got others"
            )
    return sizes["points"]


def coordinates(features: jax.Array | np.ndarray, grid: tuple[int, ...]) -> list[Any]:
    """Those along each of the grid's axes, of features [points, x, y, ...]."""
    on_grid = features.reshape(*grid, len(grid))[..., ::-1]
    first = (0,) * len(grid)
    return [
        on_grid[(*first[:axis], slice(None), *first[axis + 1 :], axis)]
        for axis in range(len(grid))
    ]
