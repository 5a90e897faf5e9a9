"""The whole CRF, set-up included, compiled and warm, beside pydensecrf's C++.

python benchmarks/crf.py [--image FILE] [--peer PYTHON] [--out FILE.json]

PYTHON is an interpreter that has pydensecrf2 1.1; docs/performance.md says how to make
one. Without it the table has our own figures alone.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from inputs import (
    BUSY_VERTICES,
    LABELS,
    add_noise,
    count_vertices,
    load_image,
    make_logits,
)
from measuring import interleaved_medians, report, time_once

from crfrnn_jax import crf_rnn, init_crf_params


class Work(NamedTuple):
    """One row of the table."""

    name: str
    image: str  # "quiet" or "busy"
    num_iterations: int
    widths: tuple[float, float, float]
    backward: bool
    bar: float
    aim: float


WORKS = (
    Work("5 iterations, 160/3/3", "quiet", 5, (160.0, 3.0, 3.0), False, 0.7, 0.35),
    Work("the same, busy image", "busy", 5, (160.0, 3.0, 3.0), False, 0.7, 0.35),
    Work("5 iterations, 80/13/3", "quiet", 5, (80.0, 13.0, 3.0), False, 0.7, 0.35),
    Work("10 iterations, 160/3/3", "quiet", 10, (160.0, 3.0, 3.0), False, 0.55, 0.3),
    Work("5, forward and backward", "quiet", 5, (160.0, 3.0, 3.0), True, 1.2, 0.7),
)
HEADER = ("work", "vertices", "ours (ms)", "peer (ms)", "ratio", "bar", "aim")


def main() -> None:
    """Times all rows in turns, ours and the peer's.

    A few bad seconds then spoil a few turns of each row, which its median does without,
    and not all turns of one.
    """
    options = parse_options("The CRF beside pydensecrf.")
    images, logits = make_inputs(options.image)
    with peer_timer(options.peer, images, logits) as peer:
        timers = {}
        for work in WORKS:
            ours = our_work(work, images, logits)
            timers[work, "ours"] = partial(time_once, ours)
            if peer:
                timers[work, "peer"] = partial(peer, work)
        medians = interleaved_medians(timers, options.repeats)
    rows = [row_of(work, images[work.image], medians) for work in WORKS]
    report("crf", HEADER, rows, options.out)


def parse_options(description: str) -> argparse.Namespace:
    """The flags of the benchmarks beside the peer."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--image", help="a photograph, instead of a made-up scene")
    parser.add_argument("--peer", help="the Python that has pydensecrf2")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", help="where to write the figures as JSON")
    return parser.parse_args()


def make_inputs(path: str | None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The images by the works' names for them, and logits of their size."""
    quiet = load_image(path)
    height, width, _ = quiet.shape
    images = {"quiet": quiet, "busy": add_noise(quiet, BUSY_VERTICES)}
    return images, make_logits(height, width, LABELS)


def our_work(
    work: Work, images: dict[str, np.ndarray], logits: np.ndarray
) -> Callable[[], jax.Array]:
    """Our side of a row: the refined logits, or the gradients of their square."""
    image = images[work.image]
    theta_alpha, theta_beta, theta_gamma = work.widths
    refine = partial(
        crf_rnn,
        num_iterations=work.num_iterations,
        theta_alpha=theta_alpha,
        theta_beta=theta_beta,
        theta_gamma=theta_gamma,
    )
    params = init_crf_params(logits.shape[-1])
    # As a network leaves them; the peer's energies are made before its time, too.
    on_device = jnp.asarray(logits)
    if not work.backward:
        return lambda: refine(image, on_device, params)

    def loss(logits, params, image):
        return jnp.sum(refine(image, logits, params) ** 2)

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))
    return lambda: gradients(on_device, params, image)


@contextmanager
def peer_timer(
    python: str | None, images: dict[str, np.ndarray], logits: np.ndarray
) -> Iterator[Callable[[Work], float] | None]:
    """A function that has the peer do a row's work once and returns its seconds."""
    if python is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        files = {name: f"{directory}/{name}.npy" for name in ("logits", *images)}
        for name, array in {"logits": logits, **images}.items():
            np.save(files[name], array)
        command = [python, str(Path(__file__).with_name("peer.py"))]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            requests, answers = process.stdin, process.stdout
            assert requests is not None
            assert answers is not None

            def ask(work: Work) -> float:
                request = {
                    "image": files[work.image],
                    "logits": files["logits"],
                    "widths": work.widths,
                    "num_iterations": work.num_iterations,
                }
                print(json.dumps(request), file=requests, flush=True)
                return float(answers.readline())

            yield ask
            requests.close()


def row_of(
    work: Work, image: np.ndarray, medians: dict[tuple[Work, str], float]
) -> tuple:
    """A row of the table."""
    vertices = count_vertices(image, *work.widths[:2])
    ours, peer = medians[work, "ours"], medians.get((work, "peer"))
    figures = (1e3 * ours,)
    figures += (1e3 * peer, ours / peer) if peer else ("", "")
    return (work.name, vertices, *figures, work.bar, work.aim)


if __name__ == "__main__":
    main()
