"""A hash table that groups equal codes, and finds them again.

Open addressing with double hashing: a code has a sequence of slots, and lies in the
first of them that was free when it came. All codes try their next slot at once, turn
after turn, until each is placed; of several at one free slot the one that stands first
in the array gets it. So the same table comes out of every run, on every backend.

Everything here must be traced in a 64-bit context (`jax.enable_x64`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# In a slot that holds no entry: above all entries.
_FREE = np.int32(2**31 - 1)


class HashTable(NamedTuple):
    """Where codes are.

    Attributes:
      slots: int32 [slots], a power of two; in each the entry whose code lies there.
      codes: int64 [entries].
    """

    slots: jax.Array
    codes: jax.Array


def group(codes: jax.Array) -> tuple[HashTable, jax.Array]:
    """Finds, for every entry, the first that has the same code.

    Args:
      codes: int64 [entries], fewer than 2^31.

    Returns:
      A table of the codes, and int32 [entries], the first entry of the same code.
    """
    entry = jnp.arange(len(codes), dtype=jnp.int32)
    hashes = _hash(codes)
    # A fifth of the slots stays free, so that the turns stay few.
    size = 1 << min((len(codes) + len(codes) // 4).bit_length(), 31)

    def try_next_slot(state):
        slots, first, turn = state
        slot = _slot(hashes, turn, size)
        waiting = first == _FREE
        free = waiting & (_read(slots, slot) == _FREE)
        slots = slots.at[jnp.where(free, slot, size)].min(entry, mode="drop")
        there = _read(slots, slot)
        same = waiting & (_read(codes, there) == codes)
        return slots, jnp.where(same, there, first), turn + 1

    state = (
        jnp.full(size, _FREE, jnp.int32),
        jnp.full(len(codes), _FREE, jnp.int32),
        jnp.int32(0),
    )
    slots, first, _ = lax.while_loop(
        lambda state: jnp.any(state[1] == _FREE), try_next_slot, state
    )
    return HashTable(slots, codes), first


def look_up(table: HashTable, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finds codes in a table.

    Args:
      table: from `group`.
      codes: int64 [...].

    Returns:
      int32 [...], the first entry of each code, or 0, and bool [...], whether it is
      there.
    """
    hashes = _hash(codes)

    def try_next_slot(state):
        first, exists, waiting, turn = state
        there = _read(table.slots, _slot(hashes, turn, len(table.slots)))
        taken = there != _FREE
        there = jnp.where(taken, there, 0)
        same = waiting & taken & (_read(table.codes, there) == codes)
        first = jnp.where(same, there, first)
        return first, exists | same, waiting & taken & ~same, turn + 1

    state = (
        jnp.zeros(codes.shape, jnp.int32),
        jnp.zeros(codes.shape, bool),
        jnp.ones(codes.shape, bool),
        jnp.int32(0),
    )
    first, exists, _, _ = lax.while_loop(
        lambda state: jnp.any(state[2]), try_next_slot, state
    )
    return first, exists


def _hash(codes: jax.Array) -> jax.Array:
    """Mixes codes to uint64, of whose bits each depends on all of the code's.

    The finaliser of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom
    Number Generators", 2014).
    """
    mixed = codes.astype(jnp.uint64)
    mixed = (mixed ^ (mixed >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> 27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> 31)


def _slot(hashes: jax.Array, turn: jax.Array, size: int) -> jax.Array:
    """Where to look in the given turn; an odd stride comes to every slot in the end."""
    first = (hashes >> 32).astype(jnp.uint32)
    stride = hashes.astype(jnp.uint32) | np.uint32(1)
    return (first + turn.astype(jnp.uint32) * stride) & np.uint32(size - 1)


def _read(array: jax.Array, index: jax.Array) -> jax.Array:
    return array.at[index].get(mode="promise_in_bounds")
