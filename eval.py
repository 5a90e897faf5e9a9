"""Evaluates a trained run: plain FCN, CRF as post-processing, end to end.

python eval.py --workdir=runs/shapes
python eval.py --checkpoint=runs/shapes/checkpoints/end_to_end/500
python eval.py --workdir=runs/camvid --data_dir=FOLDER    # the data has moved
"""

from pathlib import Path

from absl import app, flags

from crfrnn_jax.training.checkpoints import (
    CheckpointError,
    check_checkpoint,
    latest_checkpoint,
)
from crfrnn_jax.training.console import errors_in_one_line, set_up_console
from crfrnn_jax.training.evaluate import evaluate

WORKDIR = flags.DEFINE_string("workdir", None, "The work directory of a run.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "One checkpoint of a run.")
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where the data set lies, if not where it lay in training."
)


def main(arguments: list[str]) -> None:
    """Evaluates; errors of the user's making end in one line and status 1."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments: {arguments[1:]}")
    set_up_console()
    with errors_in_one_line("eval.py"):
        if CHECKPOINT.value:
            plain, end_to_end, directory = _of_checkpoint(Path(CHECKPOINT.value))
        else:
            plain, end_to_end, directory = _of_workdir(Path(WORKDIR.value or ""))
        tables = evaluate(plain, end_to_end, directory, data_dir=DATA_DIR.value)
    print(tables)
    print(f"Panels: {directory / 'panels.png'}")
    print(f"Results: {directory / 'results.json'}, trimaps: {directory / 'trimap.png'}")


def _of_workdir(workdir: Path) -> tuple[Path | None, Path | None, Path]:
    """The newest checkpoints of a run, and where its results go."""
    found = {row: latest_checkpoint(workdir, row) for row in ("plain", "end_to_end")}
    if not any(found.values()):
        raise CheckpointError(
            f"{workdir}: no checkpoint of stage 'plain' or 'end_to_end'; train first: "
            f"python train.py --config=CONFIG --workdir={workdir}"
        )
    return found["plain"], found["end_to_end"], workdir / "evaluation"


def _of_checkpoint(path: Path) -> tuple[Path | None, Path | None, Path]:
    """A checkpoint as the plain or the end-to-end one, and where its results go."""
    path = check_checkpoint(path)
    directory = path.parents[2] / f"evaluation_{path.parent.name}_{path.name}"
    if path.parent.name == "end_to_end":
        return None, path, directory
    return path, None, directory


if __name__ == "__main__":
    flags.mark_flags_as_mutual_exclusive(["workdir", "checkpoint"], required=True)
    app.run(main)
