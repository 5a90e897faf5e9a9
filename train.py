"""Trains the stages of a config.

python train.py --config=configs/shapes.py --workdir=runs/shapes [--config.key=value]

The same command resumes a run that was stopped. Many devices, several hosts:
docs/scaling.md.
"""

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from crfrnn_jax.models import BACKBONES
from crfrnn_jax.processes import is_first
from crfrnn_jax.training.command_line import define_process_flags, parse_flags
from crfrnn_jax.training.console import errors_in_one_line, set_up_console
from crfrnn_jax.training.loop import train

CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints and logs go.")

join_processes = define_process_flags(heeds_sigterm=True)


def main(arguments: list[str]) -> None:
    """Trains; errors of the user's making end in one line and status 1."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments: {arguments[1:]}")
    set_up_console()
    with errors_in_one_line("train.py"):
        join_processes()
        train(CONFIG.value, Path(WORKDIR.value or ""))
    if is_first():
        print(f"Trained. Evaluate with: python eval.py {_what_to_evaluate()}")


def _what_to_evaluate() -> str:
    """The whole run, or its last checkpoint if there is no row of the table yet."""
    stages = CONFIG.value.stages
    if {"plain", "end_to_end"} & set(stages):
        return f"--workdir={WORKDIR.value}{_who_is_trusted()}"
    last, steps = stages[-1], CONFIG.value[stages[-1]].steps
    return (
        f"--checkpoint={Path(WORKDIR.value or '') / 'checkpoints' / last / str(steps)}"
        f"{_who_is_trusted()}"
    )


def _who_is_trusted() -> str:
    """The config, by which a network of the user's own is known as such."""
    if CONFIG.value.model.name in BACKBONES:
        return ""
    return f" --config={config_flags.get_config_filename(flags.FLAGS['config'])}"


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
