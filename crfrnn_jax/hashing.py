"""A hash table in which codes are found.

Open addressing with double hashing: a code has a sequence of slots, and lies in the
first of them that was free when it came. Codes that come together try their next slot
at once, turn after turn, until each is placed; of several at one free slot the one that
stands first in the array gets it. So the same table comes out of every run, on every
backend.

Everything here must be traced in a 64-bit context (`jax.enable_x64`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.indexing import take

# In a slot that holds no entry: above all entries.
_FREE = np.int32(2**31 - 1)


class HashTable(NamedTuple):
    """Where codes are.

    Attributes:
      slots: int32 [slots], a power of two; in each the entry whose code lies there.
      codes: int64 [entries].
      mask: uint32 scalar, one less than the slots in use, a power of two.
    """

    slots: jax.Array
    codes: jax.Array
    mask: jax.Array


def empty_table(codes: jax.Array, num_entries: jax.Array) -> HashTable:
    """A table for int64 codes [entries], fewer than 2^30, that has none of them yet.

    Args:
      codes: the codes of all entries.
      num_entries: int32 scalar, the most that will be put in, or more. The fewer, the
        less of the table is used, and the more of it stays in cache.
    """
    # At least a quarter of the slots stays free, even if all entries are put in, so
    # that the turns stay few; and three quarters if they are few.
    size = 1 << (4 * len(codes) // 3).bit_length()
    unused_bits = lax.clz(4 * jnp.maximum(num_entries, 1).astype(jnp.uint32))
    mask = np.uint32(2**32 - 1) >> unused_bits
    slots = jnp.full(size, _FREE, jnp.int32)
    return HashTable(slots, codes, jnp.minimum(mask, np.uint32(size - 1)))


def insert(table: HashTable, entries: jax.Array, wanted: jax.Array) -> HashTable:
    """Puts entries into a table, whose codes must differ from those of the others.

    Args:
      table: from `empty_table` or from here.
      entries: int32 [n], of the table's codes; that some are there already does no
        harm.
      wanted: bool [n], which of them to put in.

    Returns:
      The table with these entries in it.
    """
    hashes = _hash(take(table.codes, entries))

    def try_next_slot(state):
        slots, waiting, turn = state
        slot = _slot(hashes, turn, table.mask)
        free = waiting & (take(slots, slot) == _FREE)
        target = jnp.where(free, slot, len(slots))
        slots = slots.at[target].min(entries, mode="drop", wrap_negative_indices=False)
        return slots, waiting & (take(slots, slot) != entries), turn + 1

    state = (table.slots, wanted, jnp.int32(0))
    slots, _, _ = lax.while_loop(lambda state: jnp.any(state[1]), try_next_slot, state)
    return table._replace(slots=slots)


def look_up(table: HashTable, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finds codes in a table.

    Args:
      table: from `insert`.
      codes: int64 [...].

    Returns:
      int32 [...], the entry of each code, or 0, and bool [...], whether it is
      there.
    """
    hashes = _hash(codes)

    def try_next_slot(state):
        found, waiting, turn = state
        there = take(table.slots, _slot(hashes, turn, table.mask))
        taken = waiting & (there != _FREE)
        same = taken & (take(table.codes, jnp.where(taken, there, 0)) == codes)
        return jnp.where(same, there, found), taken & ~same, turn + 1

    nowhere = jnp.full(codes.shape, _FREE)
    state = (nowhere, jnp.ones(codes.shape, bool), jnp.int32(0))
    found, _, _ = lax.while_loop(lambda state: jnp.any(state[1]), try_next_slot, state)
    exists = found != _FREE
    return jnp.where(exists, found, 0), exists


def _hash(codes: jax.Array) -> jax.Array:
    """Mixes codes to uint64, of whose bits each depends on all of the code's.

    The finaliser of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom
    Number Generators", 2014).
    """
    mixed = codes.astype(jnp.uint64)
    mixed = (mixed ^ (mixed >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> 27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> 31)


def _slot(hashes: jax.Array, turn: jax.Array, mask: jax.Array) -> jax.Array:
    """Where to look in the given turn; an odd stride comes to every slot in the end."""
    first = (hashes >> 32).astype(jnp.uint32)
    stride = hashes.astype(jnp.uint32) | np.uint32(1)
    return (first + turn.astype(jnp.uint32) * stride) & mask
