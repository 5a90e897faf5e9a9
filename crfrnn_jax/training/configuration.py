"""What a config must hold. Configs are locked: a key that is not there can't be set."""

from typing import Any

from crfrnn_jax.attributes import check_attributes, fits
from crfrnn_jax.checks import InputError, check_choice, check_keys, shown
from crfrnn_jax.data.loading import check_data
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.models import BACKBONES
from crfrnn_jax.sections import (
    at_least,
    check_section,
    flag,
    is_row,
    not_negative,
    number,
    one_of,
    positive,
    section,
    text,
    texts,
)

# An ml_collections.ConfigDict, whose values have no static types.
Config = Any

STAGES = ("fcn", "finetune", "plain", "end_to_end")


def _check_model(name: str, value: Any) -> None:
    """The attributes of a class that is imported are seen when it is built."""
    check_section(name, value)
    check_keys(name, value, ("name",))
    text(f"{name}.name", value["name"])
    if value["name"] in BACKBONES:
        attributes = {key: value[key] for key in value if key != "name"}
        check_attributes(name, BACKBONES[value["name"]], attributes)


def _check_crf(name: str, value: Any) -> None:
    widths = ("theta_alpha", "theta_beta", "theta_gamma")
    check_section(name, value)
    check_attributes(name, CRFRNN, value, needed=("num_iterations", *widths))
    at_least(0)(f"{name}.num_iterations", value["num_iterations"])
    for width in widths:
        positive(f"{name}.{width}", value[width])


def _check_scale(name: str, value: Any) -> None:
    for side in _row(name, value, 2, "(lowest, highest), two factors"):
        positive(name, side)


def _check_crop(name: str, value: Any) -> None:
    expected = (
        f"(height, width) in pixels; on the command line write --{name}='(240, 320)'"
    )
    for side in _row(name, value, 2, expected):
        at_least(1)(name, side)


def _check_candidates(name: str, value: Any) -> None:
    _check(is_row(value) and len(value) > 0, name, "one at least", value)
    for candidate in value:
        _check(
            is_row(candidate)
            and len(candidate) == 5
            and all(fits(part, float) for part in candidate)
            and min(candidate[:3]) > 0,
            name,
            "three widths above 0 and two weights each",
            candidate,
        )


def _row(name: str, value: Any, length: int, expected: str) -> Any:
    _check(is_row(value) and len(value) == length, name, expected, value)
    return value


# Each key and what its value has to be.
_STAGE = section(
    {
        "start_from": text,
        "use_crf": flag,
        "frozen": texts,
        "class_weighting": one_of("none", "log"),
        "reduction": one_of("mean", "sum"),
        "robustness": not_negative,
        "steps": at_least(1),
        "batch_size": at_least(1),
        "micro_batches": at_least(1),
        "crop": _check_crop,
        "optimizer": one_of("adamw", "sgd"),
        "momentum": number("from 0 to below 1", lambda value: 0 <= value < 1),
        "schedule": one_of("cosine", "constant"),
        "learning_rate": positive,
        "weights_learning_rate": not_negative,
        "compatibility_learning_rate": not_negative,
        "bias_multiplier": not_negative,
        "weight_decay": not_negative,
        "bias_decay": not_negative,
        "warmup_steps": at_least(0),
        "clip_norm": not_negative,
        "checkpoint_every": at_least(1),
        "eval_every": at_least(1),
    }
)
_SECTIONS = {
    "seed": at_least(0),
    "mesh": section({"data": at_least(0), "parameters": at_least(1)}),
    "data": check_data,
    "data_threads": at_least(1),
    "canvas": at_least(0),
    "augment": section({"flip": flag, "scale": _check_scale, "color": not_negative}),
    "model": _check_model,
    "crf": _check_crf,
    "init": section({"file": text, "skip": texts}),
    "stages": texts,
    "nonfinite": one_of("stop", "skip"),
    "log_every": at_least(1),
    "eval": section(
        {
            "num_iterations": at_least(0),
            "validation_images": at_least(1),
            "panels": at_least(1),
            "multiple_of": at_least(1),
        }
    ),
    "postprocessing": section(
        {"train_images": at_least(1), "candidates": _check_candidates}
    ),
}
_CONFIG = section(_SECTIONS, optional=dict.fromkeys(STAGES, _STAGE))


def check_config(config: Config) -> None:
    """Checks the values that would otherwise fail late, or pass and mislead.

    Raises:
      ValueError: naming the key, what was expected and what came.
    """
    check_section("config", config)
    if list(config) == ["data"]:
        raise InputError(
            "config: expected a whole config, got one of data alone, which is for "
            "prepare.py, or for another config to take its `data` from"
        )
    _CONFIG("config", config)
    _check(len(config.stages) > 0, "config.stages", "one at least", config.stages)
    repeated = len(set(config.stages)) < len(config.stages)
    _check(not repeated, "config.stages", "each once", config.stages)
    for name in config.stages:
        check_choice("config.stages", name, STAGES)
        check_keys("config", config, (name,))
        _check_stage(config, name)
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


def check_sections(config: Config, names: tuple[str, ...]) -> None:
    """Checks some sections alone, as of a config that another version wrote.

    Raises:
      ValueError: naming the key, what was expected and what came.
    """
    check_keys("config", config, names)
    for name in names:
        _SECTIONS[name](f"config.{name}", config[name])


def _check_stage(config: Config, name: str) -> None:
    """How a stage's values go together, and with the rest."""
    stage, key = config[name], f"config.{name}"
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


def _check(holds: bool, key: str, expected: str, got: Any) -> None:
    if not holds:
        raise InputError(f"{key}: expected {expected}, got {shown(got)}")
