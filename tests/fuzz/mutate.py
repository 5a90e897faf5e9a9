"""Damage to bytes: what a broken disk, or somebody who means harm, would do to them."""

import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence

# Sizes and counts that readers stumble over.
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**24)
_NUMBERS += (2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


def damaged(
    seeds: Sequence[bytes], finish: Callable[[bytes], bytes] = lambda data: data
) -> Callable[[int], Iterator[bytes]]:
    """An endless row of inputs that come from a few whole ones.

    Args:
      seeds: the whole ones.
      finish: makes an input of damaged bytes, as a container around them.
    """

    def inputs(seed: int) -> Iterator[bytes]:
        rng = random.Random(seed)
        while True:
            data = bytearray(rng.choice(seeds))
            for _ in range(min(8, 1 + int(rng.expovariate(0.6)))):
                rng.choice(_DAMAGE)(rng, data)
            yield finish(bytes(data))

    return inputs


def png(data: bytes) -> bytes:
    """A PNG with the checksums that go with its chunks: without, nothing is read."""
    made, position = bytearray(data[:8]), 8
    while position + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, position)
        body = data[position + 4 : position + 8 + size]
        made += data[position : position + 4] + body
        made += struct.pack(">I", zlib.crc32(body))
        position += 12 + size
    return bytes(made)


def _flip(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, data: bytearray) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)


def _number(rng: random.Random, data: bytearray) -> None:
    size = rng.choice((1, 2, 4, 8))
    if len(data) >= size:
        at = rng.randrange(len(data) - size + 1)
        value = rng.choice(_NUMBERS) % 2 ** (8 * size)
        data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _remove(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.randrange(1, 17)]


def _insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.randrange(1, 9))


def _copy(rng: random.Random, data: bytearray) -> None:
    start, at = (rng.randrange(len(data) + 1) for _ in range(2))
    data[at:at] = data[start : start + rng.randrange(1, 65)]


def _move(rng: random.Random, data: bytearray) -> None:
    """Bytes over others: addresses and sizes change places."""
    size = rng.choice((1, 2, 4, 8, 16))
    if len(data) >= size:
        start, at = (rng.randrange(len(data) - size + 1) for _ in range(2))
        data[at : at + size] = data[start : start + size]


_DAMAGE = (_flip, _flip, _set, _set, _number, _number, _move, _move)
_DAMAGE += (_cut, _remove, _insert, _copy)
