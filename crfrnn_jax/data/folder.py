"""Image folders: `dir/{train,val}/{images,labels}/`, paired by file stem.

Any format that Pillow reads will do, but EPS. A mask is grey or palette, and the stored
index is the label: a palette's colours are for the eye only. Images and masks alike are
turned as their EXIF orientation says.

Every file is read once before training starts, because a bad mask found hours into a
run, or trained on unnoticed, costs more than the seconds this takes.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from crfrnn_jax.checks import InputError, check_at_least
from crfrnn_jax.data.decoding import opened, readable_endings

_MASK_MODES = ("L", "P", "I;16", "I;16B", "I")
# Grey of under 8 bits: Pillow scales 2 and 4 bits to 0..255 and 1 bit not, so that
# index 1 would be read as 85, 17 or 1.
_PACKED_GREY = ("1", "L;2", "L;4")


class Pair(NamedTuple):
    """The files of one example, which have the same stem."""

    image: Path
    mask: Path


class FolderSource:
    """One split of a folder, as `Source` describes it; decodes on access."""

    def __init__(self, pairs: Sequence[Pair]):
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, mask = self._pairs[index]
        return {
            "image": read_image(image),
            "label": read_mask(mask),
            "name": image.stem,
        }


def open_folder(
    folder: str | os.PathLike[str], num_labels: int, ignore_label: int
) -> dict[str, FolderSource]:
    """Pairs and checks all files of a folder.

    Args:
      folder: holds `train` and `val`, and each of them `images` and `labels`.
      num_labels: masks hold indices below this,
      ignore_label: or this one, which must not be a class index.

    Returns:
      The sources "train" and "val", in the order of the stems.

    Raises:
      ValueError: a file cannot be read or used, or `ignore_label` is a class index.
      FileNotFoundError: a folder is missing or empty, or a file lacks its partner.
    """
    check_at_least("number of config.data.class_names", num_labels, 1)
    if 0 <= ignore_label < num_labels:
        raise InputError(
            f"config.data.ignore_label: expected no class index, 0..{num_labels - 1}, "
            f"got {ignore_label}"
        )
    root = Path(folder).expanduser()
    splits = {split: _pair_files(root / split) for split in ("train", "val")}
    check = partial(_check_pair, num_labels=num_labels, ignore_label=ignore_label)
    with ThreadPoolExecutor() as pool:
        for pairs in splits.values():
            list(pool.map(check, pairs))  # raises the first pair's error
    return {split: FolderSource(pairs) for split, pairs in splits.items()}


def read_image(path: Path, *, turn: bool = True) -> NDArray[np.uint8]:
    """Reads an image as uint8 [height, width, 3]; transparency is dropped.

    Args:
      path: the file.
      turn: as its EXIF orientation says; otherwise the pixels come as they are stored.

    Raises:
      ValueError: naming the file, if it cannot be read, holds floats or is too large.
    """
    image, _ = _open(path, turn)
    if image.mode == "F":
        raise InputError(f"{path}: expected 8 or 16 bits a channel, got floats")
    if image.mode.startswith("I"):
        # convert("RGB") would clip 16 bits at 255 instead of scaling them.
        grey = np.clip(np.asarray(image), 0, 65535) // 256
        image = Image.fromarray(grey.astype(np.uint8))
    return np.array(image.convert("RGB"))


def read_mask(path: Path) -> NDArray[np.int32]:
    """Reads a mask's stored indices as int32 [height, width].

    Raises:
      ValueError: naming the file, if it cannot be read, is neither grey nor palette, or
        is too large.
    """
    mask, stored = _open(path)
    if mask.mode not in _MASK_MODES or stored.startswith(_PACKED_GREY):
        raise InputError(
            f"{path}: expected class indices as palette or grey of 8 or 16 bits, got "
            f"mode {mask.mode}, stored as {stored}"
        )
    return np.array(mask).astype(np.int32)


def _open(path: Path, turn: bool = True) -> tuple[Image.Image, str]:
    """Decodes a file; also returns the pixel format within the file."""
    with opened(path) as image:
        stored = image.tile[0][3] if image.tile else image.mode
        if isinstance(stored, tuple):  # TIFF: the pixel format leads
            stored = stored[0]
        image.load()
        return ImageOps.exif_transpose(image) if turn else image, str(stored)


def _pair_files(split: Path) -> list[Pair]:
    images, masks = (_files_by_stem(split / kind) for kind in ("images", "labels"))
    for files, partners, kind in ((images, masks, "labels"), (masks, images, "images")):
        for stem in files.keys() - partners.keys():
            raise FileNotFoundError(
                f"{files[stem]}: expected a file of the same stem in {split / kind}, "
                "got none"
            )
    return [Pair(images[stem], masks[stem]) for stem in sorted(images)]


def _files_by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of images, got none")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in readable_endings():
            continue
        if path.stem in files:
            raise InputError(
                f"{path}: expected one file per stem, got {files[path.stem].name} too"
            )
        files[path.stem] = path
    if not files:
        raise FileNotFoundError(f"{folder}: expected images, got none")
    return files


def _check_pair(pair: Pair, num_labels: int, ignore_label: int) -> None:
    image, label = read_image(pair.image), read_mask(pair.mask)
    if label.shape != image.shape[:2]:
        raise InputError(
            f"{pair.mask}: expected the size of {pair.image.name}, "
            f"{list(image.shape[:2])}, got {list(label.shape)}"
        )
    wrong = label[((label < 0) | (label >= num_labels)) & (label != ignore_label)]
    if wrong.size:
        raise InputError(
            f"{pair.mask}: expected labels below {num_labels} or {ignore_label} to be "
            f"ignored, got {np.unique(wrong)[:5].tolist()} in {wrong.size} pixels"
        )
