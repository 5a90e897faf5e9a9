"""Files that are whole or not there, whenever a run is stopped, and their names."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

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
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            write(file)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text in this way."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_json(path: Path, results: Any) -> None:
    """Writes JSON in this way; NaN is an error."""
    write_text(path, json.dumps(results, indent=1, allow_nan=False) + "\n")
