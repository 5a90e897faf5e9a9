"""How time and memory grow with pixels, labels, vertices, dimensions and the batch.

python benchmarks/growth.py [--subjects pixels labels ...] [--plot FILE.png]

Each subject changes one thing of the reference work, 5 iterations of both kernels with
21 labels on 500 x 366 pixels, set-up included, compiled and warm. Pixels: the image is
tiled, so the vertices of a pixel stay as many. Vertices: noise is added. Dimensions:
the image has other channels than three. Memory is what XLA reserves; most of what it
reserves for the larger rooms is never touched.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from inputs import LABELS, count_vertices, load_image, make_logits, with_noise
from measuring import interleaved_medians, report, time_once

from crfrnn_jax import crf_rnn, init_crf_params
from crfrnn_jax.layers import CRFRNN

HEADER = ("subject", "size", "vertices", "ms", "ns a pixel", "reserved (MiB)")


class Case(NamedTuple):
    """One size of a subject."""

    size: float
    image: np.ndarray  # [height, width, channels], or with a batch axis before
    labels: int = LABELS


def main() -> None:
    """A table of all subjects, and a plot of them."""
    subjects: dict[str, Callable[[np.ndarray], Iterator[Case]]] = {
        "pixels": pixels,
        "labels": labels,
        "vertices": vertices,
        "dimensions": dimensions,
        "batch": batch,
    }
    parser = argparse.ArgumentParser(description="How the CRF's cost grows.")
    parser.add_argument("--image", help="a photograph, instead of a made-up scene")
    parser.add_argument(
        "--subjects", nargs="+", choices=list(subjects), default=list(subjects)
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plot", help="where to draw the figures, on log axes")
    parser.add_argument("--out", help="where to write the figures as JSON")
    options = parser.parse_args()

    image = load_image(options.image)
    rows = [
        measure(subject, case, options.repeats)
        for subject in options.subjects
        for case in subjects[subject](image)
    ]
    report("growth", HEADER, rows, options.out)
    if options.plot:
        draw(rows, options.plot)


def pixels(image: np.ndarray) -> Iterator[Case]:
    """0.2 to 8 megapixels."""
    for down, right in ((1, 1), (2, 1), (2, 2), (4, 3), (6, 4), (7, 6)):
        tiled = np.tile(image, (down, right, 1))
        yield Case(tiled.shape[0] * tiled.shape[1] / 1e6, tiled)


def labels(image: np.ndarray) -> Iterator[Case]:
    """2 to 150 of them."""
    for count in (2, 5, 10, 21, 60, 150):
        yield Case(count, image, count)


def vertices(image: np.ndarray) -> Iterator[Case]:
    """From those of the image to nearly as many as there may be."""
    for sigma in (0, 2, 4, 8, 16, 32):
        noisy = with_noise(image, sigma)
        yield Case(count_vertices(noisy, 160.0, 3.0), noisy)


def dimensions(image: np.ndarray) -> Iterator[Case]:
    """From d = 3 to 8: one to six channels, the later ones the first, moved."""
    moved = np.roll(image, (11, 17), axis=(0, 1))
    channels = np.concatenate([image, moved], axis=-1)
    for count in (1, 2, 3, 4, 6):
        yield Case(2 + count, channels[..., :count])


def batch(image: np.ndarray) -> Iterator[Case]:
    """One to eight images, each with noise of its own."""
    images = np.stack([with_noise(image, 1.0, seed) for seed in range(8)])
    for count in (1, 2, 4, 8):
        yield Case(count, images[:count])


def measure(subject: str, case: Case, repeats: int) -> tuple:
    """A row of the table."""
    image = case.image
    height, width = image.shape[-3:-1]
    logits = jnp.asarray(make_logits(height, width, case.labels))
    params = init_crf_params(case.labels)
    if image.ndim == 4:
        logits = jnp.stack([logits] * len(image))
        layer = CRFRNN(case.labels)
        refine = jax.jit(partial(layer.apply, {"params": params._asdict()}))
    else:
        refine = jax.jit(lambda image, logits: crf_rnn(image, logits, params))
    first = image[0] if image.ndim == 4 else image
    compiled = refine.lower(image, logits).compile()
    memory = compiled.memory_analysis()
    timers = {"ours": partial(time_once, lambda: compiled(image, logits))}
    seconds = interleaved_medians(timers, repeats)["ours"]
    points = logits.size / case.labels
    assert memory is not None
    reserved = memory.temp_size_in_bytes + memory.output_size_in_bytes
    return (
        subject,
        float(case.size),
        count_vertices(first, 160.0, 3.0),
        1e3 * seconds,
        1e9 * seconds / points,
        reserved / 2**20,
    )


def draw(rows: list[tuple], path: str) -> None:
    """Time against size, one panel for each subject."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    subjects = list(dict.fromkeys(row[0] for row in rows))
    figure = Figure(figsize=(3.2 * len(subjects), 3), layout="constrained")
    panels = figure.subplots(1, len(subjects), squeeze=False)[0]
    for panel, subject in zip(panels, subjects, strict=True):
        size, milliseconds = np.array(
            [[row[1], row[3]] for row in rows if row[0] == subject]
        ).T
        panel.loglog(size, milliseconds, "o-", label="measured")
        proportional = milliseconds[0] * size / size[0]
        panel.loglog(size, proportional, ":", color="grey", label="proportional")
        panel.set_xlabel("megapixels" if subject == "pixels" else subject)
        panel.set_ylabel("ms")
        # Ticks between the powers of ten would print over each other.
        ends = [size[0], size[-1]]
        panel.set_xticks(ends, [f"{end:.3g}" for end in ends])
        panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
    panels[0].legend()
    figure.savefig(Path(path), dpi=120)


if __name__ == "__main__":
    main()
