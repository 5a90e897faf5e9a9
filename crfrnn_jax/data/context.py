"""Pascal Context: whole scenes of VOC 2010, 4998 for training and 5105 for validation.

Mottaghi et al., "The Role of Context for Object Detection and Semantic Segmentation in
the Wild", CVPR 2014. Its masks tell 459 categories. The task has the 59 commonest, and
no background: pixels of any other category, or of none, are ignored.

The splits are those of VOC 2010's devkit.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crfrnn_jax.checks import InputError
from crfrnn_jax.data.dataset import SegmentationData
from crfrnn_jax.data.placed import (
    check_count,
    digest_names,
    find_root,
    read_matlab,
    read_names,
    read_numbered_names,
)
from crfrnn_jax.data.prepared import IGNORE_LABEL, Item, prepare
from crfrnn_jax.data.voc import CLASS_NAMES as VOC_NAMES

# VOC's objects come first, in VOC's order.
CLASS_NAMES = (
    *VOC_NAMES[1:],
    *("bag", "bed", "bench", "book", "building", "cabinet", "ceiling", "clothes"),
    *("computer", "cup", "door", "fence", "floor", "flower", "food", "grass"),
    *("ground", "keyboard", "light", "mountain", "mouse", "curtain", "platform"),
    *("sign", "plate", "road", "rock", "shelves", "sidewalk", "sky", "snow"),
    *("bedcloth", "track", "tree", "truck", "wall", "water", "window", "wood"),
)
# The list of the 59 spells three names otherwise than that of the 459.
_CATEGORY_NAMES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}

INSTRUCTIONS = """\
Pascal Context is not downloaded for you. Get trainval.tar.gz from
  https://www.cs.stanford.edu/~roozbeh/pascal-context/
and unpack it in the folder that `dir` is to name:
  trainval/2008_000002.mat ...
  labels.txt  (the 459 categories)
Get the images, VOCtrainval_03-May-2010.tar, from
  http://host.robots.ox.ac.uk/pascal/VOC/voc2010/
and unpack them in the folder that `voc_dir` is to name ("" is `dir`):
  VOCdevkit/VOC2010/JPEGImages/2008_000002.jpg ...
  VOCdevkit/VOC2010/ImageSets/Main/{train,val}.txt"""


def load_context(
    config: Any, key: str, splits: Iterable[str], make: bool = True
) -> SegmentationData:
    """Opens Pascal Context with its 59 classes, and prepares its masks first.

    Args:
      config: has `dir`, which holds the masks; `voc_dir`, which holds VOC 2010, "" for
        `dir`; `prepared_dir`, where the prepared masks go, "" for the user's cache; and
        `counts` of the splits, 0 for any.
      key: the config's own key, for messages.
      splits: "train", "val" or both.
      make: whether to prepare masks that are not there.

    Returns:
      The data set, of these splits.

    Raises:
      ValueError: a count or a file is wrong; the message names it.
      FileNotFoundError: the data is not there; the message says where to get it.
    """
    root = find_root(
        f"{key}.dir",
        config.dir,
        inside=("pascal_context", "pascal-context"),
        holds=("trainval", "labels.txt"),
        instructions=INSTRUCTIONS,
    )
    voc = find_root(
        f"{key}.voc_dir",
        config.voc_dir or config.dir,
        inside=("VOCdevkit/VOC2010", "VOC2010"),
        holds=("JPEGImages", "ImageSets/Main"),
        instructions=INSTRUCTIONS,
    )
    table = label_table(root / "labels.txt")
    sources = {}
    for split in splits:
        names = read_names(voc / "ImageSets" / "Main" / f"{split}.txt")
        check_count(key, config.counts, split, len(names))
        made_from = {
            "data_set": "pascal_context",
            "split": split,
            "folder": str(root),
            "images": str(voc),
            "names": digest_names(names),
            "table": table.tolist(),
        }
        items = [
            Item(
                name,
                voc / "JPEGImages" / f"{name}.jpg",
                partial(_read_mask, root / "trainval" / f"{name}.mat", table),
            )
            for name in names
        ]
        sources[split] = prepare(
            config.prepared_dir, made_from, items, len(CLASS_NAMES), make
        )
    return SegmentationData(CLASS_NAMES, IGNORE_LABEL, sources)


def label_table(path: Path) -> np.ndarray:
    """Reads which of the categories is which of the 59 classes.

    Args:
      path: labels.txt, with lines "2: aeroplane".

    Returns:
      uint8 [1 + highest number of a category], label or ignore label of each number; no
      pixel of number 0 has a category.

    Raises:
      ValueError: a class is not listed.
    """
    numbers = read_numbered_names(path)
    table = np.full(1 + max(numbers.values(), default=0), IGNORE_LABEL, np.uint8)
    for label, name in enumerate(CLASS_NAMES):
        category = _CATEGORY_NAMES.get(name, name)
        if category not in numbers:
            raise InputError(f"{path}: expected a category {category!r}, got none")
        table[numbers[category]] = label
    return table


def _read_mask(path: Path, table: np.ndarray) -> np.ndarray:
    categories = read_matlab(path, "LabelMap")
    unknown = (categories < 0) | (categories >= len(table))
    if unknown.any():
        raise InputError(
            f"{path}: expected categories 0..{len(table) - 1}, got "
            f"{np.unique(categories[unknown])[:5].tolist()}"
        )
    return table[categories]
