"""One run at a time on a work directory."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from crfrnn_jax.checks import InputError
from crfrnn_jax.processes import check_alike

_FILE = ".lock"


@contextlib.contextmanager
def lock_workdir(workdir: Path) -> Iterator[None]:
    """Holds a work directory; the kernel lets go of it, however the process ends.

    Raises:
      ValueError: another run holds it; the message says which.
    """
    with (workdir / _FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise InputError(
                f"workdir: expected one that no other run writes to, got {workdir}, "
                f"which {file.read().strip() or 'another process'} holds"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        os.fsync(file.fileno())  # for the other hosts
        yield


def check_shared(workdir: Path) -> None:
    """Checks that a work directory is the one that the first process holds.

    Raises:
      ValueError: it isn't, in one of the processes.
    """
    lock = workdir / _FILE
    holder = lock.read_text() if lock.exists() else ""
    check_alike("holder of the work directory", holder, workdir)
