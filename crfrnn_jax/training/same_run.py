"""What makes two configs those of one run, and what may differ between them.

A run may change on its way where the data lies, on which devices it runs and in how
much memory, how it is looked at and saved, and which stages are to follow.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from crfrnn_jax.evaluation.differences import differing
from crfrnn_jax.training.checkpoints import CheckpointError
from crfrnn_jax.training.configuration import STAGES, Config

_PLACES = ("dir", "voc_dir", "prepared_dir")
_FREE = (
    *("config.eval", "config.postprocessing", "config.stages"),
    *("config.mesh", "config.data_threads", "config.model.remat"),
    *("config.nonfinite", "config.log_every"),
    *(
        f"config.{stage}.{key}"
        for stage in STAGES
        for key in ("micro_batches", "checkpoint_every", "eval_every")
    ),
)


def make_places_absolute(data: Config) -> None:
    """Makes the folders that a data set's config names absolute, in place.

    An evaluation may run from another folder. Those that are "" stay so.
    """
    for key, value in data.items():
        if isinstance(value, ConfigDict):
            make_places_absolute(value)
        elif key in _PLACES and value:
            data[key] = str(Path(value).expanduser().absolute())


def without_places(config: Config) -> str:
    """A config's text, without the folders of the data, which each host may have."""

    def blank(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: blank(part, name) for name, part in value.items()}
        return "" if key in _PLACES else value

    return json.dumps(blank(json.loads(config.to_json_best_effort()), "config"))


def take_places(data: Config, other: Config) -> None:
    """Puts the folders that another config of the data set names, unless "", in place.

    Args:
      data: the config that is changed.
      other: the one whose folders stand in for its own; it may have fewer keys.
    """
    for key, value in data.items():
        given = other.get(key)
        if isinstance(value, ConfigDict) and isinstance(given, ConfigDict):
            take_places(value, given)
        elif key in _PLACES:
            data[key] = given or value


def places(data: Config) -> list[str]:
    """The folders that a data set's config names, of its parts, too."""
    found = []
    for key, value in sorted(data.items()):
        if isinstance(value, ConfigDict):
            found += places(value)
        elif key in _PLACES:
            found.append(value)
    return found


def _is_place(path: str) -> bool:
    return path.startswith("config.data.") and path.split(".")[-1] in _PLACES


def ancestry(config: dict[str, Any], stage: str) -> list[str]:
    """A stage and those it goes back to through `start_from`, itself first."""
    names = []
    while stage:
        names.append(stage)
        stage = config[stage]["start_from"]
    return names


def differences(
    one: dict[str, Any], other: dict[str, Any], *, stages: Collection[str]
) -> list[str]:
    """The keys in which two runs' configs differ, as "config.key: one -> other".

    Where the data lies and how a run is evaluated do not count, nor do the settings of
    stages other than those named.
    """
    free = {*_FREE, *(f"config.{name}" for name in STAGES if name not in stages)}
    return differing(one, other, "config", lambda key: key in free or _is_place(key))


def check_same_run(saved: dict[str, Any], given: dict[str, Any], where: Path) -> None:
    """Raises CheckpointError unless a checkpoint's meta is of the run that is given.

    Args:
      saved: what a checkpoint says of its run, as `train` writes it.
      given: the same of the run that is to go on.
      where: the checkpoints, for messages.
    """
    stages = ancestry(given["config"], given["stage"])
    changed = differences(saved["config"], given["config"], stages=stages)
    if changed:
        raise CheckpointError(
            f"{where}: holds a run of another config; give another --workdir, or the "
            "config it was started with. Saved -> given: " + "; ".join(changed)
        )
    if saved.get("num_examples") != given["num_examples"]:
        raise CheckpointError(
            f"{where}: holds a run on another data set, of {saved.get('num_examples')} "
            f"examples; the one given has {given['num_examples']}"
        )
