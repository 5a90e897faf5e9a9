"""The processes of a run that spans several hosts, or the only one there is.

JAX's own runtime joins them; here is what the scripts ask of it. With one process each
function does what is left to do: nothing is waited for, and a sum is of one.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

# How long a process waits for the others to start, in seconds.
_START_TIMEOUT = 300


def join_processes(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Joins this process to the others of its run, before anything else of JAX's.

    If one of them dies, JAX ends the others after its heartbeat's timeout (100 s).

    Args:
      coordinator: HOST:PORT of the process 0, reached by all; None, with None for the
        others, where Slurm, MPI or a TPU's runtime tells.
      num_processes: how many there are.
      process_id: which of them this is, from 0.
    """
    jax.distributed.initialize(
        coordinator,
        num_processes,
        process_id,
        initialization_timeout=_START_TIMEOUT,
    )


def is_first() -> bool:
    """Whether this is the process that writes what all have in common."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns once every process has come to the point of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def first_prepares(name: str) -> Iterator[None]:
    """What the first process does alone before the others, who find it done."""
    if not is_first():
        wait_for_all(name)
    yield
    if is_first():
        wait_for_all(name)


def own_part() -> tuple[int, int]:
    """Which part of the data is this process's, and of how many."""
    return jax.process_index(), jax.process_count()


def places_of(count: int) -> range:
    """Where among all examples those of this process are, which has so many.

    Of every so many as there are processes each has the one that is its turn.
    """
    index, parts = own_part()
    return range(index, index + count * parts, parts)


def sum_over_processes(tree: Any) -> Any:
    """The sums of NumPy arrays over the processes; all have to call it.

    Args:
      tree: int64 arrays of the same shapes in each process.
    """
    if jax.process_count() == 1:
        return tree
    # Halves, as JAX has no 64 bits unless it is told.
    halves = jax.tree.map(lambda x: np.stack([x >> 31, x & 0x7FFFFFFF]), tree)
    gathered = multihost_utils.process_allgather(jax.tree.map(np.int32, halves))
    return jax.tree.map(
        lambda x: (x[:, 0].astype(np.int64) << 31).sum(0) + x[:, 1].astype(int).sum(0),
        gathered,
    )
