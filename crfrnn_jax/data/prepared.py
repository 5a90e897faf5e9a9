"""Masks made once from what a data set publishes, and kept as grey PNGs.

Published masks come as palettes, .mat files and polygons. Each is decoded once, checked
against its image, and written as a plain PNG of class indices:

    OUT/DATA_SET/SPLIT-IDENTITY/masks/NAME.png
    OUT/DATA_SET/SPLIT-IDENTITY/index.json

IDENTITY is a digest of what the masks are made from, so that another folder, list or
setting never meets masks made from the first. Images are read where they lie, and not
turned as EXIF says: published masks are drawn on the pixels as they are stored.

A preparation that was stopped goes on where it stopped: masks are renamed into place
when they are whole, and the index, without which nothing counts as prepared, is written
last in the same way.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from crfrnn_jax.checks import InputError
from crfrnn_jax.data.dataset import NotPreparedError
from crfrnn_jax.data.folder import read_image, read_mask
from crfrnn_jax.writing import write_json, write_whole

# Of every data set that is prepared: the label that VOC gives to objects' borders.
IGNORE_LABEL = 255

# A change to the masks or to the index needs a new one: prepared masks are kept.
_VERSION = 2


class Item(NamedTuple):
    """An example to be prepared.

    Attributes:
      name: of the image, unique in its data set; names the mask's file.
      image: the image's file.
      make: makes the mask, integers [height, width], or None to leave the example out.
    """

    name: str
    image: Path
    make: Callable[[], NDArray[Any] | None]


class Example(NamedTuple):
    """The files of a prepared example."""

    name: str
    image: Path
    mask: Path


class PreparedSource:
    """Prepared examples, as `Source` describes them; decodes on access."""

    def __init__(self, examples: Sequence[Example]):
        self.examples = tuple(examples)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, image, mask = self.examples[index]
        pixels = read_image(image, turn=False)
        return {"image": pixels, "label": read_mask(mask), "name": name}


def prepare(
    out: str | os.PathLike[str],
    made_from: Mapping[str, Any],
    items: Iterable[Item],
    num_labels: int,
    make: bool = True,
) -> PreparedSource:
    """Makes the masks of a split unless that was done before, and opens it.

    Args:
      out: folder of all prepared data sets, "" for one in the user's cache.
      made_from: what the masks depend on: `data_set` and `split`, which name the
        folder, the published folders, digests of the lists, settings. JSON values only.
      items: the examples in their order; iterated over only if there is something to
        make, so that a generator may read a long list then.
      num_labels: masks hold indices below this, or IGNORE_LABEL.
      make: whether to make them if they are not there.

    Returns:
      The examples, less those left out.

    Raises:
      ValueError: a file cannot be read or used, or an image is of another size, in
        bytes, than when it was prepared; the message names it.
      FileNotFoundError: an image of a prepared split is gone; the message names it.
      NotPreparedError: nothing is prepared, nor to be.
    """
    made_from = {**made_from, "version": _VERSION}
    identity = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode())
    root = Path(out).expanduser().absolute() if out else _cache()
    split = f"{made_from['split']}-{identity.hexdigest()[:12]}"
    folder = root / made_from["data_set"] / split
    examples = _open(folder)
    if examples is None:
        if not make:
            raise NotPreparedError(f"{folder}: expected prepared masks, got none")
        examples = _make(folder, made_from, list(items), num_labels)
    return PreparedSource(examples)


def _cache() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "crfrnn_jax" / "prepared"


def _open(folder: Path) -> list[Example] | None:
    """The examples of a prepared split, or None if any of it has to be made (again)."""
    try:
        entries = json.loads((folder / "index.json").read_text())["examples"]
        sizes = [(entry["mask_bytes"], entry["image_bytes"]) for entry in entries]
        examples = [
            Example(entry["name"], Path(entry["image"]), folder / entry["mask"])
            for entry in entries
        ]
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None
    for example, (mask_bytes, image_bytes) in zip(examples, sizes, strict=True):
        # A mask cut off since by a full disk or a copy would fail hours into a run.
        if not example.mask.is_file() or example.mask.stat().st_size != mask_bytes:
            return None
        if not example.image.is_file():
            raise FileNotFoundError(
                f"{example.image}: expected an image that {folder / 'index.json'} "
                "lists, got none"
            )
        # So would an image, or it would be trained on with a mask of another.
        found = example.image.stat().st_size
        if found != image_bytes:
            raise InputError(
                f"{example.image}: expected the image of {image_bytes} bytes that was "
                f"prepared, got one of {found}; remove {folder} to prepare it anew"
            )
    return examples


def _make(
    folder: Path, made_from: Mapping[str, Any], items: Sequence[Item], num_labels: int
) -> list[Example]:
    masks = folder / "masks"
    masks.mkdir(parents=True, exist_ok=True)
    make = partial(_make_one, masks=masks, num_labels=num_labels)
    title = f"{made_from['data_set']} {made_from['split']}"
    # Threads: decoding and encoding, most of the work, leave Python's lock free.
    with ThreadPoolExecutor() as pool:
        try:
            made = list(track(pool.map(make, items), title, total=len(items)))
        except BaseException:  # map itself stops at an item's error, not at Ctrl-C
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    examples = [example for example in made if example is not None]
    entries = [
        {
            "name": example.name,
            "image": str(example.image),
            "mask": str(example.mask.relative_to(folder)),
            "mask_bytes": example.mask.stat().st_size,
            "image_bytes": example.image.stat().st_size,
        }
        for example in examples
    ]
    index = {
        "made_from": made_from,
        "listed": len(items),
        "prepared": len(examples),
        "examples": entries,
    }
    write_json(folder / "index.json", index)
    return examples


def _make_one(item: Item, masks: Path, num_labels: int) -> Example | None:
    image = item.image.absolute()
    example = Example(item.name, image, masks / f"{item.name}.png")
    if _is_whole(example.mask):  # and so was checked when it was made
        return example
    mask = item.make()
    if mask is None:
        return None
    if not image.is_file():
        raise FileNotFoundError(f"{image}: expected an image, got none")
    shape = read_image(image, turn=False).shape[:2]
    if mask.shape != shape:
        raise InputError(
            f"{image}: expected a mask of the image's size, {list(shape)}, got "
            f"{list(mask.shape)}"
        )
    wrong = mask[((mask < 0) | (mask >= num_labels)) & (mask != IGNORE_LABEL)]
    if wrong.size:
        raise InputError(
            f"{image}: expected a mask of labels below {num_labels} or {IGNORE_LABEL}, "
            f"got {np.unique(wrong)[:5].tolist()} in {wrong.size} pixels"
        )
    picture = Image.fromarray(mask.astype(np.uint8))
    write_whole(example.mask, lambda file: picture.save(file, format="png"))
    return example


def _is_whole(mask: Path) -> bool:
    if not mask.is_file():
        return False
    try:
        read_mask(mask)
    except InputError:
        return False
    return True
