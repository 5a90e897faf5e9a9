"""Files of results that are whole or not there, whenever a run is stopped."""

import json
from pathlib import Path
from typing import Any


def write_whole(path: Path, text: str) -> None:
    """Writes a file under another name and then gives it its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def write_json(path: Path, results: Any) -> None:
    """Writes JSON in this way; NaN is an error."""
    write_whole(path, json.dumps(results, indent=1, allow_nan=False) + "\n")
