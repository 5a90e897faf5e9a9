"""The config that a checkpoint carries, which may be a stranger's.

It names the network's class and the folders of the data. A class that is not one of
this package's is imported, which runs its module: that is done only if the user names
the same. A section that is read is checked, so that one of another version is told.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from crfrnn_jax.checks import InputError, naming
from crfrnn_jax.data import SegmentationData, load_dataset
from crfrnn_jax.data.dataset import NotPreparedError
from crfrnn_jax.models import BACKBONES
from crfrnn_jax.training.configuration import Config, check_config, check_sections
from crfrnn_jax.training.same_run import places, take_places


def network_config(
    path: Path, meta: Mapping[str, Any], *, backbone: str | None = None
) -> Config:
    """The config of a checkpoint's network, to predict with.

    Args:
      path: the checkpoint, for messages.
      meta: what `load_for_evaluation` read of it.
      backbone: the class that the user trusts, "package.module:Class".

    Raises:
      ValueError: naming the checkpoint and the key that is wrong or missing, or the
        class that would have to be imported.
    """
    way_out = "--backbone {}"
    config = _checked(path, meta, backbone, way_out)
    with naming(path):
        check_sections(config, ("eval",))
    return config


def evaluation_config(
    path: Path, meta: Mapping[str, Any], override: Config | None
) -> Config:
    """The config of a checkpoint, with what an evaluation may change from another.

    Args:
      path: the checkpoint, for messages.
      meta: what `load_for_evaluation` read of it.
      override: the user's own config, whose `eval`, `postprocessing` and, unless empty,
        folders of `data` stand in for those of the training, and whose class of the
        network is trusted.

    Raises:
      ValueError: naming what is wrong with either, or that they do not go together.
    """
    if override is not None:
        check_config(override)
    way_out = "--config=FILE, a config of your own with config.model.name='{}'"
    trusted = None if override is None else override.model.name
    config = _checked(path, meta, trusted, way_out)
    with naming(path):
        check_sections(config, ("data",))
    if override is not None:
        if override.data.name != config.data.name:
            raise InputError(
                f"config.data.name: expected the run's data set, {config.data.name!r}, "
                f"got {override.data.name!r}"
            )
        config.eval, config.postprocessing = override.eval, override.postprocessing
        take_places(config.data, override.data)
    with naming(path):
        check_sections(config, ("eval", "postprocessing"))
    return config


def evaluation_data(config: Config, override: Config | None) -> SegmentationData:
    """The data set of an evaluation, prepared only in folders that the user names.

    Args:
      config: what `evaluation_config` made.
      override: the user's own config, or None.

    Raises:
      NotPreparedError: it is not there, and only a checkpoint says where it might be.
      ValueError: as `load_dataset`.
    """
    make = override is not None and places(config.data) == places(override.data)
    try:
        return load_dataset(config.data, make=make)
    except NotPreparedError as error:
        raise NotPreparedError(
            f"{error}; nothing is made in a folder that only a checkpoint names: name "
            "it yourself, --config=FILE --config.data.dir=FOLDER"
        ) from error


def _checked(
    path: Path, meta: Mapping[str, Any], trusted: str | None, way_out: str
) -> Config:
    with naming(path):
        try:
            config: Config = ConfigDict(meta["config"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"config: expected keys of a config, got {error}") from (
                error
            )
        check_sections(config, ("model", "crf", "canvas"))
        name = config.model.name
        if name not in BACKBONES and name != trusted:
            raise InputError(
                f"config.model.name: expected one of {sorted(BACKBONES)}, got {name!r}"
                ", whose module would be imported, and so run; if it is yours, or you "
                f"trust it, say so by {way_out.format(name)}"
            )
    return config
