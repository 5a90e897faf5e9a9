"""A reader of the part of HDF5 that h5py writes unless told otherwise.

HDF5's own library is not used: a few changed bytes make it run out of its memory or for
ever. What follows is its File Format Specification, as far as Keras's files go. A
superblock of version 0 leads to the root's object header (version 1), a row of
messages. A group has a symbol table: a B-tree (version 1) of nodes whose entries name
objects, the names lying in a local heap. A data set has a data space (its shape), a
data type and a layout, and its values lie in one run. Attributes are messages with all
of that inside; texts of varying length lie in a global heap.

Compressed and chunked data, links into other files, and what `libver="latest"` writes
are refused. Every address is held against the file's size before it is followed.
"""

import struct
from collections.abc import Iterator
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crfrnn_jax.weights.limits import check_dims

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DATASPACE, _DATATYPE, _EXTERNAL, _LAYOUT = 1, 3, 7, 8
_ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE = 12, 16, 17
_SHARED = 2  # a message's flag: its contents lie elsewhere
_SOFT_LINK = 2  # a symbol's kind
_MOST_STEPS = 200_000  # a network of 100 layers takes a few thousand

# IEEE's halves, singles and doubles: bytes, and then the precision, and the place and
# size of exponent and mantissa, and the exponent's bias.
_FLOATS = {
    2: (16, 10, 5, 0, 10, 15),
    4: (32, 23, 8, 0, 23, 127),
    8: (64, 52, 11, 0, 52, 1023),
}
# A text of varying length: how long, the global heap it lies in, and which one there.
_TEXT = np.dtype([("size", "<u4"), ("heap", "<u8"), ("index", "<u4")])
_LONGEST_TEXT = 1024  # of those that are read


class _Message(NamedTuple):
    kind: int
    flags: int
    start: int
    size: int


