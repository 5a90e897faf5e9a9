"""Trains and scores the ablations of configs/ablations.py, and prints one table.

python ablate.py --config=configs/shapes.py --workdir=runs/ablations --seeds=0,1,2

The same command goes on where one that was stopped left off; --only=NAME,NAME runs some
of them, and the reference. After each run the table so far is in WORKDIR/results.md.
"""

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from configs.ablations import ABLATIONS, REFERENCE
from crfrnn_jax.checks import InputError, check_choice
from crfrnn_jax.training.ablation import Ablation, ablate
from crfrnn_jax.training.command_line import parse_flags
from crfrnn_jax.training.console import errors_in_one_line, set_up_console

CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where all runs and the table go.")
SEEDS = flags.DEFINE_list("seeds", ["0"], "Seeds of the training.")
ONLY = flags.DEFINE_list("only", [], "Names of ablations, if not all.")


def main(arguments: list[str]) -> None:
    """Ablates; errors of the user's making end in one line and status 1."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments: {arguments[1:]}")
    set_up_console()
    with errors_in_one_line("ablate.py"):
        table = ablate(
            CONFIG.value,
            Path(WORKDIR.value or ""),
            _chosen(),
            reference=REFERENCE,
            seeds=_seeds(),
        )
    print(table)


def _chosen() -> dict[str, Ablation]:
    """The ablations that --only names, and the reference; all if it names none."""
    for name in ONLY.value:
        check_choice("--only", name, tuple(ABLATIONS))
    names = {REFERENCE, *(ONLY.value or ABLATIONS)}
    return {name: ABLATIONS[name] for name in ABLATIONS if name in names}


def _seeds() -> list[int]:
    if not all(seed.strip().isdecimal() for seed in SEEDS.value):
        raise InputError(f"--seeds: expected integers, 0,1,2, got {SEEDS.value}")
    return [int(seed) for seed in SEEDS.value]


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
