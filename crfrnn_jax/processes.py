"""The processes of a run that spans several hosts, or the only one there is.

JAX's own runtime joins them; here is what the scripts ask of it. With one process each
function does what is left to do: nothing is waited for, and a sum is of one. What one
of them finds wrong, all raise: none is left waiting for it.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from crfrnn_jax.checks import InputError

# How long a process waits, in seconds: for the others to start and to end, and for the
# first to do what it does for all, such as preparing a data set.
_START_TIMEOUT = 300
_LONGEST_WORK = 12 * 3600


def join_processes(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    *,
    heeds_sigterm: bool,
) -> None:
    """Joins this process to the others of its run, before anything else of JAX's.

    If one of them dies, JAX ends the others after its heartbeat's timeout, 100 s.

    Args:
      coordinator: HOST:PORT of the process 0, reached by all; None, with None for the
        others, where Slurm, MPI or a TPU's runtime tells.
      num_processes: how many there are.
      process_id: which of them this is, from 0.
      heeds_sigterm: whether JAX takes note of SIGTERM, as `StopSignal` wants it, in
        place of ending at once.
    """
    jax.config.update("jax_enable_preemption_service", heeds_sigterm)
    jax.distributed.initialize(
        coordinator,
        num_processes,
        process_id,
        initialization_timeout=_START_TIMEOUT,
    )


def is_first() -> bool:
    """Whether this is the process that writes what all have in common."""
    return jax.process_index() == 0


@contextlib.contextmanager
def first_does(work: str) -> Iterator[None]:
    """What the first process does before the others do the same, or find it done.

    The others wait, and raise what it raises.

    Args:
      work: what it is, for messages: another text at each use in a run, the same in
        all processes, and so without a path.
    """
    if jax.process_count() == 1:
        yield
        return
    # No collective of the devices, which would give up after half a minute.
    client = distributed.global_state.client
    assert client is not None  # as there are several processes
    key = f"crfrnn_jax/{work}"
    if not is_first():
        problem = client.blocking_key_value_get(key, 1000 * _LONGEST_WORK)
        if problem != "none":
            raise InputError(f"the first process, {work}: {problem}")
        yield
        return
    problem = "it ended"
    try:
        yield
        problem = "none"
    except Exception as error:
        problem = str(error) or repr(error)
        raise
    finally:
        client.key_value_set(key, problem)


@contextlib.contextmanager
def failing_together() -> Iterator[None]:
    """Raises in every process if the body is an InputError in one of them.

    All of them have to come here, and their bodies to do nothing together.
    """
    problem = None
    try:
        yield
    except InputError as error:
        problem = error
    others = int(sum_over_processes(np.int64(problem is not None)))
    if problem is not None:
        raise problem
    if others:
        raise InputError("another process has found something wrong, and says what")


def check_alike(what: str, number: int) -> None:
    """Checks that all processes come with the same number, of at least 0.

    Args:
      what: the number's name, for the message.
      number: what this process has read.

    Raises:
      InputError: in all of them, if they differ.
    """
    numbers = np.zeros(jax.process_count(), np.int64)
    numbers[jax.process_index()] = number
    numbers = sum_over_processes(numbers)
    if len(set(numbers.tolist())) > 1:
        raise InputError(
            f"{what}: expected the same in every process, got {numbers.tolist()}; do "
            "all read the same folder?"
        )


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
      tree: int64 arrays of at least 0, of the same shapes in each process.
    """
    if jax.process_count() == 1:
        return tree
    gathered = multihost_utils.process_allgather(jax.tree.map(_halves, tree))
    return jax.tree.map(_sum_of_halves, gathered)


def _halves(array: np.ndarray) -> np.ndarray:
    """Two times 31 bits, as JAX has no 64 unless it is told: int32 [2, ...]."""
    return np.stack([array >> 31, array & 0x7FFFFFFF]).astype(np.int32)


def _sum_of_halves(halves: np.ndarray) -> np.ndarray:
    """The sum over the first axis, from int32 [processes, 2, ...]."""
    high, low = np.moveaxis(np.asarray(halves).astype(np.int64), 1, 0)
    return (high << 31).sum(0) + low.sum(0)
