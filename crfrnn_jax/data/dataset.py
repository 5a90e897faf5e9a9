"""A data set for semantic segmentation: what every part of the package agrees on."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from crfrnn_jax.checks import InputError, check_choice, check_keys
from crfrnn_jax.data import folder, scenes, shapes

_KEYS = {
    "shapes": ("num_train", "num_val", "size", "seed", "dir"),
    "folder": ("dir", "class_names", "ignore_label"),
}


class Source(Protocol):
    """Examples that can be read in any order, from any thread.

    An example is a dict of `image`, uint8 [height, width, 3], `label`, int32
    [height, width], and `name`, str. Labels are class indices or the ignore label.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


class SegmentationData(NamedTuple):
    """A data set.

    Attributes:
      class_names: one name per label, label 0 first.
      ignore_label: label of pixels that count for neither loss nor score; no class's.
      splits: the sources "train" and "val".
    """

    class_names: tuple[str, ...]
    ignore_label: int
    splits: Mapping[str, Source]

    @property
    def num_labels(self) -> int:
        """Number of classes, the background included, the ignore label not."""
        return len(self.class_names)


def load_dataset(config: Any) -> SegmentationData:
    """Loads the data set that a config asks for, and makes or checks it first.

    Args:
      config: has `name`, and the keys of that data set. For "shapes": `num_train` and
        `num_val` scenes of side `size` (pixels), `seed`, and `dir`, the folder to keep
        them in ("" is the user's cache). For "folder": `dir`, see the module `folder`,
        `class_names` and `ignore_label`.

    Returns:
      The data set.

    Raises:
      ValueError: a value of the config or a file is wrong; the message names it.
      FileNotFoundError: a folder or file is missing; the message names it.
    """
    check_choice("config.data.name", config.name, tuple(_KEYS))
    check_keys("config.data", config, _KEYS[config.name])
    if config.name == "shapes":
        variant = shapes.ShapesConfig(
            num_train=config.num_train,
            num_val=config.num_val,
            size=config.size,
            seed=config.seed,
        )
        splits = shapes.prepare_shapes(variant, config.dir or _cache_dir())
        return SegmentationData(scenes.CLASS_NAMES, scenes.IGNORE_LABEL, splits)
    if not config.dir:
        raise InputError("config.data.dir: expected the folder of the images, got none")
    if isinstance(config.class_names, str):
        raise InputError(
            "config.data.class_names: expected names in a tuple, ('one', 'two'), got "
            f"the string {config.class_names!r}"
        )
    names = tuple(config.class_names)
    splits = folder.open_folder(config.dir, len(names), config.ignore_label)
    return SegmentationData(names, config.ignore_label, splits)


def _cache_dir() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "crfrnn_jax" / "tfds"
