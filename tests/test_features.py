"""Features are pixel positions and intensities over their widths, in this order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import pixel_features

from crfrnn_jax import bilateral_features, position_features, spatial_features

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.uint8)


def test_spatial_features_are_x_then_y_by_rows():
    features = spatial_features((2, 3), 2.0)
    expected = [[0, 0], [0.5, 0], [1, 0], [0, 0.5], [0.5, 0.5], [1, 0.5]]
    np.testing.assert_array_equal(features, expected)
    assert features.dtype == jnp.float32


def test_bilateral_features_are_x_y_then_the_channels():
    image = np.array([[[10, 20]], [[30, 40]]], np.float32)
    features = bilateral_features(image, 4.0, 10.0)
    np.testing.assert_allclose(features, [[0, 0, 1, 2], [0, 0.25, 3, 4]], rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_features_of_a_random_image_are_the_references(channels):
    spatial, bilateral = pixel_features(IMAGE[..., :channels], 160, 3, 7)
    ours = bilateral_features(IMAGE[..., :channels], 160.0, 3.0)
    np.testing.assert_allclose(ours, bilateral, rtol=1e-6)
    np.testing.assert_allclose(spatial_features((3, 4), 7.0), spatial, rtol=1e-6)
    shape = tuple(np.array([3, 4]))
    np.testing.assert_array_equal(
        spatial_features(shape, 7.0), spatial_features((3, 4), 7.0)
    )


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.bfloat16, jnp.float32])
def test_features_of_any_image_dtype_are_float32(dtype):
    image = jnp.asarray(IMAGE // 2 * 2, dtype)  # Even numbers are exact in bfloat16.
    features = bilateral_features(image, 5.0, 3.0)
    assert features.dtype == jnp.float32
    expected = bilateral_features((IMAGE // 2 * 2).astype(np.float32), 5.0, 3.0)
    np.testing.assert_array_equal(features, expected)


def test_features_do_not_depend_on_the_64_bit_mode():
    image = IMAGE.astype(np.float32)
    off = bilateral_features(image, 5.0, 3.0), spatial_features((3, 4), 3.0)
    with jax.enable_x64(True):
        on = bilateral_features(image, 5.0, 3.0), spatial_features((3, 4), 3.0)
    for a, b in zip(on, off, strict=True):
        assert a.dtype == b.dtype == jnp.float32
        np.testing.assert_array_equal(a, b)


def test_float64_images_and_widths_keep_their_precision():
    with jax.enable_x64(True):
        image, width = IMAGE.astype(np.float64), np.float64(3)
        assert bilateral_features(image, width, width).dtype == jnp.float64
        assert spatial_features((3, 4), width).dtype == jnp.float64


def test_features_are_differentiable_in_the_image_and_the_widths():
    image = jnp.asarray(IMAGE, jnp.float32)
    gradient = jax.grad(lambda *x: jnp.sum(bilateral_features(*x)), argnums=(0, 1, 2))
    of_image, of_alpha, of_beta = gradient(image, 5.0, 3.0)
    np.testing.assert_allclose(of_image, np.full(IMAGE.shape, 1 / 3), rtol=1e-6)
    # The places add up to 3 (0 + 1 + 2 + 3) + 4 (0 + 1 + 2) = 30.
    np.testing.assert_allclose(of_alpha, -30 / 25, rtol=1e-5)
    np.testing.assert_allclose(of_beta, -IMAGE.sum(dtype=float) / 9, rtol=1e-5)


@pytest.mark.parametrize("width", [0, -1.0, np.nan, np.inf, np.float32(-3)])
def test_widths_that_are_not_positive_raise(width):
    got = rf"expected a positive finite number, got {width}"
    with pytest.raises(ValueError, match=f"theta_alpha: {got}"):
        bilateral_features(IMAGE, width, 3.0)
    with pytest.raises(ValueError, match=f"theta_beta: {got}"):
        bilateral_features(IMAGE, 160.0, width)
    with pytest.raises(ValueError, match=f"theta_gamma: {got}"):
        spatial_features((3, 4), width)


def test_images_of_another_rank_raise():
    with pytest.raises(ValueError, match=r"image: expected .*channels\], got \[3, 4\]"):
        bilateral_features(IMAGE[..., 0], 160.0, 3.0)


@pytest.mark.parametrize("shape", [(3,), (3, 4, 3), (0, 4), (3, -1), (2.5, 3), 5])
def test_shapes_that_are_no_image_raise(shape):
    with pytest.raises(ValueError, match=r"shape: expected \(height, width\).*got "):
        spatial_features(shape, 3.0)


def test_a_windows_positions_are_those_in_the_whole():
    spacing = (2.0, 0.5)
    whole = position_features((5, 7), spacing).reshape(5, 7, 2)
    window = position_features((2, 3), spacing, origin=(3 * 2.0, 4 * 0.5))
    np.testing.assert_array_equal(window.reshape(2, 3, 2), whole[3:, 4:])
    same = position_features((2,), 1.0, origin=np.float32(7))
    np.testing.assert_array_equal(same, [[7], [8]])


@pytest.mark.parametrize("origin", [(1.0, 2.0, 3.0), "0", 1j])
def test_origins_that_are_none_raise(origin):
    with pytest.raises(ValueError, match="origin: expected"):
        position_features((3, 4), origin=origin)
