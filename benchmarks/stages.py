"""Each stage of the CRF: its time, the bytes it must move, its part of the bandwidth.

python benchmarks/stages.py [--image FILE] [--labels N] [--out FILE.json]

The bandwidth is that of adding one to an array of 256 MiB in its place, over and over.
A stage's bytes are those of its arguments and results, read or written once; for the
blur, once for each axis. A pass is called by itself, so its time has that of the memory
for its result; "order" is the copy that a splat reads. A step is a tenth of what ten
more iterations take.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from inputs import LABELS, load_image, make_logits
from jax import lax
from measuring import interleaved_medians, report, time_once

from crfrnn_jax import (
    Lattice,
    bilateral_features,
    build_lattice,
    crf_rnn,
    init_crf_params,
    spatial_features,
)
from crfrnn_jax.splat_blur_slice import blur, in_splat_order, slice_vertices, splat

HEADER = ("stage", "ms", "MB", "GB/s", "of bandwidth")
BANDWIDTH_FLOATS, BANDWIDTH_TURNS = 2**26, 10
MORE_ITERATIONS = 10


class Stage(NamedTuple):
    """What runs, and how many bytes it must move."""

    run: Callable[[], Any]
    size: float


def main() -> None:
    """Times the stages in turns."""
    parser = argparse.ArgumentParser(description="The stages of the CRF.")
    parser.add_argument("--image", help="a photograph, instead of a made-up scene")
    parser.add_argument("--labels", type=int, default=LABELS)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", help="where to write the figures as JSON")
    options = parser.parse_args()

    image = load_image(options.image)
    height, width, _ = image.shape
    logits = jnp.asarray(make_logits(height, width, options.labels))
    values = logits.reshape(-1, options.labels)
    features = {
        "spatial": spatial_features((height, width), 3.0),
        "bilateral": bilateral_features(image, 160.0, 3.0),
    }
    stages = {"bandwidth": bandwidth_stage()}
    # The current logits and the unary are read, the new logits written.
    step_size = 3.0 * values.nbytes
    for kernel, of_kernel in features.items():
        build = partial(build_lattice, of_kernel, is_grid=kernel == "spatial")
        lattice = build()
        stages[f"{kernel} set-up"] = Stage(build, of_kernel.nbytes + bytes_of(lattice))
        passes = pass_stages(lattice, values)
        stages |= {f"{kernel} {name}": stage for name, stage in passes.items()}
        # Without the copy in order, which need not be, and what the kernels share.
        moved = [stage.size for name, stage in passes.items() if name != "order"]
        step_size += sum(moved) - 2 * values.nbytes

    timers = {name: partial(time_once, stage.run) for name, stage in stages.items()}
    timers |= {
        name: partial(time_once, run) for name, run in loops(image, logits).items()
    }
    seconds = interleaved_medians(timers, options.repeats)
    step = (seconds.pop("more steps") - seconds.pop("one step")) / MORE_ITERATIONS
    both = (
        seconds.pop("more gradients") - seconds.pop("one gradient")
    ) / MORE_ITERATIONS
    seconds |= {"step": step, "step backwards": both - step}
    sizes = {name: stage.size for name, stage in stages.items()}
    # Backwards the marginals are read, too.
    sizes |= {"step": step_size, "step backwards": step_size + values.nbytes}
    bandwidth = sizes["bandwidth"] / seconds["bandwidth"]
    rows = [row_of(name, seconds[name], sizes[name], bandwidth) for name in seconds]
    report("stages", HEADER, rows, options.out)


def row_of(name: str, seconds: float, size: float, bandwidth: float) -> tuple:
    """A row of the table."""
    rate = size / seconds
    return name, 1e3 * seconds, size / 1e6, rate / 1e9, rate / bandwidth


def bandwidth_stage() -> Stage:
    """An array that is read and written, and is no part of any cache."""
    array = jnp.zeros(BANDWIDTH_FLOATS, jnp.float32)

    @jax.jit
    def add_ones(array):
        added = lax.fori_loop(0, BANDWIDTH_TURNS, lambda _, array: array + 1, array)
        return added[0]

    return Stage(partial(add_ones, array), 2 * BANDWIDTH_TURNS * array.nbytes)


def pass_stages(lattice: Lattice, values: jax.Array) -> dict[str, Stage]:
    """Order, splat, blur and slice on the rows in use; padding is moved, too.

    A grid's lattice needs no order.
    """
    rows = int(lattice.num_vertices)
    axes, entries = len(lattice.neighbours), lattice.vertex_ids.size
    ordered = jax.jit(in_splat_order)
    in_order = ordered(lattice, values)
    on_lattice = jax.jit(splat, static_argnums=1)
    vertices = on_lattice(lattice, rows, in_order)
    blurred = jax.jit(blur)
    sliced = jax.jit(slice_vertices, static_argnums=2)
    order = Stage(
        partial(ordered, lattice, values), 2 * values.nbytes + 4 * len(values)
    )
    stages = {} if lattice.entries.order is None else {"order": order}
    return stages | {
        "splat": Stage(
            partial(on_lattice, lattice, rows, in_order),
            values.nbytes + 8 * entries + vertices.nbytes,
        ),
        "blur": Stage(
            partial(blurred, lattice, vertices),
            axes * (2 * vertices.nbytes + 8 * rows),
        ),
        "slice": Stage(
            partial(sliced, lattice, vertices, values.shape[1]),
            vertices.nbytes + 8 * entries + values.nbytes,
        ),
    }


def loops(image: np.ndarray, logits: jax.Array) -> dict[str, Callable[[], jax.Array]]:
    """The CRF of one iteration and of more, and its gradient by the logits."""
    params = init_crf_params(logits.shape[-1])

    def energy(logits, num_iterations):
        refined = crf_rnn(image, logits, params, num_iterations=num_iterations)
        return jnp.sum(refined**2)

    gradient = jax.jit(jax.grad(energy), static_argnums=1)
    more = 1 + MORE_ITERATIONS
    return {
        "one step": partial(crf_rnn, image, logits, params, num_iterations=1),
        "more steps": partial(crf_rnn, image, logits, params, num_iterations=more),
        "one gradient": partial(gradient, logits, 1),
        "more gradients": partial(gradient, logits, more),
    }


def bytes_of(tree: Any) -> int:
    """Bytes of a pytree's arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
    main()
