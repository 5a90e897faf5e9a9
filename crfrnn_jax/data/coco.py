"""COCO 2014 in the classes of VOC, from its annotated instances.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014. The CRF-RNN paper
trains on the images with at least 200 pixels of VOC's classes.

What the paper leaves open is done so:

- Crowds are ignored. Their outlines are drawn around groups, background and all.
- Where instances overlap, the smaller one counts, as it mostly lies before the larger:
  a bottle on a table. Instances count over crowds.
- Objects of other classes are background.
- The pixels that count towards the least number are those that end up with a class.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_masks

from crfrnn_jax.checks import InputError, check_at_least
from crfrnn_jax.data.dataset import SegmentationData
from crfrnn_jax.data.decoding import MOST_PIXELS
from crfrnn_jax.data.placed import check_count, digest_file, find_root
from crfrnn_jax.data.prepared import IGNORE_LABEL, Item, prepare
from crfrnn_jax.data.voc import CLASS_NAMES

# COCO's name of a VOC class, where it is another.
_COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}

INSTRUCTIONS = """\
COCO 2014 is not downloaded for you. Get from https://cocodataset.org/#download
  http://images.cocodataset.org/zips/train2014.zip
  http://images.cocodataset.org/annotations/annotations_trainval2014.zip
and, if it is to be validated on, zips/val2014.zip, and unpack them in one folder, which
the key is to name:
  train2014/COCO_train2014_000000000009.jpg ...
  annotations/instances_{train,val}2014.json"""


class Instance(NamedTuple):
    """An annotated object or crowd of a VOC class.

    Attributes:
      label: of the class.
      is_crowd: a group drawn as one.
      segmentation: polygons [[x0, y0, x1, y1, ...], ...], or {"size": [height, width],
        "counts": run lengths} as a list or in COCO's compressed form.
    """

    label: int
    is_crowd: bool
    segmentation: Any


def load_coco(
    config: Any, key: str, splits: Iterable[str], make: bool = True
) -> SegmentationData:
    """Opens COCO 2014 in VOC's classes, and prepares its masks first.

    Args:
      config: has `dir`, which holds the images and annotations; `prepared_dir`, where
        the prepared masks go, "" for the user's cache; `min_pixels` that an image must
        have of VOC's classes; and `counts`, 0 for any: of the images that are listed,
        `listed_train` and `listed_val`, and of those with enough pixels, `train` and
        `val`.
      key: the config's own key, for messages.
      splits: "train", "val" or both.
      make: whether to prepare masks that are not there.

    Returns:
      The data set, of these splits.

    Raises:
      ValueError: a count or a file is wrong; the message names it.
      FileNotFoundError: the data is not there; the message says where to get it.
    """
    check_at_least(f"{key}.min_pixels", config.min_pixels, 0)
    sources = {}
    for split in splits:
        images, annotations = f"{split}2014", f"annotations/instances_{split}2014.json"
        root = find_root(
            f"{key}.dir",
            config.dir,
            inside=("coco2014", "coco"),
            holds=(images, annotations),
            instructions=INSTRUCTIONS,
        )
        made_from = {
            "data_set": "coco2014",
            "split": split,
            "folder": str(root),
            "annotations": digest_file(root / annotations),
            "min_pixels": config.min_pixels,
        }
        items = _listed(root / images, root / annotations, config, key, split)
        sources[split] = prepare(
            config.prepared_dir, made_from, items, len(CLASS_NAMES), make
        )
        check_count(key, config.counts, split, len(sources[split]))
    return SegmentationData(CLASS_NAMES, IGNORE_LABEL, sources)


def draw_mask(
    instances: Sequence[Instance], height: int, width: int
) -> NDArray[np.uint8]:
    """Draws instances into a mask, as the module says.

    Args:
      instances: of one image.
      height: of the image, in pixels.
      width: of the image, in pixels.

    Returns:
      uint8 [height, width], labels and IGNORE_LABEL.
    """
    mask = np.zeros((height, width), np.uint8)
    drawn = [
        (_encode(instance.segmentation, height, width), instance)
        for instance in instances
    ]
    # Of equals the later one counts: sorting keeps their order.
    drawn.sort(key=lambda one: (not one[1].is_crowd, -int(rle_masks.area(one[0]))))
    for encoded, instance in drawn:
        covered = rle_masks.decode(encoded).astype(bool)
        mask[covered] = IGNORE_LABEL if instance.is_crowd else instance.label
    return mask


def _encode(segmentation: Any, height: int, width: int) -> Any:
    """Polygons or run lengths as pycocotools holds them, which itself checks nothing.

    Points far out, and runs beyond the last pixel, would be written out of its memory.
    """
    if isinstance(segmentation, list):
        for polygon in segmentation:
            # pycocotools would take four numbers for a box.
            if len(polygon) < 6 or len(polygon) % 2:
                raise InputError("expected polygons of three points or more")
            _check_points(polygon, height, width)
        if not segmentation:
            raise InputError("expected polygons of three points or more")
        return rle_masks.merge(rle_masks.frPyObjects(segmentation, height, width))
    if list(segmentation["size"]) != [height, width]:
        raise InputError(
            f"expected runs of size {[height, width]}, got {segmentation['size']}"
        )
    counts = segmentation["counts"]
    if not isinstance(counts, list):
        counts = _uncompressed(counts)
    if any(type(run) is not int or run < 0 for run in counts):
        raise InputError("expected runs of 0 pixels or more")
    if sum(counts) != height * width:
        raise InputError(f"expected runs of {height * width} pixels in all")
    runs: Any = {"size": [height, width], "counts": counts}
    return rle_masks.frPyObjects(runs, height, width)


def _check_points(polygon: Sequence[float], height: int, width: int) -> None:
    """Raises InputError unless a polygon lies in the image, or at least not far out."""
    furthest = 2 * max(height, width)
    for number in polygon:
        if not -furthest <= number <= furthest:
            raise InputError(
                f"expected points of the image's {height} x {width} pixels, got "
                f"{number}"
            )


def _uncompressed(text: str | bytes) -> list[int]:
    """The runs of COCO's compressed form.

    Five bits a character, the lowest first; the sixth says that more follow, and the
    highest of the last is the sign. From the third run on, they are differences to the
    run before the last.
    """
    codes = text.encode() if isinstance(text, str) else text
    runs: list[int] = []
    value, shift = 0, 0
    for code in codes:
        bits = code - 48
        if not 0 <= bits < 64 or shift > 30:
            raise InputError("expected runs in COCO's compressed form")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise InputError("expected runs in COCO's compressed form, whole")
    return runs


def _listed(
    images: Path, annotations: Path, config: Any, key: str, split: str
) -> Iterator[Item]:
    """Yields the images; reads the annotations, which takes long, when first asked."""
    content = _read_json(annotations)
    try:
        items = _items(content, images, annotations, config.min_pixels)
    except InputError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{annotations}: expected COCO's instances, got: {error!r}"
        ) from error
    check_count(key, config.counts, f"listed_{split}", len(items))
    yield from items


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected whole JSON, got: {error}") from error


def _items(
    content: Any, images: Path, annotations: Path, min_pixels: int
) -> list[Item]:
    numbers = {category["name"]: category["id"] for category in content["categories"]}
    labels = {}
    for label, name in enumerate(CLASS_NAMES[1:], 1):
        category = _COCO_NAMES.get(name, name)
        if category not in numbers:
            raise InputError(
                f"{annotations}: expected a category {category!r}, got none"
            )
        labels[numbers[category]] = label
    instances = defaultdict(list)
    for annotation in content["annotations"]:
        label = labels.get(annotation["category_id"])
        if label is not None:
            instances[annotation["image_id"]].append(
                Instance(label, bool(annotation["iscrowd"]), annotation["segmentation"])
            )
    names = [image["file_name"] for image in content["images"]]
    for name in names:
        if not name or Path(name).name != name:
            raise InputError(f"{annotations}: expected names of files, got {name!r}")
    if len({Path(name).stem for name in names}) < len(names):
        raise InputError(f"{annotations}: expected each image once")
    return [
        Item(
            Path(image["file_name"]).stem,
            images / image["file_name"],
            partial(
                _make_mask,
                instances[image["id"]],
                int(image["height"]),
                int(image["width"]),
                min_pixels,
                f"{annotations}: image {image['file_name']}",
            ),
        )
        for image in content["images"]
    ]


def _make_mask(
    instances: Sequence[Instance], height: int, width: int, min_pixels: int, where: str
) -> NDArray[np.uint8] | None:
    """The mask, or None if too few of its pixels have a class."""
    if not (height > 0 and width > 0 and height * width <= MOST_PIXELS):
        raise InputError(
            f"{where}: expected at most {MOST_PIXELS} pixels, got {width} x {height}"
        )
    try:
        mask = draw_mask(instances, height, width)
    except Exception as error:  # what pycocotools raises of a bad annotation varies
        raise InputError(f"{where}: {error}") from error
    labelled = np.count_nonzero((mask != 0) & (mask != IGNORE_LABEL))
    return mask if labelled >= min_pixels else None
