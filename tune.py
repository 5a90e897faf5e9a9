"""Finds the widths and weights of a CRF as post-processing, on training images.

python tune.py --checkpoint=runs/shapes/checkpoints/plain/500 --out=tuned.txt
python eval.py --workdir=runs/shapes --config=configs/shapes.py --flagfile=tuned.txt

The same command goes on where one that was stopped left off. With --config=FILE, and
--config.key=value, the config's `eval`, `postprocessing` and the folders of `data`
stand in for those of the training: --config.postprocessing.train_images=100. It is
needed if the network's class is one of your own.
"""

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from crfrnn_jax.checks import InputError
from crfrnn_jax.processes import is_first
from crfrnn_jax.training.command_line import define_process_flags, parse_flags
from crfrnn_jax.training.console import errors_in_one_line, set_up_console
from crfrnn_jax.training.tune import as_flag, format_found, tune

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "One checkpoint of a run.")
OUT = flags.DEFINE_string("out", None, "The flag file that holds what is found.")
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A config to take eval, postprocessing and data's folders from."
)
GRID = {
    name: flags.DEFINE_list(name, values.split(","), f"The grid's values, {unit}.")
    for name, values, unit in (
        ("theta_alpha", "10,20,40,80", "in pixels"),
        ("theta_beta", "5,10,20", "in 0..255 intensity units"),
        ("theta_gamma", "1.5,3", "in pixels"),
        ("bilateral_weight", "1.5,3,6", "at least 0"),
        ("spatial_weight", "0,1,3", "at least 0"),
    )
}
FACTOR = flags.DEFINE_float("factor", 1.5, "Of the first round of refinement.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds of refinement.")
FOLDS = flags.DEFINE_integer("folds", 5, "Folds; 1 is no cross-validation.")

join_processes = define_process_flags()


def main(arguments: list[str]) -> None:
    """Tunes; errors of the user's making end in one line and status 1."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments: {arguments[1:]}")
    set_up_console()
    with errors_in_one_line("tune.py"):
        join_processes()
        found = tune(
            Path(CHECKPOINT.value or ""),
            Path(OUT.value or ""),
            {name: _numbers(flag) for name, flag in GRID.items()},
            factor=FACTOR.value,
            rounds=ROUNDS.value,
            folds=FOLDS.value,
            override=CONFIG.value,
        )
    if is_first():
        print(format_found(found))
        print(f"In {OUT.value}: {as_flag(found.setting)}")


def _numbers(flag: flags.FlagHolder) -> tuple[float, ...]:
    try:
        return tuple(float(text) for text in flag.value)
    except ValueError as error:
        raise InputError(
            f"--{flag.name}: expected numbers, 10,20, got {flag.value}"
        ) from error


if __name__ == "__main__":
    flags.mark_flags_as_required(["checkpoint", "out"])
    app.run(main, flags_parser=parse_flags)
