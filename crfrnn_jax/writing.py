"""Files that are whole or not there, whenever a run is stopped."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


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
