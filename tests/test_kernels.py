"""Kernels as values: their filters against dense float64 matrices, and their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import DictLattice

from crfrnn_jax import (
    GaussianKernel,
    bilateral_kernel,
    image_features,
    normalised_filter,
    position_features,
    spatial_kernel,
)

RNG = np.random.default_rng(0)
POINTS, D = 30, 4
FEATURES = RNG.normal(size=(POINTS, D)).astype(np.float32)
WIDTHS = np.array([0.7, 1.3, 2.0, 0.9], np.float32)
VALUES = RNG.uniform(size=(POINTS, 3)).astype(np.float32)
NORMALISATIONS = ["none", "before", "after", "symmetric"]


def dense_kernel(features, widths=1.0, normalisation="none"):
    """The kernel as one float64 matrix, by its definition."""
    scaled = np.asarray(features, np.float64) / np.asarray(widths, np.float64)
    squared = ((scaled[:, None] - scaled[None]) ** 2).sum(-1)
    kernel = np.exp(-0.5 * squared)
    sums = kernel.sum(1)
    return {
        "none": kernel,
        "before": kernel / sums[None],
        "after": kernel / sums[:, None],
        "symmetric": kernel / np.sqrt(np.outer(sums, sums)),
    }[normalisation]


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_exact_filters_are_the_dense_matrices(normalisation):
    kernel = GaussianKernel(
        FEATURES, WIDTHS, normalisation=normalisation, method="exact"
    )
    truth = dense_kernel(FEATURES, WIDTHS, normalisation) @ VALUES
    np.testing.assert_allclose(normalised_filter(kernel)(VALUES), truth, rtol=1e-5)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_lattice_filters_are_the_reference_lattices(normalisation):
    """Unnormalised it is 2^(d+1) times the dictionary's, on the Gaussian's scale."""
    kernel = GaussianKernel(FEATURES, WIDTHS, normalisation=normalisation)
    # In the layer's precision: a vertex is touched or not.
    lattice = DictLattice(FEATURES / WIDTHS)
    sums = lattice.filter(np.ones((POINTS, 1)))
    truth = {
        "none": lambda: 2 ** (D + 1) * lattice.filter(VALUES),
        "before": lambda: lattice.filter(VALUES / sums),
        "after": lambda: lattice.filter(VALUES) / sums,
        "symmetric": lambda: lattice.filter(VALUES / np.sqrt(sums)) / np.sqrt(sums),
    }[normalisation]()
    np.testing.assert_allclose(normalised_filter(kernel)(VALUES), truth, rtol=2e-5)


def test_the_lattice_meets_the_gaussians_scale():
    """Within a third, for smooth data: many points and a wide kernel."""
    image = np.zeros((40, 40, 1), np.float32)
    kernels = [
        bilateral_kernel(image, 5.0, 10.0, normalisation="none", method=method)
        for method in ("lattice", "exact")
    ]
    ones = jnp.ones((1600, 1))
    lattice, exact = (normalised_filter(kernel)(ones) for kernel in kernels)
    inside = np.s_[15:25, 15:25]
    ratio = (lattice / exact).reshape(40, 40)[inside]
    assert 2 / 3 < ratio.min() <= ratio.max() < 4 / 3


@pytest.mark.parametrize("shape", [(9,), (4, 5), (3, 4, 2), (2, 3, 2, 2)])
@pytest.mark.parametrize("normalisation", ["none", "symmetric"])
def test_separable_filters_are_the_exact_ones_of_any_grid(shape, normalisation):
    spacing = np.arange(1, len(shape) + 1, dtype=np.float32)
    values = RNG.uniform(size=(np.prod(shape), 2)).astype(np.float32)
    kernel = spatial_kernel(
        shape,
        1.7,
        spacing=spacing,
        normalisation=normalisation,
        method="separable",
    )
    places = np.argwhere(np.ones(shape)) * spacing
    truth = dense_kernel(places, 1.7, normalisation) @ values
    np.testing.assert_allclose(normalised_filter(kernel)(values), truth, rtol=1e-5)


@pytest.mark.parametrize("method", ["lattice", "exact"])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_masked_points_might_as_well_not_be_there(method, normalisation):
    mask = RNG.uniform(size=POINTS) < 0.6
    features = np.where(mask[:, None], FEATURES, np.nan).astype(np.float32)
    values = np.where(mask[:, None], VALUES, np.nan).astype(np.float32)
    options = {"normalisation": normalisation, "method": method}

    def filtered(features, widths, values, mask=None):
        kernel = GaussianKernel(features, widths, **options)
        return normalised_filter(kernel, mask=mask)(values)

    def loss(widths, features, values, mask=None):
        return jnp.sum(jnp.sin(filtered(features, widths, values, mask)))

    masked = filtered(features, WIDTHS, values, mask)
    alone = filtered(FEATURES[mask], WIDTHS, VALUES[mask])
    np.testing.assert_allclose(masked[mask], alone, rtol=1e-5)
    np.testing.assert_array_equal(masked[~mask], 0)
    gradient = jax.grad(loss)
    truth = gradient(WIDTHS, FEATURES[mask], VALUES[mask])
    assert np.abs(truth).max() > 1e-2
    scale = np.abs(truth).max()
    ours = gradient(WIDTHS, features, values, mask)
    np.testing.assert_allclose(ours, truth, atol=1e-4 * scale)


def test_features_of_grids_lie_last_axis_first():
    features = position_features((2, 1, 3), (10.0, 7.0, 0.5))
    expected = [[0.5 * x, 0, 10 * z] for z in range(2) for x in range(3)]
    np.testing.assert_array_equal(features, expected)
    volume = RNG.uniform(size=(2, 1, 3, 2)).astype(np.float32)
    joined = image_features(volume, dims=3, spacing=(10.0, 7.0, 0.5))
    np.testing.assert_array_equal(joined[:, :3], expected)
    np.testing.assert_array_equal(joined[:, 3:], volume.reshape(6, 2))


def test_bilateral_widths_are_the_channels_own():
    image = RNG.uniform(0, 255, (3, 4, 2)).astype(np.float32)
    kernel = bilateral_kernel(image, 3.0, (20.0, 90.0), method="exact")
    np.testing.assert_array_equal(kernel.widths, [3, 3, 20, 90])
    values = VALUES[:12]
    truth = dense_kernel(kernel.features, [3, 3, 20, 90], "after") @ values
    np.testing.assert_allclose(normalised_filter(kernel)(values), truth, rtol=1e-5)


def test_kernels_go_through_jit_and_compile_once():
    @jax.jit
    def filtered(kernel):
        return normalised_filter(kernel)(jnp.asarray(VALUES))

    kernel = GaussianKernel(FEATURES, WIDTHS, method="exact")
    first = filtered(kernel)
    second = filtered(GaussianKernel(2 * FEATURES, 2 * WIDTHS, method="exact"))
    np.testing.assert_allclose(first, second, rtol=1e-6)
    assert filtered._cache_size() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.ones(4)}, r"kernel\.features: expected shape \[points, d\]"),
        ({"features": [[1.0]]}, r"kernel\.features: expected an array, got list"),
        ({"features": 1j * FEATURES}, r"kernel\.features: expected real numbers"),
        ({"widths": WIDTHS[:3]}, r"kernel\.widths: expected one number or 4, .*\(3,\)"),
        ({"widths": 0.0}, r"kernel\.widths: expected a positive finite number"),
        ({"widths": -WIDTHS}, r"kernel\.widths: expected positive finite numbers"),
        ({"normalisation": "both"}, r"kernel\.normalisation: .*'symmetric'.*'both'"),
        ({"method": "fast"}, r"kernel\.method: expected one of .*got 'fast'"),
        ({"method": "separable"}, r"kernel\.grid: expected the sides of .*got None"),
        (
            {"method": "separable", "grid": (5, 6)},
            r"kernel\.grid: expected one whose points .*\[30, 4\], got \(5, 6\)",
        ),
        (
            {
                "features": np.indices((5, 6)).reshape(2, -1).T.astype(np.float32),
                "widths": 1.0,
                "method": "separable",
                "grid": (5, 6),
            },
            r"kernel\.features: expected positions on the grid \(5, 6\), last axis",
        ),
        ({"grid": (5, 7)}, r"kernel\.grid: expected one whose points"),
        ({"grid": "5x6"}, r"kernel\.grid: expected the sides of a grid"),
    ],
)
def test_bad_fields_are_named(changes, message):
    kernel = GaussianKernel(**({"features": FEATURES} | changes))
    with pytest.raises(ValueError, match=message):
        normalised_filter(kernel)


@pytest.mark.parametrize("method", ["lattice", "exact", "separable"])
@pytest.mark.parametrize("normalisation", ["none", "after"])
def test_values_that_do_not_fit_a_filter_are_named(method, normalisation):
    kernel = spatial_kernel((3, 4), 1.0, method=method, normalisation=normalisation)
    filter_values = normalised_filter(kernel)
    values = np.ones((12, 2), np.float32)
    for wrong, mixing, message in (
        (values[:, 0], None, "values: expected shape"),
        (np.ones((24, 2), np.float32), None, "values: expected shape"),
        (values.astype(int), None, "values: expected floating-point"),
        (values, np.ones((2, 3), np.float32), "mixing: expected shape"),
        (values, np.ones((2, 2), int), "mixing: expected floating-point"),
    ):
        with pytest.raises(ValueError, match=message):
            filter_values(wrong, mixing)
    with pytest.raises(ValueError, match="minuend: expected shape"):
        filter_values(values, None, values[:1])
    with pytest.raises(ValueError, match="minuend: expected floating-point"):
        filter_values(values, None, values.astype(int))


def test_only_the_lattice_of_positions_is_a_grids():
    def order_of(kernel):
        return normalised_filter(kernel).args[-1].args[0].entries.order

    assert order_of(spatial_kernel((3, 4))) is None
    assert order_of(bilateral_kernel(np.zeros((3, 4, 1)))) is not None
    assert order_of(GaussianKernel(np.zeros((12, 2), np.float32))) is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spatial_kernel((3, 0)), r"shape: expected the sides of a grid"),
        (lambda: spatial_kernel(7), r"shape: expected the sides of a grid.*got 7"),
        (lambda: spatial_kernel((3,), -1), "theta_gamma: expected a positive"),
        (lambda: spatial_kernel((3,), method="fast"), "method: expected one of"),
        (
            lambda: spatial_kernel((3,), normalisation="sum"),
            "normalisation: expected one of",
        ),
        (
            lambda: bilateral_kernel(np.ones((3, 4, 1)), method="separable"),
            "method: expected one of",
        ),
        (
            lambda: spatial_kernel((3, 4), spacing=np.ones(3)),
            r"spacing: expected one number or 2, got shape \(3,\)",
        ),
        (
            lambda: bilateral_kernel(np.ones((3, 4))),
            r"image: expected shape \[height, width, channels\], got \[3, 4\]",
        ),
        (
            lambda: bilateral_kernel(np.ones((3, 4, 1)), dims=3),
            r"image: expected shape \[depth, height, width, channels\]",
        ),
        (lambda: bilateral_kernel(np.ones((3, 4, 1)), dims=4), "dims: expected one of"),
        (
            lambda: bilateral_kernel(np.ones((3, 4, 2)), 3.0, np.ones(3)),
            r"theta_beta: expected one number or 2, got shape \(3,\)",
        ),
        (
            lambda: normalised_filter(FEATURES),
            "kernel: expected GaussianKernel, got ndarray",
        ),
        (
            lambda: normalised_filter(GaussianKernel(FEATURES), mask=np.ones(30)),
            "mask: expected True and False, got dtype float",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
