"""Panels: an image, its truth and the predictions side by side."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from crfrnn_jax.data import SegmentationData
from crfrnn_jax.evaluation.prediction import Predict
from crfrnn_jax.writing import write_whole

_GAP = 4
_TITLE = 14
_LEAST_WIDTH = 160
_IGNORED = (224, 224, 224)
_MENDED, _BROKEN, _WRONG = (40, 170, 60), (210, 40, 40), (250, 200, 90)


def palette(num_labels: int) -> np.ndarray:
    """Colours of the labels, uint8 [num_labels, 3]: Pascal VOC's, by its bit rule.

    Bit 3k + c of the label is bit 7 - k of colour channel c.
    """
    label = np.arange(num_labels)[:, None]
    channel = np.arange(3)
    colours = np.zeros((num_labels, 3), np.int64)
    for k in range(8):
        colours |= ((label >> (3 * k + channel)) & 1) << (7 - k)
    return colours.astype(np.uint8)


def colour_labels(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """Label map [height, width] to uint8 [height, width, 3]; unknown labels grey."""
    known = (labels >= 0) & (labels < num_labels)
    colours = palette(num_labels)[np.where(known, labels, 0)]
    return np.where(known[..., None], colours, np.array(_IGNORED, np.uint8))


def colour_difference(
    truth: np.ndarray, before: np.ndarray, after: np.ndarray, ignore_label: int
) -> np.ndarray:
    """What `after` mends (green), breaks (red) and leaves wrong (yellow)."""
    right_before, right_after = before == truth, after == truth
    picture = np.full((*truth.shape, 3), 255, np.uint8)
    picture[~right_before & ~right_after] = _WRONG
    picture[~right_before & right_after] = _MENDED
    picture[right_before & ~right_after] = _BROKEN
    picture[truth == ignore_label] = _IGNORED
    return picture


def save_panels(
    path: Path,
    predictors: Mapping[str, Predict],
    data: SegmentationData,
    examples: Iterable[Mapping[str, Any]],
) -> None:
    """Writes one picture with a row for each example.

    The columns are the image, the truth, each prediction, and the mistakes: those that
    the last predictor mends, makes and leaves of the first one's.
    """
    rows = []
    for example in examples:
        truth = example["label"]
        predictions = {name: f(example["image"]) for name, f in predictors.items()}
        columns = {"image": example["image"], "truth": truth, **predictions}
        pictures = {
            name: array if array.ndim == 3 else colour_labels(array, data.num_labels)
            for name, array in columns.items()
        }
        first, last = (list(predictions.values())[i] for i in (0, -1))
        title = "mended green, broken red" if len(predictions) > 1 else "wrong"
        pictures[title] = colour_difference(truth, first, last, data.ignore_label)
        rows.append(_draw_row(pictures))
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    write_whole(path, lambda file: sheet.save(file, format="png"))


def _draw_row(pictures: Mapping[str, np.ndarray]) -> Image.Image:
    height, width = next(iter(pictures.values())).shape[:2]
    scale = max(1, -(-_LEAST_WIDTH // width))
    height, width = height * scale, width * scale
    row = Image.new(
        "RGB", ((width + _GAP) * len(pictures), height + _TITLE + _GAP), "white"
    )
    draw = ImageDraw.Draw(row)
    for i, (name, picture) in enumerate(pictures.items()):
        left = i * (width + _GAP)
        draw.text((left, 1), name, fill="black")
        enlarged = Image.fromarray(picture).resize(
            (width, height), Image.Resampling.NEAREST
        )
        row.paste(enlarged, (left, _TITLE))
    return row
