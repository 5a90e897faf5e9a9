"""What a config must hold. Configs are locked: a key that is not there can't be set."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from crfrnn_jax.checks import InputError, check_choice, check_keys
from crfrnn_jax.evaluation.differences import differing

# An ml_collections.ConfigDict, whose values have no static types.
Config = Any

STAGES = ("fcn", "finetune", "plain", "end_to_end")

_KEYS = (
    *("seed", "mesh", "data", "data_threads", "canvas", "augment", "model", "crf"),
    *("init", "stages", "nonfinite", "log_every", "eval", "postprocessing"),
)
_SECTION_KEYS = {
    "mesh": ("data", "parameters"),
    "data": ("name", "dir"),
    "augment": ("flip", "scale", "color"),
    "model": ("name",),
    "crf": ("num_iterations", "theta_alpha", "theta_beta", "theta_gamma"),
    "init": ("file", "skip"),
    "eval": ("num_iterations", "validation_images", "panels", "multiple_of"),
    "postprocessing": ("train_images", "candidates"),
}
_STAGE_KEYS = (
    *("start_from", "use_crf", "frozen", "class_weighting", "reduction", "robustness"),
    *("steps", "batch_size", "micro_batches", "crop", "optimizer", "momentum"),
    "schedule",
    *("learning_rate", "weights_learning_rate", "compatibility_learning_rate"),
    *("bias_multiplier", "weight_decay", "bias_decay", "warmup_steps", "clip_norm"),
    *("checkpoint_every", "eval_every"),
)
_STAGE_CHOICES = {
    "class_weighting": ("none", "log"),
    "reduction": ("mean", "sum"),
    "optimizer": ("adamw", "sgd"),
    "schedule": ("cosine", "constant"),
}

_LOWEST = {
    "seed": 0,
    "mesh.data": 0,
    "mesh.parameters": 1,
    "data_threads": 1,
    "log_every": 1,
    "crf.num_iterations": 0,
    "eval.num_iterations": 0,
    "eval.validation_images": 1,
    "eval.panels": 1,
    "eval.multiple_of": 1,
    "canvas": 0,
    "postprocessing.train_images": 1,
}

# What a run may change on its way: where the data lies, on which devices it runs, how
# it is looked at, and which stages are to follow.
_PLACES = ("dir", "voc_dir", "prepared_dir")
_FREE = (
    *("config.eval", "config.postprocessing", "config.stages"),
    *("config.mesh", "config.data_threads"),
    *(f"config.{stage}.micro_batches" for stage in STAGES),
)


def check_config(config: Config) -> None:
    """Checks the values that would otherwise fail late, or pass and mislead.

    Raises:
      ValueError: naming the key, what was expected and what came.
    """
    if list(config) == ["data"]:
        raise InputError(
            "config: expected a whole config, got one of data alone, which is for "
            "prepare.py, or for another config to take its `data` from"
        )
    check_keys("config", config, _KEYS)
    for section, keys in _SECTION_KEYS.items():
        check_keys(f"config.{section}", config[section], keys)
    for key, lowest in _LOWEST.items():
        value = config
        for part in key.split("."):
            value = value[part]
        _check(value >= lowest, f"config.{key}", f"at least {lowest}", value)
    _check(
        len(config.postprocessing.candidates) > 0,
        "config.postprocessing.candidates",
        "one at least",
        config.postprocessing.candidates,
    )
    for candidate in config.postprocessing.candidates:
        _check(
            len(candidate) == 5 and min(candidate[:3]) > 0,
            "config.postprocessing.candidates",
            "three widths above 0 and two weights each",
            candidate,
        )
    check_choice("config.nonfinite", config.nonfinite, ("stop", "skip"))
    _check(len(config.stages) > 0, "config.stages", "one at least", config.stages)
    for name in config.stages:
        check_choice("config.stages", name, STAGES)
        check_keys("config", config, (name,))
        _check_stage(config, name)
    for field in ("theta_alpha", "theta_beta", "theta_gamma"):
        _check(
            config.crf[field] > 0, f"config.crf.{field}", "above 0", config.crf[field]
        )
    _check_names("config.init.skip", config.init.skip)
    if config.canvas:
        _check(
            tuple(config.augment.scale) == (1.0, 1.0),
            "config.augment.scale",
            "(1.0, 1.0) with a canvas, which sets the size",
            config.augment.scale,
        )
    if not config.crf.get("share_parameters", True):
        _check(
            config.eval.num_iterations == config.crf.num_iterations,
            "config.eval.num_iterations",
            "config.crf.num_iterations, as the iterations do not share parameters, "
            f"{config.crf.num_iterations}",
            config.eval.num_iterations,
        )


def _check_stage(config: Config, name: str) -> None:
    stage, key = config[name], f"config.{name}"
    check_keys(key, stage, _STAGE_KEYS)
    for field in (
        *("steps", "batch_size", "micro_batches", "checkpoint_every", "eval_every"),
    ):
        _check(stage[field] >= 1, f"{key}.{field}", "at least 1", stage[field])
    for field in ("checkpoint_every", "eval_every"):
        _check(
            stage[field] % config.log_every == 0,
            f"{key}.{field}",
            f"a multiple of config.log_every ({config.log_every}), so that a loss "
            "is seen to be finite before anything is made of it",
            stage[field],
        )
    _check(
        0 <= stage.warmup_steps < stage.steps,
        f"{key}.warmup_steps",
        f"0 to steps - 1 ({stage.steps - 1})",
        stage.warmup_steps,
    )
    _check(
        len(stage.crop) == 2 and min(stage.crop) >= 1,
        f"{key}.crop",
        "(height, width) in pixels; on the command line write "
        f"--config.{name}.crop='(240, 320)'",
        stage.crop,
    )
    _check(
        stage.learning_rate > 0,
        f"{key}.learning_rate",
        "above 0",
        stage.learning_rate,
    )
    for field in ("weight_decay", "bias_decay", "clip_norm", "robustness"):
        _check(stage[field] >= 0, f"{key}.{field}", "at least 0", stage[field])
    _check(0 <= stage.momentum < 1, f"{key}.momentum", "0 to below 1", stage.momentum)
    for field, choices in _STAGE_CHOICES.items():
        check_choice(f"{key}.{field}", stage[field], choices)
    _check_names(f"{key}.frozen", stage.frozen)
    if config.canvas:
        square = (config.canvas, config.canvas)
        _check(
            tuple(stage.crop) == square,
            f"{key}.crop",
            f"the canvas, {square}",
            stage.crop,
        )
    earlier = ("", *config.stages[: config.stages.index(name)])
    check_choice(f"{key}.start_from", stage.start_from, earlier)


def _check_names(key: str, names: Any) -> None:
    _check(not isinstance(names, str), key, "names in a tuple, ('fc6',)", names)


def _check(holds: bool, key: str, expected: str, got: Any) -> None:
    if not holds:
        raise InputError(f"{key}: expected {expected}, got {got!r}")


def make_places_absolute(data: Config) -> None:
    """Makes the folders that a data set's config names absolute, in place.

    An evaluation may run from another folder. Those that are "" stay so.
    """
    for key, value in data.items():
        if isinstance(value, ConfigDict):
            make_places_absolute(value)
        elif key in _PLACES and value:
            data[key] = str(Path(value).expanduser().absolute())


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
