"""Files that are whole or not there, whenever a run is stopped, and their names."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from crfrnn_jax.checks import InputError


def check_folder(name: str, folder: Path) -> None:
    """Raises InputError if a folder can't be made as a file stands in its way.

    Args:
      name: the argument's name, for the message.
      folder: the argument; it need not be there yet.
    """
    for place in (folder, *folder.parents):
        if place.is_dir():
            return
        if place.exists():
            raise InputError(f"{name}: expected a folder, got the file {place}")


def print_any_name() -> None:
    r"""Lets `print` take names of files that are no text: what is none becomes \udcff.

    Without, it stops a program on a name in another encoding, after the work is done.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes a file under another name and then gives it its own; makes its folder.

    Args:
      path: the file, replaced if it is there.
      write: called with the open file, in binary mode.
    """
    with _renamed_at_the_end(path) as partial, open(partial, "wb") as file:
        write(file)


@contextmanager
def writing_array(path: Path, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """An .npy of float32 that is filled part by part, on the disk and not in memory.

    Takes its name at the end of the context, unless that is left by an error.

    Args:
      path: the file, replaced if it is there.
      shape: of the array.

    Raises:
      OSError: there is no room for it.
    """
    with _renamed_at_the_end(path) as partial:
        array = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
        _reserve(partial)
        yield array
        array.flush()


def _reserve(path: Path) -> None:
    """Takes the room of a file now: later a full disk would end the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _renamed_at_the_end(path: Path) -> Iterator[Path]:
    """The name of a file until it is whole; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text in this way."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_json(path: Path, results: Any) -> None:
    """Writes JSON in this way; NaN is an error."""
    write_text(path, json.dumps(results, indent=1, allow_nan=False) + "\n")
