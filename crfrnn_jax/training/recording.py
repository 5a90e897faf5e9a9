"""What the steps have given since the last line of the log, and what was not finite."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from crfrnn_jax.training.journal import drop_later

# Of steps that are skipped: more will not mend themselves.
_MOST_IN_A_ROW = 100


class NonFiniteLossError(Exception):
    """The loss became infinite or NaN; the last checkpoint is from before."""


def how_to_mend(stage: str) -> str:
    """What to try where a stage's numbers are not finite, for messages."""
    key = f"--config.{stage}"
    return (
        f"In a new --workdir, try a lower {key}.learning_rate, a longer "
        f"{key}.warmup_steps or, with the CRF, a lower {key}.weights_learning_rate."
    )


class Recorder:
    """The scalars of the steps since the last line, and the images they came from.

    A step whose loss or gradient is not finite is written to `nonfinite.jsonl`, with
    the names of its images.
    """

    def __init__(
        self,
        workdir: Path,
        stage: str,
        done: int,
        *,
        skips: bool,
        recorded: Sequence[dict[str, float]] = (),
    ):
        """Sets up.

        Args:
          workdir: of the run.
          stage: its name.
          done: steps of it; what was reported of later ones is dropped.
          skips: whether such a step was skipped, and is counted; else it is an error.
          recorded: of the steps before, from `scalars`.
        """
        name = "nonfinite.jsonl"
        if jax.process_count() > 1:  # each knows the names of its own images
            name = f"nonfinite_{jax.process_index()}.jsonl"
        self._path = workdir / name
        drop_later(self._path, stage, done)
        self._stage = stage
        self._skips = skips
        self._known = list(recorded)
        self._skipped_in_a_row = 0
        self._new: list[tuple[int, dict[str, jax.Array], list[str]]] = []

    def add(
        self, step: int, scalars: dict[str, jax.Array], names: Sequence[str]
    ) -> None:
        """Notes a step, without waiting for the device.

        Args:
          step: its number.
          scalars: by name, what the step has returned.
          names: of its images.
        """
        self._new.append((step, scalars, list(names)))

    def scalars(self) -> list[dict[str, float]]:
        """Those of each step since the last line; waits for the device.

        Raises:
          NonFiniteLossError: one is not finite, and steps are not skipped, or a hundred
            in a row were. A lattice that overflowed is seen here, too: it filters to
            NaN.
        """
        scalars = jax.device_get([scalars for _, scalars, _ in self._new])
        for (step, _, names), of_step in zip(self._new, scalars, strict=True):
            values = {name: float(value) for name, value in of_step.items()}
            self._skipped_in_a_row += 1
            if _are_finite(values):
                self._skipped_in_a_row = 0
            else:
                self._report(step, values, names)
            self._known.append(values)
        self._new = []
        return self._known

    def take(self) -> dict[str, float]:
        """Their means, and the number that was skipped; they are forgotten then.

        Raises:
          NonFiniteLossError: as `scalars`.
        """
        recorded = self.scalars()
        self._known = []
        finite = [values for values in recorded if _are_finite(values)]
        means = {
            name: float(np.mean([scalars[name] for scalars in finite]))
            if finite
            else float("nan")
            for name in recorded[0]
        }
        if self._skips:
            means["skipped"] = len(recorded) - len(finite)
        return means

    def _report(self, step: int, values: dict[str, float], names: list[str]) -> None:
        line: dict[str, Any] = {"stage": self._stage, "step": step, "images": names}
        line |= {name: str(value) for name, value in values.items()}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self._skips and self._skipped_in_a_row < _MOST_IN_A_ROW:
            return
        if self._skips:
            raise NonFiniteLossError(
                f"stage '{self._stage}', step {step}: {_MOST_IN_A_ROW} steps in a row "
                f"were not finite, and skipped. {how_to_mend(self._stage)}"
            )
        raise NonFiniteLossError(
            f"stage '{self._stage}', step {step}: loss {values['loss']}, gradient norm "
            f"{values['gradient_norm']}. No checkpoint holds this step or a later one; "
            f"{self._path} holds the names of its images; --config.nonfinite=skip "
            f"leaves such steps out. {how_to_mend(self._stage)}"
        )


def _are_finite(values: dict[str, float]) -> bool:
    return all(np.isfinite(value) for value in values.values())
