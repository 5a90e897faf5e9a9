"""Metrics of semantic segmentation, all read off one exact confusion matrix.

Rows are true labels, columns predicted ones. Matrices of images add up to the matrix of
the set; they are int64 in numpy, so that no count is ever rounded.
"""

import numpy as np
from scipy import ndimage

from crfrnn_jax.checks import InputError


def confusion_matrix(
    *, labels: np.ndarray, predictions: np.ndarray, num_labels: int, ignore_label: int
) -> np.ndarray:
    """Counts the pixels of each pair of true and predicted label.

    Args:
      labels: int array, each in 0..num_labels - 1 or `ignore_label`.
      predictions: int array of the same shape, each in 0..num_labels - 1.
      num_labels: number of labels.
      ignore_label: true label of the pixels that do not count.

    Returns:
      int64 [num_labels (true), num_labels (predicted)].

    Raises:
      ValueError: the shapes differ, or a label or prediction is out of range.
    """
    if labels.shape != predictions.shape:
        raise InputError(
            f"predictions: expected the shape of labels, {list(labels.shape)}, got "
            f"{list(predictions.shape)}"
        )
    valid = labels != ignore_label
    true = labels[valid].astype(np.int64)
    predicted = predictions[valid].astype(np.int64)
    for name, values in (("labels", true), ("predictions", predicted)):
        if values.size and not (values.min() >= 0 and values.max() < num_labels):
            raise InputError(
                f"{name}: expected 0..{num_labels - 1}, got "
                f"{values.min()}..{values.max()}"
            )
    pairs = np.bincount(true * num_labels + predicted, minlength=num_labels**2)
    return pairs.reshape(num_labels, num_labels)


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class: float64 [labels].

    NaN for a class that is neither in the truth nor predicted.
    """
    intersection = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - intersection
    return np.divide(
        intersection, union, out=np.full(len(confusion), np.nan), where=union > 0
    )


def mean_iou(confusion: np.ndarray) -> float:
    """Mean of the IoU of the classes that occur; NaN if none does."""
    ious = iou_per_class(confusion)
    occurring = ious[~np.isnan(ious)]
    return float(occurring.mean()) if occurring.size else float("nan")


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of the pixels whose label is right; NaN if there is none."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


def boundary_distance(labels: np.ndarray, ignore_label: int) -> np.ndarray:
    """Distance of every pixel to the nearest true boundary, in pixels.

    A pixel with a 4-neighbour of another label lies on the boundary, at distance 1; the
    others are 1 plus their Euclidean distance to one that does. Ignored pixels take the
    label of the nearest one that is not, so that where an ignored band covers the
    boundary, as in Pascal VOC, it is thought to run along the band's middle.

    Args:
      labels: int [height, width].
      ignore_label: label of the pixels without a truth.

    Returns:
      float64 [height, width]; infinite if there is no boundary.
    """
    ignored = labels == ignore_label
    if ignored.all():
        return np.full(labels.shape, np.inf)
    if ignored.any():
        _, nearest = ndimage.distance_transform_edt(  # pyright: ignore
            ignored, return_indices=True
        )
        labels = labels[tuple(nearest)]
    boundary = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        along = np.swapaxes(labels, 0, axis)
        edge = along[1:] != along[:-1]
        view = np.swapaxes(boundary, 0, axis)
        view[1:] |= edge
        view[:-1] |= edge
    if not boundary.any():
        return np.full(labels.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~boundary)) + 1.0


def trimap_confusions(
    *,
    labels: np.ndarray,
    predictions: np.ndarray,
    num_labels: int,
    ignore_label: int,
    distance: np.ndarray,
    widths: tuple[int, ...],
) -> np.ndarray:
    """Confusion matrices of the trimaps: bands along the true boundaries.

    Args:
      labels: int [height, width], each in 0..num_labels - 1 or `ignore_label`.
      predictions: int [height, width].
      num_labels: number of labels.
      ignore_label: label of the pixels that do not count.
      distance: [height, width], the labels' `boundary_distance`.
      widths: of the bands, in pixels to each side of the boundary (Krähenbühl and
        Koltun 2011, section 5.1, evaluate 1 to 10 and more).

    Returns:
      int64 [widths, num_labels, num_labels].
    """
    return np.stack(
        [
            confusion_matrix(
                labels=np.where(distance <= width, labels, ignore_label),
                predictions=predictions,
                num_labels=num_labels,
                ignore_label=ignore_label,
            )
            for width in widths
        ]
    )
