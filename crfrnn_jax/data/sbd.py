"""SBD: masks of VOC's classes for 11 355 images of VOC 2011.

Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011. Its own splits
of 8498 and 2857 images differ from VOC's: 1103 of them are among VOC 2012's 1449
validation images. The other 346 of those are the CRF-RNN paper's validation set.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from crfrnn_jax.checks import InputError
from crfrnn_jax.data.dataset import SegmentationData
from crfrnn_jax.data.placed import (
    check_count,
    digest_names,
    find_root,
    read_matlab,
    read_names,
)
from crfrnn_jax.data.prepared import IGNORE_LABEL, Item, PreparedSource, prepare
from crfrnn_jax.data.voc import CLASS_NAMES, find_voc, prepare_voc_masks, split_names

INSTRUCTIONS = """\
SBD is not downloaded for you. Get benchmark.tgz from
  https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz
and unpack it in the folder that the key is to name:
  benchmark_RELEASE/dataset/img/2008_000002.jpg ...
  benchmark_RELEASE/dataset/cls/2008_000002.mat ...
  benchmark_RELEASE/dataset/{train,val}.txt"""


def load_sbd(
    config: Any, key: str, splits: Iterable[str], make: bool = True
) -> SegmentationData:
    """Opens SBD, and prepares its masks first.

    "train" is all of SBD, its own "train" and "val". "val" is what VOC 2012's
    validation split has beyond SBD, with VOC's masks: no image is in both.

    Args:
      config: has `dir`, which holds SBD; `voc_dir`, which holds VOC 2012, "" for `dir`;
        `prepared_dir`, where the prepared masks go, "" for the user's cache; and
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
        inside=("benchmark_RELEASE/dataset", "dataset"),
        holds=("img", "cls", "train.txt", "val.txt"),
        instructions=INSTRUCTIONS,
    )
    names = _names(root)
    sources = {}
    for split in splits:
        if split == "train":
            check_count(key, config.counts, split, len(names))
            sources[split] = _prepare_own(config.prepared_dir, root, names, make)
            continue
        voc = find_voc(f"{key}.voc_dir", config.voc_dir or config.dir)
        rest = sorted(set(split_names(voc, "val")) - set(names))
        check_count(key, config.counts, split, len(rest))
        sources[split] = prepare_voc_masks(
            config.prepared_dir, "sbd", split, voc, rest, make
        )
    return SegmentationData(CLASS_NAMES, IGNORE_LABEL, sources)


def _names(root: Path) -> list[str]:
    names = read_names(root / "train.txt") + read_names(root / "val.txt")
    if len(set(names)) < len(names):
        raise InputError(f"{root}: expected no image in both train.txt and val.txt")
    return names


def _prepare_own(out: str, root: Path, names: list[str], make: bool) -> PreparedSource:
    made_from = {
        "data_set": "sbd",
        "split": "train",
        "folder": str(root),
        "names": digest_names(names),
    }
    items = [
        Item(
            name,
            root / "img" / f"{name}.jpg",
            partial(read_matlab, root / "cls" / f"{name}.mat", "GTcls", "Segmentation"),
        )
        for name in names
    ]
    return prepare(out, made_from, items, len(CLASS_NAMES), make)
