"""The results of an evaluation as tables and a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from crfrnn_jax.evaluation.scoring import Score
from crfrnn_jax.metrics import mean_iou
from crfrnn_jax.writing import write_whole

TRIMAP_WIDTHS = tuple(range(1, 11))
ROW_TITLES = {
    "plain": "plain FCN",
    "postprocessing": "FCN + CRF as post-processing",
    "end_to_end": "end-to-end CRF-RNN",
}


def format_tables(scores: Mapping[str, Score], class_names: Sequence[str]) -> str:
    """The results as Markdown, in per cent: the rows, the trimaps, the classes."""
    summaries = {ROW_TITLES[row]: scores[row].summary() for row in scores}
    lines = ["| | mean IoU | pixel accuracy |", "| --- | ---: | ---: |"]
    for title, summary in summaries.items():
        numbers = _per_cent([summary["mean_iou"], summary["pixel_accuracy"]])
        lines.append(f"| {title} | {numbers} |")
    header = " | ".join(str(width) for width in TRIMAP_WIDTHS)
    for name, key in (
        ("mean IoU", "trimap_mean_iou"),
        ("pixel accuracy", "trimap_pixel_accuracy"),
    ):
        lines += ["", f"| {name} within (px) | {header} |"]
        lines.append("| --- |" + " ---: |" * len(TRIMAP_WIDTHS))
        for title, summary in summaries.items():
            lines.append(f"| {title} | {_per_cent(summary[key])} |")
    lines += ["", "| IoU | " + " | ".join(summaries) + " |"]
    lines.append("| --- |" + " ---: |" * len(summaries))
    for i, name in enumerate(class_names):
        ious = [summary["iou_per_class"][i] for summary in summaries.values()]
        lines.append(f"| {name} | {_per_cent(ious)} |")
    return "\n".join(lines) + "\n"


def _per_cent(numbers: list[float | None]) -> str:
    return " | ".join("-" if n is None else f"{100 * n:.2f}" for n in numbers)


def plot_trimaps(path: Path, scores: Mapping[str, Score]) -> None:
    """Plots the mean IoU near the boundaries by the width of the band."""
    # The object interface: it needs no display and keeps no global figure.
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for row, row_score in scores.items():
        values = [100 * mean_iou(band) for band in row_score.trimaps]
        axes.plot(TRIMAP_WIDTHS, values, marker="o", label=ROW_TITLES[row])
    axes.set_xlabel("width of the trimap, px")
    axes.set_ylabel("mean IoU, %")
    axes.legend()
    write_whole(path, lambda file: figure.savefig(file, dpi=120, format="png"))