class Hdf5:
    """A file's bytes, and the objects within."""

    def __init__(self, data: bytes):
        self._data = data
        self._steps = 0
        self._heaps: dict[int, dict[int, bytes]] = {}
        if self.unpack("8s", 0)[0] != SIGNATURE or self.unpack("B", 8)[0] != 0:
            raise ValueError("HDF5 of another version than h5py writes by itself")
        if self.unpack("BB", 13) != (8, 8):
            raise ValueError("HDF5 of other addresses than 8 bytes")
        base, _, end, _ = self.unpack("4Q", 24)
        if base != 0 or end > len(data):
            raise ValueError(f"a file cut short: {len(data)} of {end} bytes")
        self.root = Object(self, self.unpack("Q", 64)[0])

    def unpack(self, form: str, position: int) -> tuple[Any, ...]:
        """Little-endian fields at a byte."""
        size = struct.calcsize(f"<{form}")
        return struct.unpack(f"<{form}", self.take(position, size))

    def take(self, position: int, size: int) -> bytes:
        """So many bytes from one on."""
        if position + size > len(self._data):
            raise ValueError(f"at byte {position}: {size} bytes beyond the file's end")
        return self._data[position : position + size]

    def text(self, position: int) -> str:
        """A text that ends in a zero byte."""
        end = self._data.find(b"\0", position, position + _LONGEST_TEXT)
        if end < 0:
            raise ValueError(f"at byte {position}: a name without an end")
        return self._data[position:end].decode("utf-8")

    def values(
        self, position: int, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> NDArray[Any]:
        """An array whose elements lie in one run."""
        count = check_dims(f"the array at byte {position}", shape)
        if count == 0:  # has no address
            return np.zeros(shape, dtype)
        if position + count * dtype.itemsize > len(self._data):
            raise ValueError(f"at byte {position}: an array beyond the file's end")
        return np.frombuffer(self._data, dtype, count, position).reshape(shape)

    def heap_text(self, heap: int, index: int) -> bytes:
        """A text of a global heap."""
        if heap not in self._heaps:
            self._heaps[heap] = dict(self._heap_objects(heap))
        if index not in self._heaps[heap]:
            raise ValueError(f"at byte {heap}: a heap without its text {index}")
        return self._heaps[heap][index]

    def _heap_objects(self, heap: int) -> Iterator[tuple[int, bytes]]:
        magic, version, size = self.unpack("4sB3xQ", heap)
        if magic != b"GCOL" or version != 1:
            raise ValueError(f"at byte {heap}: no heap of texts")
        position, end = heap + 16, heap + size
        while position + 16 <= end:
            self.count_step()
            index, length = self.unpack("H6xQ", position)
            if index == 0:  # the free rest
                return
            yield index, self.take(position + 16, min(length, _LONGEST_TEXT))
            position += 16 + length + -length % 8

    def symbols(self, tree: int, heap: int) -> Iterator[tuple[str, int, int]]:
        """The entries of a group: name, address of the object, kind of link."""
        if self.take(heap, 4) != b"HEAP":
            raise ValueError(f"at byte {heap}: no heap of names")
        (names,) = self.unpack("Q", heap + 24)
        for node in self._leaves(tree, None):
            if self.take(node, 4) != b"SNOD":
                raise ValueError(f"at byte {node}: no node of symbols")
            (count,) = self.unpack("H", node + 6)
            for position in range(node + 8, node + 8 + 40 * count, 40):
                self.count_step()
                name, address, kind = self.unpack("QQI", position)
                yield self.text(names + name), address, kind

    def _leaves(self, node: int, level: int | None) -> Iterator[int]:
        """The children of a B-tree's lowest level; levels fall, so there is no loop."""
        self.count_step()
        magic, kind, own_level, count = self.unpack("4sBBH", node)
        if magic != b"TREE" or kind != 0 or level not in (None, own_level):
            raise ValueError(f"at byte {node}: no node of a group's tree")
        for position in range(node + 32, node + 32 + 16 * count, 16):
            (child,) = self.unpack("Q", position)
            if own_level == 0:
                yield child
            else:
                yield from self._leaves(child, own_level - 1)

    def count_step(self) -> None:
        """Counts what a file can make us do over and over: no file gets far."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise ValueError(f"more than {_MOST_STEPS} names and facts")


class Object:
    """A group or a data set, by the messages of its header."""

    def __init__(self, file: Hdf5, address: int):
        self._file = file
        self._messages = list(_read_header(file, address))

    @property
    def is_dataset(self) -> bool:
        """Whether it holds an array."""
        return any(message.kind == _LAYOUT for message in self._messages)

    @cached_property
    def names(self) -> dict[str, int]:
        """A group's objects, their addresses by name.

        Raises:
          ValueError: it is no group, or some entry is not an object of this file.
        """
        tree, heap = self._file.unpack("QQ", self._only(_SYMBOL_TABLE).start)
        found: dict[str, int] = {}
        for name, address, kind in self._file.symbols(tree, heap):
            if kind == _SOFT_LINK or name in found:
                raise ValueError(f"{name!r} is a link, or there twice")
            found[name] = address
        return found

    def child(self, name: str) -> "Object":
        """One of a group's objects."""
        if name not in self.names:
            raise ValueError(f"{name!r} is missing")
        return Object(self._file, self.names[name])

    def attribute(self, name: str) -> NDArray[Any] | None:
        """An attribute's values, or None if there is none of that name."""
        for message in self._messages:
            self._file.count_step()
            if message.kind == _ATTRIBUTE:
                found, dtype, space, data = self._attribute_parts(message)
                if found == name:
                    shape = _read_shape(self._file, space)
                    kind = _read_dtype(self._file, dtype)
                    end = message.start + message.size
                    if data + check_dims(name, shape) * kind.itemsize > end:
                        raise ValueError(f"{name} reaches out of its message")
                    values = self._file.values(data, kind, shape)
                    return values if kind != _TEXT else self._texts(values)
        return None

    def _texts(self, places: NDArray[Any]) -> NDArray[np.bytes_]:
        texts = [
            self._file.heap_text(int(heap), int(index))[: int(size)]
            for size, heap, index in places.ravel()
        ]
        return np.array(texts, np.bytes_)

    def _attribute_parts(self, message: _Message) -> tuple[str, int, int, int]:
        """Name and places of an attribute's type, shape and values."""
        version, _, *sizes = self._file.unpack("BBHHH", message.start)
        if version not in (1, 2, 3) or message.flags & _SHARED:
            raise ValueError(f"at byte {message.start}: an attribute of unknown layout")
        if version == 1:  # in steps of 8 bytes
            sizes = [size + -size % 8 for size in sizes]
        start = message.start + (9 if version == 3 else 8)
        places = [start]
        for size in sizes:
            places.append(places[-1] + size)
        return self._file.text(start), places[1], places[2], places[3]

    def array(self) -> NDArray[Any]:
        """A data set's values.

        Raises:
          ValueError: they are no numbers, or don't lie in one run in this file.
        """
        if any(message.kind == _EXTERNAL for message in self._messages):
            raise ValueError("an array that lies in another file")
        shape = _read_shape(self._file, self._only(_DATASPACE).start)
        dtype = _read_dtype(self._file, self._only(_DATATYPE).start)
        if dtype.kind not in "fiu":
            raise ValueError("an array of other things than numbers")
        layout = self._only(_LAYOUT)
        version, kind = self._file.unpack("BB", layout.start)
        if version not in (3, 4) or kind not in (0, 1):
            raise ValueError(
                "an array in chunks, which h5repack -l CONTI -f NONE would undo, or in "
                "another file"
            )
        if kind == 0:  # within the message
            position = layout.start + 4
            (size,) = self._file.unpack("H", layout.start + 2)
        else:
            position, size = self._file.unpack("QQ", layout.start + 2)
        if size != prod(shape) * dtype.itemsize:
            raise ValueError(f"at byte {layout.start}: an array of another size")
        return self._file.values(position, dtype, shape)

    def _only(self, kind: int) -> _Message:
        found = [message for message in self._messages if message.kind == kind]
        if len(found) != 1 or found[0].flags & _SHARED:
            raise ValueError("an object that is not as h5py writes it by itself")
        return found[0]


def _read_header(file: Hdf5, address: int) -> Iterator[_Message]:
    version, _, count, _, size = file.unpack("BBHII", address)
    if version != 1:
        raise ValueError(f"at byte {address}: no object header of version 1")
    blocks = [(address + 16, size)]
    # Each turn takes a message or a block; blocks come from messages: it ends.
    while blocks and count:
        position, left = blocks.pop(0)
        while left >= 8 and count:
            file.count_step()
            kind, length, flags = file.unpack("HHB", position)
            message = _Message(kind, flags, position + 8, length)
            position, left = position + 8 + length, left - 8 - length
            count -= 1
            if left < 0:
                raise ValueError(f"at byte {message.start}: a message cut short")
            file.take(message.start, length)
            if kind == _CONTINUATION:
                blocks.append(file.unpack("QQ", message.start))
            yield message


def _read_shape(file: Hdf5, position: int) -> tuple[int, ...]:
    version, rank, _, kind = file.unpack("4B", position)
    if version not in (1, 2) or rank > 8 or (version == 2 and kind > 1):
        raise ValueError(f"at byte {position}: a shape of unknown layout")
    return file.unpack(f"{rank}Q", position + (8 if version == 1 else 4))


def _read_dtype(file: Hdf5, position: int) -> np.dtype[Any]:
    kind, bits, size = file.unpack("BBxxI", position)
    order = ">" if bits & 1 else "<"
    if kind & 15 == 0 and size in (1, 2, 4, 8):
        return np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}")
    if kind & 15 == 1 and not bits & 0x40 and size in _FLOATS:
        offset, *facts = file.unpack("HHBBBBI", position + 8)
        if offset == 0 and tuple(facts) == _FLOATS[size]:
            return np.dtype(f"{order}f{size}")
    if kind & 15 == 3 and 0 < size <= _LONGEST_TEXT:
        return np.dtype(f"S{size}")
    if kind & 15 == 9 and bits & 15 == 1 and size == _TEXT.itemsize:
        return _TEXT
    raise ValueError(f"at byte {position}: values that are no plain numbers or texts")
