"""Logs of a run: JSON lines, TensorBoard where it is installed, a progress bar."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from crfrnn_jax.processes import is_first
from crfrnn_jax.writing import write_text

try:
    from tensorboardX import SummaryWriter
except ImportError:
    SummaryWriter = None


# What stands beside the bar: it has to fit into 80 columns.
_SHORT_NAMES = {
    "loss": "loss",
    "learning_rate": "rate",
    "images_per_second": "img/s",
    "val_mean_iou_plain": "IoU plain",
    "val_mean_iou_unary": "IoU unary",
    "val_mean_iou_end_to_end": "CRF",
}


class Journal:
    """Appends scalars to `metrics.jsonl` and shows them beside a progress bar.

    A context manager. Lines are flushed as they are written. A resumed run appends, and
    drops what was logged of the steps that it will do again. Of several processes the
    first writes, and the others are silent.
    """

    def __init__(self, workdir: Path, stage: str, done: int, steps: int):
        self._file = self._board = None
        if is_first():
            path = _log(workdir)
            drop_later(path, stage, done)
            self._file = path.open("a")
            if SummaryWriter:
                self._board = SummaryWriter(
                    str(workdir / "tensorboard" / stage), purge_step=done + 1
                )
        self._stage = stage
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[scalars]}", table_column=Column(no_wrap=True)),
            disable=not is_first(),
        )
        self._task = self._progress.add_task(
            stage, total=steps, completed=done, scalars=""
        )

    def __enter__(self) -> "Journal":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()

    def advance(self, step: int) -> None:
        """Moves the bar to a step."""
        self._progress.update(self._task, completed=step)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Logs scalars of a step under their names."""
        if self._file is None:
            return
        # JSON has no NaN: what is not a number is written as null.
        values = {k: v if math.isfinite(v) else None for k, v in scalars.items()}
        line: dict[str, Any] = {"stage": self._stage, "step": step, **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board:
            for name, value in scalars.items():
                self._board.add_scalar(name, value, step)
        beside_bar = " ".join(
            f"{_SHORT_NAMES[name]} {value:.3g}"
            for name, value in scalars.items()
            if name in _SHORT_NAMES
        )
        self._progress.update(self._task, completed=step, scalars=beside_bar)
        if not self._progress.console.is_terminal:
            text = " ".join(f"{name} {value:.4g}" for name, value in scalars.items())
            self._progress.console.print(
                f"{self._stage} {step}: {text}", highlight=False, soft_wrap=True
            )


def is_validated(workdir: Path, stage: str, step: int) -> bool:
    """Whether the log has scores of validation images for a step."""
    return any(
        line["stage"] == stage and line["step"] == step and "loss" not in line
        for _, line in _lines(_log(workdir))
    )


def _log(workdir: Path) -> Path:
    return workdir / "metrics.jsonl"


def drop_later(path: Path, stage: str, done: int) -> None:
    """Drops a log's lines of a stage's steps after `done`, and one that was cut off."""
    kept = [
        text
        for text, line in _lines(path)
        if line["stage"] != stage or line["step"] <= done
    ]
    # Under another name first: a run that dies here loses no line.
    if path.exists():
        write_text(path, "".join(kept))


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of a log that are whole, as text and what they hold."""
    if not path.exists():
        return
    for text in path.read_text().splitlines():
        try:
            yield text + "\n", json.loads(text)
        except json.JSONDecodeError:
            continue
