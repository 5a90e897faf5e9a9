import numpy as np
import pytest

from crfrnn_jax.data.scenes import _SHAPES, CLASS_NAMES, IGNORE_LABEL, make_scene


def scenes(count, size=64):
    return [make_scene(np.random.default_rng([3, i]), size) for i in range(count)]


def test_scene_depends_on_its_generator_alone():
    first = make_scene(np.random.default_rng(5), 64)
    again = make_scene(np.random.default_rng(5), 64)
    other = make_scene(np.random.default_rng(6), 64)
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


@pytest.mark.parametrize("size", [64, 96])
def test_scene_has_the_promised_form(size):
    image, label = make_scene(np.random.default_rng(0), size)
    assert image.dtype == label.dtype == np.uint8
    assert image.shape == (size, size, 3)
    assert label.shape == (size, size)
    assert set(np.unique(label)) <= {*range(len(CLASS_NAMES)), IGNORE_LABEL}


def test_every_class_is_common():
    labels = np.stack([label for _, label in scenes(60)])
    for index, name in enumerate(CLASS_NAMES):
        share = (labels == index).any((1, 2)).mean()
        assert share > 0.2, name


def test_ignored_band_is_one_pixel_wide():
    # Half a pixel on either side: two classes never touch, and no band is three thick.
    touching = thick = total = 0
    for _, label in scenes(20):
        ignored = label == IGNORE_LABEL
        left, right = label[:, :-1], label[:, 1:]
        kept = ~ignored[:, :-1] & ~ignored[:, 1:]
        touching += (kept & (left != right)).sum()
        eroded = ignored[1:-1, 1:-1].copy()
        for rows in (slice(None, -2), slice(1, -1), slice(2, None)):
            for columns in (slice(None, -2), slice(1, -1), slice(2, None)):
                eroded &= ignored[rows, columns]
        thick += eroded.sum()
        total += ignored.sum()
    assert total > 0
    assert touching < 0.01 * total
    assert thick < 0.01 * total


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 4])
@pytest.mark.parametrize("proportion", [0.0, 1.0])
def test_thin_parts_keep_labelled_pixels(angle, proportion):
    y, x = np.mgrid[:64, :64] - 31.7
    turned = (
        np.cos(angle) * x + np.sin(angle) * y,
        np.cos(angle) * y - np.sin(angle) * x,
    )
    distance = _SHAPES["wheel"](*turned, 20.0, proportion)
    # Each of the five spokes, walked from hub to rim: labelled all along.
    for spoke in range(5):
        direction = angle + spoke * 2 * np.pi / 5
        for r in np.arange(2.0, 19.0, 0.5):
            column = r * np.cos(direction) + 31.7
            row = r * np.sin(direction) + 31.7
            near = distance[int(row) : int(row) + 2, int(column) : int(column) + 2]
            assert near.min() < -0.5


@pytest.mark.parametrize("name", _SHAPES)
def test_shapes_are_signed_distances_next_to_their_edge(name):
    y, x = np.mgrid[-30:30:0.25, -30:30:0.25]
    distance = _SHAPES[name](x, y, 20.0, 0.5)
    assert distance.min() < -1
    assert np.hypot(x, y)[distance < 0].max() < 20 * 1.3
    slope = np.hypot(*np.gradient(distance, 0.25))[np.abs(distance) < 0.5]
    assert np.median(slope) == pytest.approx(1, abs=0.05)


def test_objects_stand_out_from_noise():
    # Across a boundary colours differ by far more than within a region: what a
    # bilateral kernel needs.
    across, within = [], []
    for image, label in scenes(20):
        image = image.astype(float)
        steps = np.linalg.norm(image[:, 3:] - image[:, :-3], axis=-1)
        left, right = label[:, :-3], label[:, 3:]
        known = (left != IGNORE_LABEL) & (right != IGNORE_LABEL)
        across.append(steps[known & (left != right) & ((left == 0) | (right == 0))])
        within.append(steps[known & (left == right)])
    assert np.median(np.concatenate(across)) > 60
    assert np.median(np.concatenate(within)) < 20
