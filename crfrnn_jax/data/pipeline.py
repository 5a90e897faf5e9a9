"""Batches to train on and examples to evaluate on.

The order of the batches and every augmentation are a function of the seed and of the
position in the stream, whatever the number of threads, so that a restored iterator goes
on with exactly the batches it would have given.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

import grain
import numpy as np

from crfrnn_jax.checks import InputError, check_at_least, check_choice
from crfrnn_jax.data.dataset import SegmentationData
from crfrnn_jax.data.transforms import (
    jitter_color,
    place_on_canvas,
    random_crop,
    random_flip,
    random_scale,
)


class Augment(Protocol):
    """What to change at random before the crop.

    Attributes:
      flip: mirror left and right in half of the cases.
      scale: lowest and highest factor of the size; (1.0, 1.0) is off.
      color: strength of the change of colours, in 0..1; 0 is off.
    """

    flip: bool
    scale: tuple[float, float]
    color: float


def train_batches(
    data: SegmentationData,
    *,
    batch_size: int,
    crop: tuple[int, int],
    augment: Augment,
    seed: int,
    canvas: int = 0,
    num_threads: int = 4,
    part: tuple[int, int] = (0, 1),
) -> grain.DatasetIterator:
    """Endless batches of the training split, another order in every epoch.

    With several parts, each has its share of every batch, as many examples as the
    others: together they are the batches of one part alone.

    Args:
      data: the data set.
      batch_size: examples in a batch, B.
      crop: (height, width) of the examples in pixels; smaller images are padded.
      augment: the random changes.
      seed: of order, crops and changes, in 0..2**32 - 1.
      canvas: 0, or the side of the square on which each image is placed as the authors
        do, in place of a random size and crop; `crop` must then be that square.
      num_threads: that read and change examples ahead.
      part: which part, from 0, and of how many; they divide B.

    Returns:
      An iterator over {"image": uint8 [B, height, width, 3], "label": int32
      [B, height, width], "mask": bool [B, height, width], False where an image is
      padded, "name": str [B]}, whose `get_state` and `set_state` save and restore its
      position, that of any part. With several parts B is less. Close it when done.

    Raises:
      ValueError: naming the argument that is out of its range.
    """
    check_at_least("batch_size", batch_size, 1)
    check_at_least("seed", seed, 0)
    height, width = crop
    check_at_least("crop height", height, 1)
    check_at_least("crop width", width, 1)
    low, high = augment.scale
    if not 0 < low <= high:
        raise InputError(f"augment.scale: expected 0 < low <= high, got {low}, {high}")
    if not 0 <= augment.color <= 1:
        raise InputError(f"augment.color: expected 0..1, got {augment.color}")
    check_at_least("canvas", canvas, 0)
    if canvas and (height, width) != (canvas, canvas):
        raise InputError(
            f"crop: expected the canvas, {(canvas, canvas)}, got {(height, width)}"
        )
    check_at_least("num_threads", num_threads, 1)
    index, parts = part
    if not 0 <= index < parts or batch_size % parts:
        raise InputError(
            f"part: expected one of as many as divide batch_size, {batch_size}, got "
            f"{part}"
        )
    transform = partial(
        _augment,
        crop=(height, width),
        augment=augment,
        canvas=canvas,
        ignore_label=data.ignore_label,
    )
    dataset = (
        grain.MapDataset.source(data.splits["train"])
        .seed(seed)
        .shuffle()
        .repeat()  # before the random map: positions go on counting, and so do changes
        .random_map(transform)
        .batch(
            batch_size // parts, drop_remainder=True
        )  # else grain overflows: endless
        .slice(slice(index, None, parts))
    )
    # grain reads 500 batches ahead unless told otherwise.
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=8)
    return iter(dataset.to_iter_dataset(options))


def eval_examples(
    data: SegmentationData,
    split: str,
    *,
    limit: int | None = None,
    part: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, Any]]:
    """Yields a split's examples in order and at full size.

    Args:
      data: the data set.
      split: "train" or "val".
      limit: number of examples, evenly spread over the split; all if None or more.
      part: which part of them, from 0, and of how many: each has the one that is its
        turn, so that all are there once.

    Yields:
      What the split's source holds: image, label and name.

    Raises:
      ValueError: naming the argument that is wrong.
    """
    check_choice("split", split, tuple(data.splits))
    source = data.splits[split]
    count = len(source)
    if limit is not None:
        check_at_least("limit", limit, 1)
        count = min(limit, count)
    index, parts = part
    for i in range(index, count, parts):
        yield source[i * len(source) // count]


def _augment(
    example: dict[str, Any],
    rng: np.random.Generator,
    *,
    crop: tuple[int, int],
    augment: Augment,
    canvas: int,
    ignore_label: int,
) -> dict[str, Any]:
    image, label = example["image"], example["label"]
    if augment.flip:
        image, label = random_flip(image, label, rng)
    if canvas:
        image, label, mask = place_on_canvas(image, label, canvas, ignore_label)
    else:
        image, label = random_scale(image, label, rng, *augment.scale)
        image, label, mask = random_crop(image, label, rng, crop, ignore_label)
    image = jitter_color(image, rng, augment.color)
    return {"image": image, "label": label, "mask": mask, "name": example["name"]}
