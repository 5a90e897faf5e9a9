"""A reader of the part of MATLAB's files, version 5, that holds masks.

SciPy's reader trusts a file's sizes: a few changed bytes end the process, or make it
run for minutes. What follows is MATLAB's "MAT-File Format" (2023), as far as matrices
of numbers and fields of a 1 x 1 struct go. After 128 bytes come elements, each a type,
a size and its data; one may be compressed, and a matrix's parts are elements again: its
flags, sizes and name, then its numbers, or a struct's fields.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crfrnn_jax.data.decoding import MOST_PIXELS
from crfrnn_jax.weights.limits import check_dims

_MATRIX, _COMPRESSED = 14, 15
# What elements of numbers hold, by their type.
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4"}
_NUMBERS |= {7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_STRUCT, _COMPLEX = 2, 0x800
# Classes of matrices of numbers, and what they are in the workspace; stored they may be
# smaller.
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4"}
_CLASSES |= {14: "i8", 15: "u8"}
_MOST_BYTES = 8 * MOST_PIXELS  # of a mask in double precision


class _Element(NamedTuple):
    kind: int
    data: memoryview


def read_matrix(path: Path, name: str, field: str | None) -> NDArray[Any]:
    """Reads a matrix of numbers.

    Args:
      path: the file.
      name: of the variable.
      field: which field, if the variable is a 1 x 1 struct.

    Returns:
      Numbers of the matrix's class, of its shape.

    Raises:
      Exception: of any type, if the file is damaged or holds something else.
    """
    data = memoryview(path.read_bytes())
    # Of the other byte order there are none that this package reads.
    if bytes(data[124:128]) != b"\x00\x01IM":
        raise ValueError("no MATLAB file of version 5")
    for element in _elements(data[128:], padded=False):
        if element.kind == _COMPRESSED:
            element = _decompressed(element.data)
        if element.kind != _MATRIX:
            continue
        matrix = _Matrix(element.data)
        if matrix.name == name:
            return (matrix if field is None else matrix.field(field)).numbers()
    raise ValueError(f"no variable {name}")


class _Matrix:
    """A matrix of any class: what all have, and the parts that follow."""

    def __init__(self, data: memoryview):
        flags, sizes, name, *self._parts = _elements(data)
        (self._flags,) = struct.unpack("<I", flags.data[:4])
        self._shape = tuple(int(size) for size in _values(sizes))
        self._count = check_dims("a matrix", self._shape)
        self.name = bytes(name.data).decode("latin-1")

    def field(self, name: str) -> "_Matrix":
        """A field of a 1 x 1 struct."""
        if self._flags & 0xFF != _STRUCT or self._count != 1:
            raise ValueError(f"{self.name} is no 1 x 1 struct")
        length, names, *fields = self._parts
        size = int(_values(length)[0])
        if size < 1:
            raise ValueError("fields without names")
        found = bytes(names.data)
        for i, part in enumerate(fields):
            if found[i * size : (i + 1) * size].rstrip(b"\0") == name.encode():
                return _Matrix(part.data)
        raise ValueError(f"no field {name}")

    def numbers(self) -> NDArray[Any]:
        """The matrix's numbers, which MATLAB writes column by column."""
        kind = self._flags & 0xFF
        if kind not in _CLASSES or self._flags & _COMPLEX:
            raise ValueError("a matrix of other things than real numbers")
        if self._count > MOST_PIXELS:
            raise ValueError(f"more than {MOST_PIXELS} numbers, {self._shape}")
        values = _values(self._parts[0])
        if len(values) != self._count:
            raise ValueError(f"{len(values)} numbers for the shape {self._shape}")
        return values.astype(_CLASSES[kind]).reshape(self._shape, order="F")


def _values(element: _Element) -> NDArray[Any]:
    if element.kind not in _NUMBERS:
        raise ValueError(f"an element of type {element.kind} where numbers are")
    return np.frombuffer(element.data, f"<{_NUMBERS[element.kind]}")


def _elements(data: memoryview, *, padded: bool = True) -> Iterator[_Element]:
    """The elements of a matrix, or, without padding to 8 bytes, those of the file."""
    position = 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, position)
        start = position + 8
        if kind >> 16:  # a small one: type and size in two bytes each, then the data
            kind, size, start = kind & 0xFFFF, kind >> 16, position + 4
        if size > (4 if start == position + 4 else len(data) - start):
            raise ValueError(f"an element of {size} bytes where fewer are left")
        yield _Element(kind, data[start : start + size])
        position = start + size
        if padded or kind == _MATRIX:
            position += -position % 8


def _decompressed(data: memoryview) -> _Element:
    stream = zlib.decompressobj()
    unpacked = stream.decompress(data, _MOST_BYTES)
    if not stream.eof:
        raise ValueError("compressed data that is cut short or too large")
    return next(_elements(memoryview(unpacked)))
