"""Evaluates a trained run: plain FCN, CRF as post-processing, end to end.

python eval.py --workdir=runs/shapes
python eval.py --checkpoint=runs/shapes/checkpoints/end_to_end/500

With --config=FILE, and --config.key=value, the config's `eval`, `postprocessing` and
the folders of `data` stand in for those of the training. It is needed if the network's
class is one of your own: a checkpoint alone makes nothing be imported.
"""

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from crfrnn_jax.processes import check_alike, is_first
from crfrnn_jax.training.checkpoints import (
    CheckpointError,
    latest_checkpoint,
    load_for_evaluation,
)
from crfrnn_jax.training.command_line import define_process_flags, parse_flags
from crfrnn_jax.training.console import errors_in_one_line, set_up_console
from crfrnn_jax.training.evaluate import evaluate
from crfrnn_jax.writing import check_folder

WORKDIR = flags.DEFINE_string("workdir", None, "The work directory of a run.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "One checkpoint of a run.")
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A config to take eval, postprocessing and data's folders from."
)

join_processes = define_process_flags()


def main(arguments: list[str]) -> None:
    """Evaluates; errors of the user's making end in one line and status 1."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments: {arguments[1:]}")
    set_up_console()
    with errors_in_one_line("eval.py"):
        join_processes()
        if CHECKPOINT.value:
            plain, end_to_end, directory = _of_checkpoint(Path(CHECKPOINT.value))
        else:
            plain, end_to_end, directory = _of_workdir(Path(WORKDIR.value or ""))
        tables = evaluate(plain, end_to_end, directory, override=CONFIG.value)
    if is_first():
        print(tables)
        print(f"Panels: {directory / 'panels.png'}")
        print(f"Results: {directory / 'results.json'}")
        print(f"Trimaps: {directory / 'trimap.png'}")


def _of_workdir(workdir: Path) -> tuple[Path | None, Path | None, Path]:
    """The newest checkpoints of a run, and where its results go."""
    check_folder("workdir", workdir)
    found = {row: latest_checkpoint(workdir, row) for row in ("plain", "end_to_end")}
    steps = [path and path.name for path in found.values()]
    check_alike("newest checkpoints", str(steps), workdir)
    if not any(found.values()):
        raise CheckpointError(
            f"{workdir}: no checkpoint of stage 'plain' or 'end_to_end'; train first: "
            f"python train.py --config=CONFIG --workdir={workdir}, or name any stage's "
            "with --checkpoint"
        )
    for row in (row for row, path in found.items() if path is None):
        print(f"No checkpoint of stage '{row}': its rows are left out.")
    return found["plain"], found["end_to_end"], workdir / "evaluation"


def _of_checkpoint(path: Path) -> tuple[Path | None, Path | None, Path]:
    """A checkpoint as the plain or the end-to-end one; its results go beside it."""
    _, meta = load_for_evaluation(path)
    directory = path.parent / f"evaluation_{path.name}"
    if meta["stage"] == "end_to_end":
        return None, path, directory
    return path, None, directory


if __name__ == "__main__":
    flags.mark_flags_as_mutual_exclusive(["workdir", "checkpoint"], required=True)
    app.run(main, flags_parser=parse_flags)
