import numpy as np
import pytest

from crfrnn_jax.data.transforms import (
    jitter_color,
    place_on_canvas,
    random_crop,
    random_flip,
    random_scale,
)

IGNORED = 255


def coded(height, width):
    """An image that is its own labels, in patches of 16 by 16 pixels."""
    rows, columns = np.mgrid[:height, :width] // 16
    label = ((rows * 5 + columns * 3) % 16 * 15).astype(np.int32)
    return np.repeat(label.astype(np.uint8)[..., None], 3, axis=-1), label


def rngs(count):
    return [np.random.default_rng(i) for i in range(count)]


def test_flip_mirrors_both_in_half_of_the_cases():
    image, label = coded(16, 40)
    mirrored = 0
    for rng in rngs(200):
        flipped, flipped_label = random_flip(image, label, rng)
        np.testing.assert_array_equal(flipped[..., 0], flipped_label)
        mirrored += (flipped_label == label[:, ::-1]).all()
    assert 70 < mirrored < 130


def test_scale_moves_image_and_label_alike():
    image, label = coded(64, 96)
    for rng in rngs(20):
        scaled, scaled_label = random_scale(image, label, rng, 0.5, 2.0)
        assert scaled.shape[:2] == scaled_label.shape
        assert scaled_label.dtype == np.int32
        assert set(np.unique(scaled_label)) <= set(np.unique(label))
        # Only the image is interpolated, within two pixels of a patch's border.
        around = np.lib.stride_tricks.sliding_window_view(scaled_label, (5, 5))
        inner = np.ptp(around, axis=(2, 3)) == 0
        assert inner.mean() > 0.2
        difference = scaled[2:-2, 2:-2, 0].astype(int) - scaled_label[2:-2, 2:-2]
        assert np.abs(difference[inner]).max() <= 1


def test_scale_is_log_uniform_and_isotropic():
    image, label = coded(64, 128)
    shapes = [random_scale(image, label, rng, 0.5, 2.0)[1].shape for rng in rngs(300)]
    heights, widths = np.array(shapes).T
    assert heights.min() >= 32
    assert heights.max() <= 128
    np.testing.assert_allclose(widths, 2 * heights, atol=1)
    assert np.mean(heights < 64) == pytest.approx(0.5, abs=0.1)


def test_scale_by_one_changes_nothing():
    image, label = coded(16, 24)
    scaled, scaled_label = random_scale(
        image, label, np.random.default_rng(0), 1.0, 1.0
    )
    np.testing.assert_array_equal(scaled, image)
    np.testing.assert_array_equal(scaled_label, label)


def test_crop_reaches_every_corner_and_moves_both_alike():
    label = np.arange(30, dtype=np.int32).reshape(5, 6)
    image = np.repeat(label.astype(np.uint8)[..., None], 3, axis=-1)
    corners = set()
    for rng in rngs(200):
        window, window_label, mask = random_crop(image, label, rng, (4, 3), IGNORED)
        assert mask.all()
        assert mask.shape == (4, 3)
        assert window_label.shape == (4, 3)
        np.testing.assert_array_equal(window[..., 0], window_label)
        corners.add(int(window_label[0, 0]))
    assert corners == {0, 1, 2, 3, 6, 7, 8, 9}


def test_crop_pads_small_images_with_their_edge_and_ignored_labels():
    image, label = coded(8, 16)
    image[...] = np.arange(16, dtype=np.uint8)[:, None]
    tops = set()
    for rng in rngs(50):
        window, window_label, mask = random_crop(image, label, rng, (12, 10), IGNORED)
        assert window.shape == (12, 10, 3)
        inside = window_label != IGNORED
        np.testing.assert_array_equal(mask, inside)
        assert inside.all(axis=1).sum() == 8
        assert inside.any(axis=1).sum() == 8
        tops.add(int(inside.argmax(axis=0)[0]))
        np.testing.assert_array_equal(window, np.broadcast_to(window[:1], window.shape))
    assert tops == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("size", [(8, 16), (16, 8), (10, 20), (7, 5)])
def test_a_canvas_holds_the_whole_image_in_its_upper_left_corner(size):
    image, label = coded(*size)
    canvas, canvas_label, mask = place_on_canvas(image, label, 16, IGNORED)
    assert canvas.shape == (16, 16, 3)
    height, width = (round(side * 16 / max(size)) for side in size)
    expected = np.zeros((16, 16), bool)
    expected[:height, :width] = True
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(canvas_label != IGNORED, expected)
    assert not canvas[~mask].any()
    if max(size) == 16:
        np.testing.assert_array_equal(canvas[: size[0], : size[1]], image)
        np.testing.assert_array_equal(canvas_label[: size[0], : size[1]], label)


def test_color_of_strength_zero_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    np.testing.assert_array_equal(
        jitter_color(image, np.random.default_rng(1), 0), image
    )


def test_color_changes_brightness_contrast_and_saturation():
    image = np.random.default_rng(0).integers(60, 120, (16, 16, 3), np.uint8)
    jittered = np.stack([jitter_color(image, rng, 0.5) for rng in rngs(100)]).astype(
        float
    )
    brightness = jittered.mean((1, 2, 3)) / image.mean()
    contrast = jittered.mean(-1).std((1, 2)) / image.mean(-1).std() / brightness
    saturation = np.ptp(jittered, axis=-1).mean((1, 2)) / np.ptp(image, axis=-1).mean()
    saturation /= brightness * contrast
    for factor in (brightness, contrast, saturation):
        assert 0.45 < factor.min() < 0.7
        assert 1.3 < factor.max() < 1.55
