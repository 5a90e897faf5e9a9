"""Data that the user has fetched and placed: finding it, its lists and its counts.

Nothing is ever downloaded: where something is missing, the error says where to get it
and where to put it.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crfrnn_jax.checks import InputError, check_at_least, check_keys
from crfrnn_jax.data.matlab import read_matrix


def find_root(
    key: str,
    folder: str | os.PathLike[str],
    *,
    inside: Sequence[str],
    holds: Sequence[str],
    instructions: str,
) -> Path:
    """Finds the root of a data set in or under the folder that a config names.

    Args:
      key: the config's key, for the message.
      folder: its value.
      inside: where the root may lie in the folder; the folder itself comes last.
      holds: files and folders by which to know the root.
      instructions: where to get the data and where to put it.

    Returns:
      The root, an absolute path.

    Raises:
      ValueError: no folder is named.
      FileNotFoundError: the data is not there.
    """
    if not folder:
        raise InputError(f"{key}: expected a folder, got none\n{instructions}")
    given = Path(folder).expanduser().absolute()
    if not given.is_dir():
        raise FileNotFoundError(
            f"{key}: expected a folder, got none at {given}\n{instructions}"
        )
    missing = {}
    for root in (given / place for place in (*inside, ".")):
        missing[root] = [name for name in holds if not (root / name).exists()]
        if not missing[root]:
            return root
    # Where most of it lies is where the user has put it.
    nearest = min(missing, key=lambda root: len(missing[root]))
    if len(missing[nearest]) < len(holds):
        raise FileNotFoundError(
            f"{key}: expected {', '.join(holds)} in {nearest}, got no "
            f"{', '.join(missing[nearest])}\n{instructions}"
        )
    raise FileNotFoundError(
        f"{key}: expected {', '.join(holds)} in {given} or its "
        f"{', '.join(inside)}, got none of them\n{instructions}"
    )


def read_names(path: Path) -> list[str]:
    """Reads a list of image names, one a line.

    Raises:
      ValueError: a name is listed twice or would lead out of the data's folders.
      FileNotFoundError: there is no such file.
    """
    names = [line.strip() for line in _lines(path) if line.strip()]
    seen = set()
    for name in names:
        if name in seen or Path(name).name != name:
            raise InputError(f"{path}: expected names of images once each, got {name}")
        seen.add(name)
    return names


def read_numbered_names(path: Path) -> dict[str, int]:
    """Reads lines such as "12: bamboo weaving" as {"bamboo weaving": 12}.

    Raises:
      ValueError: a line is not of this form.
      FileNotFoundError: there is no such file.
    """
    numbers = {}
    for line in _lines(path):
        number, colon, name = line.partition(":")
        if not line.strip():
            continue
        if not (colon and number.strip().isdigit() and name.strip()):
            raise InputError(f"{path}: expected lines 'number: name', got {line!r}")
        numbers[name.strip()] = int(number)
    return numbers


def read_matlab(path: Path, name: str, field: str | None = None) -> np.ndarray:
    """Reads a matrix of integers from a .mat file.

    Args:
      path: the file.
      name: of the variable.
      field: which field, if the variable is a 1 x 1 struct.

    Returns:
      Integers [height, width].

    Raises:
      ValueError: naming the file, if it cannot be read or holds something else.
      FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a .mat file, got none")
    wanted = f"{name}.{field}" if field else name
    try:
        matrix = read_matrix(path, name, field)
    except Exception as error:  # of whatever type the damage leads to
        raise InputError(
            f"{path}: expected a .mat file with {wanted}, got: {error!r}"
        ) from error
    if matrix.ndim != 2:
        raise InputError(
            f"{path}: expected {wanted} to be a matrix of integers, got shape "
            f"{list(matrix.shape)} of {matrix.dtype}"
        )
    # MATLAB's default is double: whole numbers in floats are as good.
    if not ((matrix >= 0) & (matrix < 2**31)).all():
        raise InputError(f"{path}: expected integers from 0 on in {wanted}")
    integers = matrix.astype(np.int64)
    if (integers != matrix).any():
        raise InputError(f"{path}: expected integers in {wanted}, got fractions")
    return integers


def digest_names(names: Sequence[str]) -> str:
    """A digest of a list of names, in hexadecimal."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """A digest of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_count(key: str, counts: Mapping[str, Any], name: str, found: int) -> None:
    """Holds a number of images against the one that the config expects.

    Args:
      key: of the data set's config, for the message.
      counts: `config.counts`; 0 accepts any number.
      name: which count.
      found: what there is.

    Raises:
      ValueError: naming the key, the expected and the found number.
    """
    check_keys(f"{key}.counts", counts, (name,))
    check_at_least(f"{key}.counts.{name}", counts[name], 0)
    if counts[name] and counts[name] != found:
        raise InputError(
            f"{key}.counts.{name}: expected {counts[name]} images, found {found}; "
            "0 accepts any number"
        )


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a list, got none")
    try:
        return path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a text file, got: {error}") from error
