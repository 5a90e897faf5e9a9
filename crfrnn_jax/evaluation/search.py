"""Search for the widths and weights of a hand-set CRF, cross-validated.

Krähenbühl and Koltun's way: a coarse grid, then ever finer steps around its best. How
much of the gain is luck on these very images is seen by folds: the same search without
a fold, and its choice scored on that fold.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crfrnn_jax.checks import InputError, check_at_least, check_keys
from crfrnn_jax.evaluation.differences import differing
from crfrnn_jax.evaluation.prediction import CRFSetting
from crfrnn_jax.evaluation.tuning import ScoreSetting
from crfrnn_jax.metrics import mean_iou
from crfrnn_jax.processes import check_alike, failing_together, first_does, is_first
from crfrnn_jax.writing import write_text

# A setting -> int64 [folds, labels, labels].
ScoreFolds = Callable[[CRFSetting], np.ndarray]
# The values to start with of each of a setting's numbers, by name.
Grid = Mapping[str, Sequence[float]]


class Found(NamedTuple):
    """The outcome of a search; mean IoUs are 0..1.

    Attributes:
      setting: the best on all images.
      mean_iou: its mean IoU on all images together.
      seen: its mean IoU on each fold, averaged.
      held_out: the same, but on each fold of what was found without it; None with one
        fold. What `seen` is above that is over-fitting.
    """

    setting: CRFSetting
    mean_iou: float
    seen: float
    held_out: float | None


def check_search(grid: Grid, *, factor: float, rounds: int) -> None:
    """Checks the arguments of `search`.

    Raises:
      ValueError: a number has no values to start with, a width is not above 0 or a
        weight below 0, or the factor or the number of rounds is out of range.
    """
    check_at_least("rounds", rounds, 0)
    if not 1 < factor < math.inf:
        raise InputError(f"factor: expected a number above 1, got {factor}")
    check_keys("grid", grid, CRFSetting._fields)
    for name in CRFSetting._fields:
        values = grid[name]
        is_width = name.startswith("theta")
        expected = "numbers above 0" if is_width else "numbers of at least 0"
        wrong = [
            value
            for value in values
            if not math.isfinite(value) or value < 0 or (is_width and value == 0)
        ]
        if wrong or not values:
            raise InputError(f"{name}: expected {expected}, got {list(values)}")


def cross_validate(
    score_folds: ScoreFolds, grid: Grid, *, factor: float, rounds: int
) -> Found:
    """Searches on all folds, and once without each.

    Args:
      score_folds: the confusion matrices of a setting; asked again for the same ones.
      grid: the values to start with.
      factor: as in `search`, like `rounds`.
      rounds: as there.

    Raises:
      ValueError: an argument is out of its range.
    """

    def best_on(folds: Sequence[int]) -> CRFSetting:
        def objective(setting: CRFSetting) -> float:
            return mean_iou(score_folds(setting)[list(folds)].sum(0))

        return search(objective, grid, factor=factor, rounds=rounds)

    def on_fold(setting: CRFSetting, fold: int) -> float:
        return mean_iou(score_folds(setting)[fold])

    check_search(grid, factor=factor, rounds=rounds)
    count = len(score_folds(next(_settings(grid))))
    everything = range(count)
    best = best_on(everything)
    held_out = None
    if count > 1:
        held_out = np.nanmean(
            [on_fold(best_on([*{*everything} - {k}]), k) for k in everything]
        )
    return Found(
        best,
        mean_iou(score_folds(best).sum(0)),
        float(np.nanmean([on_fold(best, fold) for fold in everything])),
        None if held_out is None else float(held_out),
    )


def search(
    objective: Callable[[CRFSetting], float],
    grid: Grid,
    *,
    factor: float,
    rounds: int,
) -> CRFSetting:
    """The best of a grid, then of steps along one coordinate after another.

    In a round each coordinate in turn is multiplied and divided by the factor, and goes
    where that is better; the next round's factor is the square root. A weight that is 0
    stays so.

    Args:
      objective: to be maximised.
      grid: the values to start with.
      factor: of the first round, above 1.
      rounds: number of rounds, at least 0.

    Returns:
      The setting, the first of equals.

    Raises:
      ValueError: the grid, the factor or the number of rounds is out of range.
    """
    check_search(grid, factor=factor, rounds=rounds)
    best = max(_settings(grid), key=objective)
    for _ in range(rounds):
        for name in CRFSetting._fields:
            best = max(_neighbours(best, name, factor), key=objective)
        factor = math.sqrt(factor)
    return best


def _settings(grid: Grid) -> Iterator[CRFSetting]:
    for values in product(*(grid[name] for name in CRFSetting._fields)):
        yield CRFSetting(*map(float, values))


def _neighbours(setting: CRFSetting, name: str, factor: float) -> Iterator[CRFSetting]:
    """The setting itself first, so that equals do not move it."""
    yield setting
    value = getattr(setting, name)
    for other in (value * factor, value / factor):
        # As many digits as are printed, so that what is printed is what was scored.
        rounded = float(f"{other:.4g}")
        if rounded != value:
            yield setting._replace(**{name: rounded})


class Progress:
    """The settings scored so far, in a file of JSON lines that a restart reads.

    The first line says what was scored, each other one holds a setting and its
    confusion matrices, one a fold. Lines are flushed as they are written; one that was
    cut off is dropped. Of several processes all read it and the first one writes.
    """

    def __init__(self, path: Path, scored: Mapping[str, Any]):
        """Reads the file, or begins it.

        Args:
          path: the file.
          scored: what determines the scores besides the setting, as JSON has it.

        Raises:
          ValueError: the file is of something else, or no such file.
        """
        self._path = path
        self.known: dict[CRFSetting, np.ndarray] = {}
        with (
            failing_together("opening the progress"),
            first_does("reading the progress"),
        ):
            self._read(scored)
        check_alike("number of settings", len(self.known), path)

    def _read(self, scored: Mapping[str, Any]) -> None:
        path = self._path
        lines = _whole_lines(path)
        if not lines:
            lines = [{"scored": dict(scored)}]
        elif "scored" not in lines[0]:
            raise InputError(
                f"{path}: expected the progress of a search, got another file; give "
                "another --out"
            )
        # Where it lies may have another name on each host.
        changed = is_first() and differing(lines[0]["scored"], scored, "scored")
        if changed:
            raise InputError(
                f"{path}: expected settings scored in the same way; remove the file, "
                f"or give another --out. Saved -> given: {'; '.join(changed)}"
            )
        for line in lines[1:]:
            setting = CRFSetting(**line["setting"])
            self.known[setting] = np.array(line["confusions"], np.int64)
        # Anew: what follows a line that was cut off must not be joined to it.
        if is_first():
            write_text(path, "".join(json.dumps(line) + "\n" for line in lines))

    def score_folds(
        self,
        score_setting: ScoreSetting,
        num_folds: int,
        report: Callable[[CRFSetting, float], None],
    ) -> ScoreFolds:
        """A function that scores a setting unless it is known, and writes it down.

        Args:
          score_setting: the confusion matrices of all images.
          num_folds: every image falls into one by its place: 0, 1, 2, 0, 1, 2.
          report: called with each setting that is scored and its mean IoU.
        """

        def score_folds(setting: CRFSetting) -> np.ndarray:
            if setting not in self.known:
                confusions = score_setting(setting)
                folds = [
                    confusions[fold::num_folds].sum(0) for fold in range(num_folds)
                ]
                self._add(setting, np.stack(folds))
                report(setting, mean_iou(confusions.sum(0)))
            return self.known[setting]

        return score_folds

    def _add(self, setting: CRFSetting, confusions: np.ndarray) -> None:
        self.known[setting] = confusions
        if not is_first():
            return
        line = {"setting": setting._asdict(), "confusions": confusions.tolist()}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines
