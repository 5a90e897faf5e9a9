"""Caffe's .caffemodel: a reader of the few protobuf fields that hold weights.

The wire format is a row of fields: a varint `number << 3 | type`, then a varint (type
0), 8 bytes (1), a varint length and so many bytes (2), or 4 bytes (5).

From caffe.proto: NetParameter has layer = 100 and, before 2015, layers = 2; a layer has
its name and its blobs, LayerParameter as 1 and 7, V1LayerParameter as 4 and 6; a
BlobProto has its shape = 7 (BlobShape: dim = 1), or before that num, channels, height
and width = 1..4, and packed values, data = 5 in single or double_data = 8 in double
precision.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crfrnn_jax.weights.limits import check_dims, reading

# NetParameter's field of layers, and there the fields of name and blobs.
_LAYERS = {100: (1, 7), 2: (4, 6)}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_FIELDS = 300_000  # a network of 100 layers has a few thousand

# The first field of a file decides whether it can be a NetParameter at all: its name,
# layers, input, state, input_shape (messages), input_dim, force_backward, debug_info.
_FIRST_FIELDS = {
    *((number, _BYTES) for number in (1, 2, 3, 6, 8, 100)),
    *((number, _VARINT) for number in (4, 5, 7)),
}


class _Field(NamedTuple):
    number: int
    kind: int
    start: int  # of a varint's or the bytes' first byte
    end: int
    value: int  # of a varint, else 0


def looks_like_caffemodel(head: bytes) -> bool:
    """Whether a file's first bytes can be those of a network."""
    try:
        tag, _ = _varint(head, 0, len(head))
    except ValueError:
        return False
    return (tag >> 3, tag & 7) in _FIRST_FIELDS


def read_caffemodel(path: Path) -> dict[str, NDArray[Any]]:
    """Reads a network's blobs.

    Args:
      path: a .caffemodel, of the layout since 2015 or of the one before.

    Returns:
      The blobs as "LAYER/0" (weights), "LAYER/1" (biases) and so on; blobs of the
      layout before 2015 always have 4 axes, the leading ones of size 1.

    Raises:
      InputError: naming the file and the byte where it stops making sense.
    """
    with reading(path, "a Caffe network"):
        message = _Message(path.read_bytes())
        tensors: dict[str, NDArray[Any]] = {}
        for field in message.fields(0, len(message.data)):
            if field.number not in _LAYERS or field.kind != _BYTES:
                continue
            name, blobs = _read_layer(message, field)
            for index, blob in enumerate(blobs):
                # Layers without blobs often share a name, those with blobs never.
                if f"{name}/{index}" in tensors:
                    raise ValueError(f"at byte {field.start}: two layers {name!r}")
                tensors[f"{name}/{index}"] = blob
        if not tensors:
            raise ValueError("a network without weights")
        return tensors


class _Message:
    def __init__(self, data: bytes):
        self.data = data
        self._count = 0

    def fields(self, start: int, end: int) -> Iterator[_Field]:
        """The fields of the message between two bytes."""
        position = start
        while position < end:
            self._count += 1
            if self._count > _MOST_FIELDS:
                raise ValueError(f"more than {_MOST_FIELDS} fields")
            field = self._field(position, end)
            yield field
            position = field.end

    def _field(self, position: int, end: int) -> _Field:
        tag, start = _varint(self.data, position, end)
        number, kind = tag >> 3, tag & 7
        value = 0
        if kind == _VARINT:
            value, stop = _varint(self.data, start, end)
        elif kind == _BYTES:
            length, start = _varint(self.data, start, end)
            stop = start + length
        elif kind in (_FIXED64, _FIXED32):
            stop = start + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError(f"at byte {position}: a field of the unknown type {kind}")
        if stop > end or number == 0:
            raise ValueError(
                f"at byte {position}: field {number}, of {stop - start} bytes, where "
                f"{end - start} are left"
            )
        return _Field(number, kind, start, stop, value)


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """An unsigned integer of up to 64 bits, and the byte after it."""
    value = 0
    for index in range(10):
        if position + index >= end:
            raise ValueError(f"at byte {position}: an integer cut short")
        byte = data[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError(f"at byte {position}: an integer of more than 10 bytes")


def _read_layer(
    message: _Message, layer: _Field
) -> tuple[str, list[NDArray[np.floating]]]:
    name_field, blobs_field = _LAYERS[layer.number]
    name, blobs = "", []
    for field in message.fields(layer.start, layer.end):
        if (field.number, field.kind) == (name_field, _BYTES):
            name = message.data[field.start : field.end].decode("utf-8")
        elif (field.number, field.kind) == (blobs_field, _BYTES):
            blobs.append(_read_blob(message, field))
    return name, blobs


def _read_blob(message: _Message, blob: _Field) -> NDArray[np.floating]:
    shape: list[int] | None = None
    legacy = [0, 0, 0, 0]
    parts: list[NDArray[np.floating]] = []
    for field in message.fields(blob.start, blob.end):
        if (field.number, field.kind) == (7, _BYTES):
            shape = _read_shape(message, field)
        elif 1 <= field.number <= 4 and field.kind == _VARINT:
            legacy[field.number - 1] = field.value
        elif field.number in (5, 8):
            parts.append(_read_values(message, field))
    dims = tuple(legacy if shape is None else shape)
    values = parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0)])
    name = f"the blob at byte {blob.start}"
    if check_dims(name, dims) != values.size:
        raise ValueError(f"{name}: {values.size} values for the shape {list(dims)}")
    return values.reshape(dims)


def _read_shape(message: _Message, shape: _Field) -> list[int]:
    dims: list[int] = []
    for field in message.fields(shape.start, shape.end):
        if field.number != 1:
            continue
        if field.kind == _VARINT:
            dims.append(field.value)
        position = field.start
        while field.kind == _BYTES and position < field.end and len(dims) < 32:
            size, position = _varint(message.data, position, field.end)
            dims.append(size)
    return dims


def _read_values(message: _Message, field: _Field) -> NDArray[np.floating]:
    dtype = np.dtype("<f4" if field.number == 5 else "<f8")
    length = field.end - field.start
    if field.kind != _BYTES or length % dtype.itemsize:
        raise ValueError(f"at byte {field.start}: values that are not packed")
    return np.frombuffer(
        message.data, dtype, count=length // dtype.itemsize, offset=field.start
    )
