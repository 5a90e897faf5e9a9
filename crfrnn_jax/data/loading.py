"""From a config to the data set that it asks for."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from crfrnn_jax.checks import InputError, check_choice, check_integer, check_keys
from crfrnn_jax.data import coco, context, folder, mixture, sbd, scenes, shapes, voc
from crfrnn_jax.data.dataset import SegmentationData
from crfrnn_jax.processes import check_alike, failing_together, first_does
from crfrnn_jax.sections import Check, at_least, check_section, section, text, texts


def load_dataset(config: Any, *, make: bool = True) -> SegmentationData:
    """Loads the data set that a config asks for, and makes or checks it first.

    Of several processes each does the same, after the first one has.

    Args:
      config: has `name`, and the keys of that data set. For "shapes": `num_train` and
        `num_val` scenes of side `size` (pixels), `seed`, and `dir`, the folder to keep
        them in ("" is the user's cache). For "folder": `dir`, see the module `folder`,
        `class_names` and `ignore_label`. For "voc2012", "sbd", "coco2014",
        "pascal_context" and "mixture": see `load_...` of the modules `voc`, `sbd`,
        `coco`, `context` and `mixture`.
      make: whether to prepare what is not there, in the folders that the config names;
        otherwise that is an error.

    Returns:
      The data set.

    Raises:
      ValueError: a value of the config or a file is wrong; the message names it.
      FileNotFoundError: a folder or file is missing; the message names it.
    """
    check_data("config.data", config)
    with failing_together("loading the data"), first_does("preparing the data"):
        data = _load(_LOADERS, config, "config.data", ("train", "val"), make)
    for split in sorted(data.splits):
        check_alike(f"number of images of {split}", len(data.splits[split]), "data")
    return data


def _load_shapes(
    config: Any, key: str, splits: Iterable[str], make: bool
) -> SegmentationData:
    del key, splits  # both are made at once
    variant = shapes.ShapesConfig(
        num_train=config.num_train,
        num_val=config.num_val,
        size=config.size,
        seed=config.seed,
    )
    sources = shapes.prepare_shapes(variant, config.dir or _cache_dir(), make)
    return SegmentationData(scenes.CLASS_NAMES, scenes.IGNORE_LABEL, sources)


def _load_folder(
    config: Any, key: str, splits: Iterable[str], make: bool
) -> SegmentationData:
    del splits, make  # both are checked at once, and nothing is made
    if not config.dir:
        raise InputError(f"{key}.dir: expected the folder of the images, got none")
    names = tuple(config.class_names)
    sources = folder.open_folder(config.dir, len(names), config.ignore_label)
    return SegmentationData(names, config.ignore_label, sources)


def _load_mixture(
    config: Any, key: str, splits: Iterable[str], make: bool
) -> SegmentationData:
    del splits  # what is trained on depends on both

    def load_part(part: Any, part_key: str, part_splits: Iterable[str]):
        return _load(_PREPARED, part, part_key, part_splits, make)

    return mixture.load_mixture(config, key, load_part)


class _Loader(NamedTuple):
    """The keys that a data set's config has, and what opens it."""

    keys: dict[str, Check]
    load: Callable[[Any, str, Iterable[str], bool], SegmentationData]


# Numbers of images, of which each data set reads those that it knows.
_COUNTS = section({}, dict.fromkeys(("train", "val"), at_least(0)))
_COCO_COUNTS = section(
    {}, dict.fromkeys(("listed_train", "train", "listed_val", "val"), at_least(0))
)
_PLACED = {"dir": text, "prepared_dir": text, "counts": _COUNTS}
_PREPARED = {
    "voc2012": _Loader(_PLACED, voc.load_voc),
    "sbd": _Loader(_PLACED | {"voc_dir": text}, sbd.load_sbd),
    "coco2014": _Loader(
        _PLACED | {"min_pixels": at_least(0), "counts": _COCO_COUNTS}, coco.load_coco
    ),
    "pascal_context": _Loader(_PLACED | {"voc_dir": text}, context.load_context),
}
_LOADERS = {
    "shapes": _Loader(
        {
            "num_train": at_least(1),
            "num_val": at_least(1),
            "size": at_least(32),
            "seed": at_least(0),
            "dir": text,
        },
        _load_shapes,
    ),
    "folder": _Loader(
        {"dir": text, "class_names": texts, "ignore_label": check_integer},
        _load_folder,
    ),
    **_PREPARED,
    "mixture": _Loader(
        _PLACED | {"parts": check_section, "train": texts, "val": text}, _load_mixture
    ),
}


def check_data(key: str, config: Any) -> None:
    """Checks the keys of a data set's config, and reads no file.

    Raises:
      ValueError: naming the key that is missing, unknown or of another type.
    """
    _check(_LOADERS, config, key)
    if config["name"] == "mixture":
        for name, part in config["parts"].items():
            _check(_PREPARED, part, f"{key}.parts.{name}")


def _check(loaders: dict[str, _Loader], config: Any, key: str) -> None:
    check_section(key, config)
    check_keys(key, config, ("name",))
    name = config["name"]
    check_choice(f"{key}.name", name, tuple(loaders))
    keys = loaders[name].keys
    missing = [key for key in keys if key not in config]
    if missing:
        # As where a flag changed the name alone.
        raise InputError(
            f"{key}: expected the keys that go with name={name!r}, got no "
            f"{', '.join(missing)}; a flag can't add keys: docs/data.md shows the "
            f"`data` of {name!r}"
        )
    section(keys | {"name": text})(key, config)


def _load(
    loaders: dict[str, _Loader],
    config: Any,
    key: str,
    splits: Iterable[str],
    make: bool,
) -> SegmentationData:
    _check(loaders, config, key)
    return loaders[config.name].load(config, key, splits, make)


def _cache_dir() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "crfrnn_jax" / "tfds"
