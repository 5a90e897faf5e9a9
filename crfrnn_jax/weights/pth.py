"""PyTorch's files of tensors, both layouts, read without PyTorch and without running.

Since PyTorch 1.6 a file is a zip archive: ROOT/data.pkl, a pickle whose tensors refer
to storages, ROOT/data/KEY, an entry of raw bytes a storage, and ROOT/byteorder. Before
that, it was a row of pickles (a magic number, a version, facts of the machine, the
data, the list of the storages' keys) and then each storage: its size, its raw bytes.

The pickles run on a machine of our own, see `pickles`. Every size that a file claims is
held against the bytes that are there before anything of that size is made.
"""

import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from crfrnn_jax.weights.limits import check_dims, reading
from crfrnn_jax.weights.pickles import Storage, Tensor, read_pickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_MOST_PICKLE = 8 * 2**20  # bytes; our networks take about 5 000

# Where training scripts put the state dict beside their epoch and optimiser.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_pth(path: Path) -> dict[str, NDArray[Any]]:
    """Reads a state dict, or a checkpoint that holds one, into arrays.

    Args:
      path: a file that `torch.save` wrote.

    Returns:
      The tensors by their names; bfloat16 comes as float32, the rest as stored. The
      prefix `module.`, which data-parallel training adds to every name, is taken off.

    Raises:
      InputError: naming the file, if it is damaged, or asks for anything but tensors.
    """
    with reading(path, "a PyTorch file of tensors"):
        with open(path, "rb") as file:
            is_archive = file.read(2) == b"PK"
        data, storages = (_read_zip if is_archive else _read_legacy)(path)
        tensors = _state_dict(data)
        return {name: _view(name, t, storages) for name, t in tensors.items()}


def _state_dict(data: Any) -> dict[str, Tensor]:
    """The state dict within what the pickle held."""
    if not isinstance(data, dict):
        raise ValueError(f"a {type(data).__name__}")
    for key in _WRAPPERS:
        if isinstance(data.get(key), dict):
            data = data[key]
            break
    others = [str(key) for key in data if not isinstance(data[key], Tensor)]
    if others:
        raise ValueError(f"entries that are no tensors: {', '.join(others[:10])}")
    names = [str(name) for name in data]
    if all(name.startswith("module.") for name in names):
        names = [name.removeprefix("module.") for name in names]
    if len(set(names)) < len(names) or not names:
        raise ValueError("no tensors" if not names else "a name twice")
    return dict(zip(names, data.values(), strict=True))


def _tensors_in(data: Any) -> Iterable[Tensor]:
    return _state_dict(data).values()


def _storages_of(data: Any) -> dict[str, Storage]:
    """The storages that the state dict refers to, by key."""
    found: dict[str, Storage] = {}
    for tensor in _tensors_in(data):
        storage = found.setdefault(tensor.storage.key, tensor.storage)
        if storage != tensor.storage:
            raise ValueError("a storage of two kinds")
    return found


def _read_zip(path: Path) -> tuple[Any, dict[str, NDArray[Any]]]:
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        roots = [n for n in entries if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(roots) != 1 or len(entries) < len(archive.infolist()):
            raise ValueError("a zip archive without one data.pkl, or with a name twice")
        left = path.stat().st_size

        def read(name: str, size: int) -> bytes:
            # Only the bytes that are there: PyTorch does not compress, and entries
            # that share bytes can't add up to more than the file.
            nonlocal left
            if name not in entries:
                raise ValueError(f"no entry {name[:80]!r} in the archive")
            info = entries[name]
            left -= info.file_size
            if info.compress_type != zipfile.ZIP_STORED or left < 0:
                raise ValueError(f"the entry {name[:80]!r} compressed or too large")
            if size >= 0 and info.file_size != size:
                raise ValueError(f"the entry {name[:80]!r} of another size")
            return archive.read(info)

        root = roots[0].removesuffix("data.pkl")
        if entries[roots[0]].file_size > _MOST_PICKLE:
            raise ValueError(f"a data.pkl of more than {_MOST_PICKLE} bytes")
        data = read_pickle(io.BytesIO(read(roots[0], -1)))
        order = _byte_order(read, f"{root}byteorder" in entries, root)
        return data, {
            key: _decode(read(f"{root}data/{key}", _nbytes(s)), s.dtype, order)
            for key, s in _storages_of(data).items()
        }


def _byte_order(read: Callable[[str, int], bytes], is_given: bool, root: str) -> str:
    """Numpy's sign of the byte order; PyTorch before 2.1 did not write it."""
    order = read(f"{root}byteorder", -1) if is_given else b"little"
    if order not in (b"little", b"big"):
        raise ValueError("a byte order that is neither little nor big")
    return "<" if order == b"little" else ">"


def _read_legacy(path: Path) -> tuple[Any, dict[str, NDArray[Any]]]:
    with open(path, "rb") as file:
        head = io.BytesIO(file.read(_MOST_PICKLE))
        if read_pickle(head) != _LEGACY_MAGIC:
            raise ValueError("a pickle that does not start with PyTorch's number")
        if read_pickle(head) != _LEGACY_VERSION:
            raise ValueError("another version of PyTorch's old layout")
        read_pickle(head)  # the writer's byte order and sizes; data are little-endian
        data, keys = read_pickle(head), read_pickle(head)
        wanted = _storages_of(data)
        known = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        if not known or sorted(keys) != sorted(wanted):
            raise ValueError("storages that are not those of the state dict")
        file.seek(head.tell())
        storages = {key: _read_storage(file, wanted[key]) for key in keys}
        if file.read(1):
            raise ValueError("bytes after the last storage")
        return data, storages


def _read_storage(file: BinaryIO, storage: Storage) -> NDArray[Any]:
    size = int.from_bytes(file.read(8), "little", signed=True)
    if size != storage.size:
        raise ValueError("a storage of another size, or a file cut short")
    # A file object reads what is there, however much is asked for.
    return _decode(file.read(_nbytes(storage)), storage.dtype, "<")


def _nbytes(storage: Storage) -> int:
    width = 2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize
    return storage.size * width


def _decode(data: bytes, dtype: str, order: str) -> NDArray[Any]:
    if dtype == "bfloat16":
        # The upper half of a float32.
        halves = np.frombuffer(data, np.dtype(f"{order}u2")).astype(np.uint32)
        return (halves << 16).view(np.float32)
    return np.frombuffer(data, np.dtype(order + dtype))


def _view(name: str, tensor: Tensor, storages: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """A tensor's elements, none of which may lie outside of its storage."""
    storage = storages[tensor.storage.key]
    if storage.size != tensor.storage.size:
        raise ValueError("a file cut short")
    count = check_dims(name, tensor.shape)
    reach = [0 <= stride < 2**48 for stride in (tensor.offset, *tensor.strides)]
    if not all(reach) or len(tensor.strides) != len(tensor.shape):
        raise ValueError(f"{name} has strides that are not possible")
    last = tensor.offset + sum(
        (size - 1) * stride
        for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    # Repeated elements (a stride of 0) could claim any size from a few bytes.
    if count > storage.size or (count and last >= storage.size):
        raise ValueError(f"{name} reaches outside of its storage")
    if count == 0:
        return np.zeros(tensor.shape, storage.dtype)
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False)
