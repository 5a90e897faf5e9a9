"""Timing side by side, the machine's name, tables and JSON."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax

_Name = TypeVar("_Name")


def time_once(function: Callable[[], Any]) -> float:
    """Seconds of one call, its result waited for."""
    started = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - started


def interleaved_medians(
    timers: Mapping[_Name, Callable[[], float]], repeats: int
) -> dict[_Name, float]:
    """Medians of timers that are run in turns, so that all meet the same disturbance.

    Args:
      timers: by name, each does its work once and returns the seconds it took.
      repeats: turns that count; one more before them warms up.
    """
    seconds = {name: [timer()] for name, timer in timers.items()}
    for _ in range(repeats):
        for name, timer in timers.items():
            seconds[name].append(timer())
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def describe_machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "cpu": _cpu_name(),
        "cpu_cores": len(os.sched_getaffinity(0)),
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def format_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; floats to three significant digits."""
    cells = [list(header), ["---", *["---:"] * (len(header) - 1)]]
    cells += [[f"{x:.3g}" if isinstance(x, float) else str(x) for x in r] for r in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def report(
    subject: str, header: Sequence[str], rows: Sequence[Sequence[Any]], out: str | None
) -> None:
    """Prints the table and the machine, and writes both as JSON where `out` says."""
    machine = describe_machine()
    print(format_table(header, rows))
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    if out:
        records = [dict(zip(header, row, strict=True)) for row in rows]
        content = {
            "subject": subject,
            "command": " ".join(sys.argv),
            "machine": machine,
            "rows": records,
        }
        Path(out).write_text(json.dumps(content, indent=1) + "\n")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if "model name" in x), "")
