"""Outcomes of ablations, side by side: means and spreads over seeds, as a table."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """One ablation's scores, 0..1, None where it has none yet or diverged.

    Attributes:
      mean_ious: mean IoU for each seed.
      trimaps: mean IoU within 1 px of the true boundaries, for each seed.
    """

    mean_ious: tuple[float | None, ...]
    trimaps: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        return _mean(self.mean_ious)

    @property
    def spread(self) -> float | None:
        """Greatest less least of the seeds."""
        known = [value for value in self.mean_ious if value is not None]
        return max(known) - min(known) if known else None

    @property
    def trimap(self) -> float | None:
        """Mean over the seeds, near the boundaries."""
        return _mean(self.trimaps)

    def difference(self, other: "Outcome") -> float | None:
        """Mean difference to another ablation, over the seeds that both have."""
        pairs = zip(self.mean_ious, other.mean_ious, strict=True)
        return _mean([a - b for a, b in pairs if a is not None and b is not None])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def format_outcomes(
    outcomes: Mapping[str, Outcome], *, reference: str, seeds: Sequence[int]
) -> str:
    """The outcomes as a Markdown table, in per cent; "-" is what is not there."""
    columns = [f"seed {seed}" for seed in seeds]
    columns += ["mean", "spread (max - min)", f"less {reference}", "trimap 1 px, mean"]
    lines = ["| mean IoU | " + " | ".join(columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    for name, outcome in outcomes.items():
        numbers = [_per_cent(value) for value in (*outcome.mean_ious, outcome.mean)]
        numbers.append(_per_cent(outcome.spread))
        numbers.append(_per_cent(outcome.difference(outcomes[reference]), "+.2f"))
        numbers.append(_per_cent(outcome.trimap))
        lines.append(f"| {name} | " + " | ".join(numbers) + " |")
    return "\n".join(lines) + "\n"


def _per_cent(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(100 * value, form)


def outcomes_as_json(
    outcomes: Mapping[str, Outcome], *, reference: str, seeds: Sequence[int]
) -> dict[str, Any]:
    """The same numbers for JSON, 0..1, None for what is not there."""
    rows = {
        name: {
            "mean_iou": outcome.mean_ious,
            "mean": outcome.mean,
            "spread": outcome.spread,
            "difference": outcome.difference(outcomes[reference]),
            "trimap_mean_iou": outcome.trimaps,
            "trimap_mean": outcome.trimap,
        }
        for name, outcome in outcomes.items()
    }
    return {"seeds": list(seeds), "reference": reference, "rows": rows}
