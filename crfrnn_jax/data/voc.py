"""Pascal VOC 2012: 1464 training and 1449 validation images, 20 classes, background.

Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2010.
"""

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from crfrnn_jax.checks import InputError
from crfrnn_jax.data.dataset import SegmentationData
from crfrnn_jax.data.folder import read_mask
from crfrnn_jax.data.placed import check_count, digest_names, find_root, read_names
from crfrnn_jax.data.prepared import IGNORE_LABEL, Item, PreparedSource, prepare

CLASS_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car"),
    *("cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person"),
    *("pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

INSTRUCTIONS = """\
Pascal VOC 2012 is not downloaded for you. Get VOCtrainval_11-May-2012.tar from
  http://host.robots.ox.ac.uk/pascal/VOC/voc2012/
and, to predict for the test server, the test images from
  http://host.robots.ox.ac.uk:8080/
and unpack them in one folder, which the key is to name:
  VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg ...
  VOCdevkit/VOC2012/SegmentationClass/2007_000032.png ...
  VOCdevkit/VOC2012/ImageSets/Segmentation/{train,val,test}.txt"""


def load_voc(
    config: Any, key: str, splits: Iterable[str], make: bool = True
) -> SegmentationData:
    """Opens VOC 2012, and prepares its masks first.

    Args:
      config: has `dir`, which holds the devkit; `prepared_dir`, where the prepared
        masks go, "" for the user's cache; and `counts` of the splits, 0 for any.
      key: the config's own key, for messages.
      splits: "train", "val" or both.
      make: whether to prepare masks that are not there.

    Returns:
      The data set, of these splits.

    Raises:
      ValueError: a count or a file is wrong; the message names it.
      FileNotFoundError: the data is not there; the message says where to get it.
    """
    root = find_voc(f"{key}.dir", config.dir)
    sources = {}
    for split in splits:
        names = split_names(root, split)
        check_count(key, config.counts, split, len(names))
        sources[split] = prepare_voc_masks(
            config.prepared_dir, "voc2012", split, root, names, make
        )
    return SegmentationData(CLASS_NAMES, IGNORE_LABEL, sources)


def find_voc(key: str, folder: str | os.PathLike[str], *, masks: bool = True) -> Path:
    """The folder VOC2012 of the devkit in or under the folder that a key names.

    Args:
      key: for messages.
      folder: in or under which to look.
      masks: whether it has to hold masks, which the archive of test images has not.

    Raises:
      ValueError: no folder is named.
      FileNotFoundError: the data is not there; the message says where to get it.
    """
    return find_root(
        key,
        folder,
        inside=("VOCdevkit/VOC2012", "VOC2012"),
        holds=(
            "JPEGImages",
            *(("SegmentationClass",) if masks else ()),
            "ImageSets/Segmentation",
        ),
        instructions=INSTRUCTIONS,
    )


def split_names(root: Path, split: str) -> list[str]:
    """The names of the images of a split of the segmentation challenge."""
    return read_names(_list(root, split))


def prepare_voc_masks(
    out: str,
    data_set: str,
    split: str,
    root: Path,
    names: Sequence[str],
    make: bool = True,
) -> PreparedSource:
    """Re-encodes VOC's palette masks of some images.

    Args:
      out: folder of all prepared data sets, "" for the user's cache.
      data_set: the data set and
      split: the split that the images make up.
      root: the devkit's folder VOC2012.
      names: of the images.
      make: whether to make masks that are not there.

    Returns:
      The examples, in the order of the names.
    """
    made_from = {
        "data_set": data_set,
        "split": split,
        "folder": str(root),
        "names": digest_names(names),
    }
    masks = root / "SegmentationClass"
    items = [
        Item(
            name,
            root / "JPEGImages" / f"{name}.jpg",
            partial(read_mask, masks / f"{name}.png"),
        )
        for name in names
    ]
    return prepare(out, made_from, items, len(CLASS_NAMES), make)


def voc_test_images(
    folder: str | os.PathLike[str], count: int = 1456
) -> list[tuple[str, Path]]:
    """The images of VOC 2012's test split, whose masks the test server keeps.

    Args:
      folder: holds the devkit with the test images.
      count: how many there have to be; 0 is any number.

    Returns:
      Name and file of each image, in the list's order. To be read as the others are,
      `read_image(file, turn=False)`.

    Raises:
      ValueError: there are more or fewer.
      FileNotFoundError: the data is not there.
    """
    root = find_voc("folder of VOC 2012", folder, masks=False)
    listed = _list(root, "test")
    if not listed.is_file():  # as where the training images alone were unpacked
        raise FileNotFoundError(
            f"{listed}: expected the list of test images, got none\n{INSTRUCTIONS}"
        )
    names = read_names(listed)
    if count and len(names) != count:
        raise InputError(f"{listed}: expected {count} images, found {len(names)}")
    images = [(name, root / "JPEGImages" / f"{name}.jpg") for name in names]
    for _, image in images:
        if not image.is_file():
            raise FileNotFoundError(
                f"{image}: expected a test image, got none\n{INSTRUCTIONS}"
            )
    return images


def _list(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"
