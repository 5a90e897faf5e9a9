"""Runs a reader on many damaged inputs: only its documented errors may come out.

Each target runs in a process of its own, since compiled readers may take it down with
them. There every input has a few seconds, and memory has bounds: of addresses, so that
a great request fails, and of what is really used.
"""

import faulthandler
import multiprocessing
import os
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

CORPUS = Path(__file__).parent / "corpus"
_SECONDS = 5  # for an input
_MOST_SECONDS = 60  # for one that does not come back to Python
_ADDRESSES = 2 * 2**30  # bytes beyond what the process has when it starts
_USED = 256 * 2**20  # bytes of growth, as the largest inputs are some kilobytes


class Target(NamedTuple):
    """What is fuzzed.

    Attributes:
      inputs: an endless row of inputs, from a seed.
      run: gives one input to the reader, and raises nothing but for a fault.
      errors: what the reader may raise.
      suffix: of a file that holds an input.
    """

    inputs: Callable[[int], Iterator[bytes]]
    run: Callable[[Path], object]
    errors: tuple[type[Exception], ...]
    suffix: str


class Hang(BaseException):
    """An input took too long."""


class FindingError(Exception):
    """An input did what it must not."""


def check(target: Target, path: Path) -> bool:
    """Gives one file to the reader.

    Returns:
      Whether the reader took it.

    Raises:
      FindingError: it raised another error than is documented, or ran out of time or
        memory.
    """
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        target.run(path)
        return True
    except target.errors as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                raise FindingError("more memory than there is") from error
            cause = cause.__cause__ or cause.__context__
        if path.name not in str(error):
            raise FindingError(
                f"an error that does not name the file: {error}"
            ) from error
        return False
    except Hang as error:
        raise FindingError(f"more than {_SECONDS} seconds") from error
    except Exception as error:
        raise FindingError(f"{type(error).__name__}: {error}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def fuzz(name: str, target: Target, count: int, seed: int, out: Path) -> int:
    """Runs a target on many inputs and prints what came of it.

    Args:
      name: of the target.
      target: what is fuzzed.
      count: how many inputs.
      seed: of the inputs.
      out: where the inputs go that are findings.

    Returns:
      The number of findings, at most one for each place in the code.
    """
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        path = Path(folder) / f"input{target.suffix}"
        process = multiprocessing.get_context("fork").Process(
            target=_work, args=(name, target, count, seed, path, out)
        )
        process.start()
        while process.is_alive():
            process.join(5)
            # The alarm does not reach what hangs in compiled code.
            if path.exists() and time.time() - path.stat().st_mtime > _MOST_SECONDS:
                process.kill()
        if process.exitcode in (0, 1):
            return process.exitcode
        kept = _keep(out, name, path)
        print(f"{name}: the process ended with {process.exitcode}: {kept}", flush=True)
        return 1


def _work(
    name: str, target: Target, count: int, seed: int, path: Path, out: Path
) -> None:
    faulthandler.enable()
    signal.signal(signal.SIGALRM, ring)
    used = _addresses()
    with suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (used + _ADDRESSES, hard))
    started, taken, found = time.monotonic(), 0, {}
    peak = _peak()
    inputs = target.inputs(seed)
    for _ in range(count):
        path.write_bytes(next(inputs))
        try:
            taken += check(target, path)
            grown = _peak() - peak
            if grown > _USED:
                peak = _peak()
                raise FindingError(f"{grown / 2**20:.0f} MiB of memory")
        except FindingError as finding:
            where = _place(finding)
            if where not in found:
                found[where] = _keep(out, name, path)
                print(f"{name}: {finding} at {where}: {found[where]}", flush=True)
    seconds = time.monotonic() - started
    print(
        f"{name}: {count} inputs in {seconds:.0f} s, {taken} taken, the rest refused, "
        f"{len(found)} findings, memory grew by {(_peak() - peak) / 2**20:.0f} MiB",
        flush=True,
    )
    os._exit(1 if found else 0)


def ring(*_: object) -> None:
    """Ends what an input has set going, as a handler of SIGALRM."""
    raise Hang


def _place(finding: FindingError) -> str:
    """The innermost line of the fault, by which findings are told apart."""
    if finding.__cause__ is None:
        return "a whole input"
    frame = traceback.extract_tb(finding.__cause__.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _keep(out: Path, name: str, path: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    number = len(list(out.glob(f"{name}_*")))
    kept = out / f"{name}_{number}{path.suffix}"
    kept.write_bytes(path.read_bytes())
    return kept


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _addresses() -> int:
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    return 0
