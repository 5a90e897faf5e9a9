import numpy as np
import pytest

from crfrnn_jax.metrics import (
    boundary_distance,
    confusion_matrix,
    iou_per_class,
    mean_iou,
    pixel_accuracy,
    trimap_confusions,
)

IGNORE = 255


def _maps(seed, shape=(9, 11), num_labels=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_labels, shape)
    predictions = rng.integers(0, num_labels, shape)
    labels[rng.random(shape) < 0.2] = IGNORE
    return labels, predictions


def test_confusion_counts_every_valid_pixel_once():
    labels, predictions = _maps(0)
    expected = np.zeros((4, 4), int)
    for true, predicted in zip(labels.ravel(), predictions.ravel(), strict=True):
        if true != IGNORE:
            expected[true, predicted] += 1
    confusion = confusion_matrix(
        labels=labels, predictions=predictions, num_labels=4, ignore_label=IGNORE
    )
    np.testing.assert_array_equal(confusion, expected)
    assert confusion.dtype == np.int64


def test_iou_is_intersection_over_union_of_the_masks():
    labels, predictions = _maps(1)
    confusion = confusion_matrix(
        labels=labels, predictions=predictions, num_labels=4, ignore_label=IGNORE
    )
    valid = labels != IGNORE
    for i, iou in enumerate(iou_per_class(confusion)):
        true, predicted = (labels == i) & valid, (predictions == i) & valid
        assert iou == (true & predicted).sum() / (true | predicted).sum()
    assert mean_iou(confusion) == pytest.approx(iou_per_class(confusion).mean())
    assert pixel_accuracy(confusion) == (labels == predictions)[valid].mean()


def test_classes_that_do_not_occur_count_for_nothing():
    confusion = np.zeros((3, 3), np.int64)
    confusion[0, 0], confusion[0, 1] = 3, 1
    np.testing.assert_array_equal(iou_per_class(confusion), [0.75, 0.0, np.nan])
    assert mean_iou(confusion) == 0.375
    assert np.isnan(mean_iou(np.zeros((3, 3), np.int64)))
    assert np.isnan(pixel_accuracy(np.zeros((3, 3), np.int64)))


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        (
            np.zeros((2, 2), int),
            np.zeros((2, 3), int),
            "predictions: expected the shape",
        ),
        (np.full((2, 2), 4), np.zeros((2, 2), int), r"labels: expected 0..3, got 4..4"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), r"predictions: .* got -1..-1"),
    ],
)
def test_names_what_is_out_of_range(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(
            labels=labels, predictions=predictions, num_labels=4, ignore_label=IGNORE
        )


def _brute_distance(labels):
    """1 + distance to the nearest pixel that has a 4-neighbour of another label."""
    height, width = labels.shape
    boundary = [
        (y, x)
        for y in range(height)
        for x in range(width)
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        if 0 <= y + dy < height
        and 0 <= x + dx < width
        and labels[y + dy, x + dx] != labels[y, x]
    ]
    return np.array(
        [
            [1 + min(np.hypot(y - v, x - u) for v, u in boundary) for x in range(width)]
            for y in range(height)
        ]
    )


def test_boundary_distance_equals_the_nearest_of_all_boundary_pixels():
    labels = np.zeros((8, 10), int)
    labels[2:5, 3:6] = 1
    labels[6:, 7:] = 2
    np.testing.assert_allclose(
        boundary_distance(labels, IGNORE), _brute_distance(labels)
    )


def test_boundary_runs_along_the_middle_of_an_ignored_band():
    labels = np.zeros((4, 10), int)
    labels[:, 6:] = 1
    labels[:, 4:6] = IGNORE
    np.testing.assert_array_equal(
        boundary_distance(labels, IGNORE)[0], [5, 4, 3, 2, 1, 1, 2, 3, 4, 5]
    )


@pytest.mark.parametrize("value", [0, IGNORE])
def test_without_a_boundary_the_distance_is_infinite(value):
    assert np.isinf(boundary_distance(np.full((3, 3), value), IGNORE)).all()


def test_trimaps_grow_to_the_whole_image():
    labels, predictions = _maps(2)
    labels[:, :6] = 0
    arguments = {
        "labels": labels,
        "predictions": predictions,
        "num_labels": 4,
        "ignore_label": IGNORE,
    }
    distance = boundary_distance(labels, IGNORE)
    trimaps = trimap_confusions(**arguments, distance=distance, widths=(1, 2, 100))
    whole = confusion_matrix(**arguments)
    counts = trimaps.sum((1, 2))
    assert counts[0] < counts[1] < counts[2]
    np.testing.assert_array_equal(trimaps[2], whole)
    assert counts[1] == ((distance <= 2) & (labels != IGNORE)).sum()
