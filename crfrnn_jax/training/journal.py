"""Logs of a run: JSON lines, TensorBoard where it is installed, a progress bar."""

import json
import logging
import math
from pathlib import Path
from typing import Any

from absl import logging as absl_logging
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

try:
    from tensorboardX import SummaryWriter
except ImportError:
    SummaryWriter = None


def set_up_console() -> None:
    """Plain lines of our own; of the libraries' logs, which are long, errors only."""
    absl_logging.set_verbosity(absl_logging.ERROR)
    absl_logging.get_absl_handler().setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("crfrnn_jax").setLevel(logging.INFO)


class Journal:
    """Appends scalars to `metrics.jsonl` and shows them beside a progress bar.

    A context manager. Lines are flushed as they are written; a resumed run appends.
    """

    def __init__(self, workdir: Path, stage: str, done: int, steps: int):
        self._file = (workdir / "metrics.jsonl").open("a")
        self._board = (
            SummaryWriter(str(workdir / "tensorboard" / stage))
            if SummaryWriter
            else None
        )
        self._stage = stage
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[scalars]}"),
        )
        self._task = self._progress.add_task(
            stage, total=steps, completed=done, scalars=""
        )

    def __enter__(self) -> "Journal":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._file.close()
        if self._board:
            self._board.close()

    def advance(self, step: int) -> None:
        """Moves the bar to a step."""
        self._progress.update(self._task, completed=step)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Logs scalars of a step under their names."""
        # JSON has no NaN: what is not a number is written as null.
        values = {k: v if math.isfinite(v) else None for k, v in scalars.items()}
        line: dict[str, Any] = {"stage": self._stage, "step": step, **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board:
            for name, value in scalars.items():
                self._board.add_scalar(name, value, step)
        text = " ".join(f"{name} {value:.4g}" for name, value in scalars.items())
        self._progress.update(self._task, completed=step, scalars=text)
        if not self._progress.console.is_terminal:
            self._progress.console.print(
                f"{self._stage} {step}: {text}", highlight=False, soft_wrap=True
            )
