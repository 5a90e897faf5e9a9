"""Being told to stop: SIGTERM, which schedulers send some seconds before they kill."""

import itertools
import signal
from types import FrameType
from typing import Self

import jax
from jax.experimental import multihost_utils


class StoppedError(Exception):
    """The run was told to stop, and its last checkpoint holds all of its steps."""


# The times that this process has asked JAX whether to stop: numbers that grow, from one
# stage and run to the next, too.
_asked = itertools.count(1)


class StopSignal:
    """Takes note of SIGTERM, from `listen` to the end of the context.

    Before, the process ends at once, as nothing is lost: what is written is whole or
    not there. With several processes JAX's runtime listens from the start on, and they
    agree on the step.
    """

    def __init__(self):
        self._is_told = False
        self._previous = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def listen(self) -> None:
        """From here on there is something to save first."""
        if self._previous is None and jax.process_count() == 1:
            self._previous = signal.signal(signal.SIGTERM, self._note)

    def is_due(self) -> bool:
        """Whether to stop after a step; all processes ask after each of a run's."""
        if jax.process_count() > 1:
            return bool(multihost_utils.reached_preemption_sync_point(next(_asked)))
        return self._is_told

    def is_told(self) -> bool:
        """Whether this process alone was told: in what it may break off by itself."""
        return self._is_told

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._is_told = True
