"""The processes of a run that spans several hosts, or the only one there is.

JAX's own runtime joins them; here is what the scripts ask of it. With one process each
function does what is left to do: nothing is waited for, and a sum is of one.

Where they meet, they say for what, in the same words and never with a path, which may
be another on each host. What one of them finds wrong inside `first_does` and
`failing_together`, all raise; of what one raises elsewhere JAX makes an end of all,
some minutes after it.
"""

import collections
import contextlib
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from crfrnn_jax.checks import InputError

# How long a process waits, in seconds: for the others to start, and for them to come to
# where all meet, such as the end of an evaluation or of preparing a data set.
_START_TIMEOUT = 300
_LONGEST_WORK = 12 * 3600

# How often this process has come to each of those places.
_visits: collections.Counter[str] = collections.Counter()


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
      work: what it is, for messages too.
    """
    if _is_alone():
        yield
        return
    client, key = _client(), _key(work)
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
def failing_together(work: str) -> Iterator[None]:
    """Raises in every process if the body raises in one of them.

    All of them have to come here, and their bodies to do nothing together but what each
    does in any case.

    Args:
      work: what the body does.
    """
    problem = None
    try:
        yield
    except Exception as error:
        problem = error
    others = int(sum_over_processes(np.int64(problem is not None), work))
    if problem is not None:
        raise problem
    if others:
        raise InputError(f"another process has failed, and says why: {work}")


def check_alike(what: str, value: int | str, where: object) -> None:
    """Checks that all processes come with the same value.

    Args:
      what: what it is.
      value: a number of at least 0, or a text, of which a checksum is compared.
      where: the file or folder that it is from, for the message.

    Raises:
      InputError: in all of them, if they differ.
    """
    if _is_alone():
        return
    number = zlib.crc32(value.encode()) if isinstance(value, str) else value
    numbers = np.zeros(jax.process_count(), np.int64)
    numbers[jax.process_index()] = number
    numbers = sum_over_processes(numbers, what).tolist()
    if len(set(numbers)) > 1:
        raise InputError(
            f"{where}: expected the same {what} in every process, got {numbers}; do "
            "all see the same folders, in the same state?"
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


def of_first(tree: Any, what: str) -> Any:
    """The first process's arrays, in every process; all come with the same shapes."""
    if _is_alone():
        return tree
    _meet(what)
    return multihost_utils.broadcast_one_to_all(tree)


def sum_over_processes(tree: Any, what: str) -> Any:
    """The sums of NumPy arrays over the processes; all have to call it.

    Args:
      tree: int64 arrays of at least 0, of the same shapes in each process.
      what: what they are.
    """
    if _is_alone():
        return tree
    _meet(what)
    gathered = multihost_utils.process_allgather(jax.tree.map(_halves, tree))
    return jax.tree.map(_sum_of_halves, gathered)


def _is_alone() -> bool:
    """Whether there is one process; it starts no device to find out."""
    return not jax.distributed.is_initialized() or jax.process_count() == 1


def _meet(what: str) -> None:
    """Waits for the other processes, with a bound.

    The devices' own collectives have none, but for the first of each group of devices,
    whose bound may be half a minute.
    """
    try:
        _client().wait_at_barrier(_key(what), 1000 * _LONGEST_WORK)
    except jax.errors.JaxRuntimeError as error:
        raise InputError(f"the other processes did not come to: {what}") from error


def _client() -> Any:
    """What joins the processes: JAX has no public name for it."""
    client = distributed.global_state.client
    assert client is not None  # as there are several processes
    return client


def _key(what: str) -> str:
    """The name of a meeting, another one each time that the processes come there."""
    _visits[what] += 1
    return f"crfrnn_jax/{what}/{_visits[what]}"


def _halves(array: np.ndarray) -> np.ndarray:
    """Two times 31 bits, as JAX has no 64 unless it is told: int32 [2, ...]."""
    return np.stack([array >> 31, array & 0x7FFFFFFF]).astype(np.int32)


def _sum_of_halves(halves: np.ndarray) -> np.ndarray:
    """The sum over the first axis, from int32 [processes, 2, ...]."""
    high, low = np.moveaxis(np.asarray(halves).astype(np.int64), 1, 0)
    return (high << 31).sum(0) + low.sum(0)
