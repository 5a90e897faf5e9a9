"""Archives of numpy arrays: other people's .npz, and the file that we write.

Ours is an .npz too, so that numpy alone reads it: one float32 array a parameter, under
its path in the parameter tree ("backbone/conv1_1/kernel"), and "meta", a JSON text.
"""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crfrnn_jax.checks import InputError
from crfrnn_jax.weights.limits import Budget, check_dims, reading
from crfrnn_jax.writing import check_folder, write_whole

_FORMAT = "crfrnn_jax weights"
_VERSION = 1
_META = "meta"


class Weights(NamedTuple):
    """The contents of a file that `save_weights` wrote.

    Attributes:
      tensors: float32 arrays by their paths in the parameter tree.
      meta: what `save_weights` was given, and "format", "version" and "shapes".
    """

    tensors: dict[str, NDArray[np.float32]]
    meta: dict[str, Any]


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Reads an archive of numpy arrays.

    Args:
      path: an .npz.

    Raises:
      InputError: naming the file, if it is damaged, holds Python objects, or claims
        more than such a file can hold.
    """
    with reading(path, "an archive of numpy arrays"), zipfile.ZipFile(path) as archive:
        budget = Budget(path.stat().st_size)
        arrays: dict[str, NDArray[Any]] = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name == info.filename or name in arrays:
                raise ValueError(f"an entry {info.filename[:80]!r}, no array or twice")
            budget.take(name, info.file_size)
            arrays[name] = _read_entry(archive, info)
        if not arrays:
            raise ValueError("no arrays")
        return arrays


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    # The header is read twice: the first time to hold its claim against the entry.
    with archive.open(info) as entry:
        version = np.lib.format.read_magic(entry)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} of numpy's format")
        read_header = {
            1: np.lib.format.read_array_header_1_0,
            2: np.lib.format.read_array_header_2_0,
        }[version[0]]
        shape, _, dtype = read_header(entry)
        if dtype.hasobject or dtype.names is not None:
            raise ValueError(f"{info.filename} holds other things than numbers")
        nbytes = check_dims(info.filename, shape) * dtype.itemsize
        if nbytes + entry.tell() != info.file_size:
            raise ValueError(f"{info.filename} is of another size than it claims")
    with archive.open(info) as entry:
        array = np.lib.format.read_array(entry, allow_pickle=False)
        if entry.read(1):  # also what makes zipfile compare the checksum
            raise ValueError(f"{info.filename} is of another size than it claims")
        return array


def save_weights(
    path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[np.float32]],
    meta: Mapping[str, Any],
    *,
    force: bool = False,
) -> None:
    """Writes parameters; the file is there whole or not at all.

    Args:
      path: the file, ending in .npz; its folder is made if it is not there.
      tensors: float32 arrays by their paths in the parameter tree.
      meta: what else to keep, as JSON can hold it.
      force: whether an existing file may be replaced.

    Raises:
      InputError: naming the file, if it has another ending or is there already.
    """
    path = Path(path)
    check_target(path, force)
    shapes = {name: list(array.shape) for name, array in tensors.items()}
    own = {"format": _FORMAT, "version": _VERSION, "shapes": shapes}
    text = np.array(json.dumps({**meta, **own}))

    def write(file: IO[bytes]) -> None:
        np.savez(file, **{_META: text, **tensors})
        file.flush()
        os.fsync(file.fileno())

    write_whole(path, write)


def check_target(path: Path, force: bool) -> None:
    """Raises InputError unless the file may be written."""
    if path.suffix != ".npz":
        raise InputError(f"{path}: expected a name ending in .npz")
    check_folder(f"folder of {path}", path.parent)
    if path.is_dir() or (path.exists() and not force):
        raise InputError(
            f"{path}: expected no such file, got one; --force, or force=True, replaces "
            "it"
        )


def is_converted(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether the arrays are those of a file that `save_weights` wrote."""
    return _META in arrays


def _not_converted(path: Path, got: str) -> InputError:
    return InputError(
        f"{path}: expected a file that this package wrote, got {got}; published "
        f"weights are to be converted: python -m crfrnn_jax.weights convert {path} "
        "OUT.npz"
    )


def load_weights(path: str | os.PathLike[str]) -> Weights:
    """Reads a file that `save_weights` wrote.

    Args:
      path: the file.

    Raises:
      FileNotFoundError: there is none.
      InputError: naming the file, if it is damaged or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file of weights, got none")
    try:
        arrays = read_npz(path)
    except InputError as error:
        if path.suffix == ".npz":  # ours, and damaged
            raise
        raise _not_converted(path, "another kind of file") from error
    if not is_converted(arrays):
        raise _not_converted(path, "an archive of other arrays")
    with reading(path, "a file of weights"):
        meta = json.loads(str(arrays.pop(_META)[()]))
        if (meta["format"], meta["version"]) != (_FORMAT, _VERSION):
            raise ValueError(f"version {meta['version']} of {meta['format']}")
        shapes = {name: list(array.shape) for name, array in arrays.items()}
        if shapes != meta["shapes"]:
            raise ValueError("other arrays than were written")
        for name, array in arrays.items():
            if array.dtype != np.float32:
                raise ValueError(f"{name} of type {array.dtype}")
    return Weights(arrays, meta)
