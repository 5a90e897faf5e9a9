"""A hash table from the vertices of a lattice to the numbers of their rows.

Open addressing with double hashing: a vertex has a sequence of slots, and lies in the
first of them that was free when it came. All that are inserted together try their next
slot at once, turn after turn, until each has a place; of several at one free slot the
lowest number gets it. So the same table comes out of every run, on every backend.

Everything here must be traced in a 64-bit context (`jax.enable_x64`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# In a slot that holds no number: above all numbers.
_FREE = np.int32(2**31 - 1)


def empty_table(capacity: int) -> jax.Array:
    """A table for up to `capacity` numbers: int32 [slots], a power of two.

    A fifth of it stays free, so that the turns of a look-up stay few.
    """
    return jnp.full(1 << (capacity + capacity // 4).bit_length(), _FREE, jnp.int32)


def hash_vertex(code: jax.Array, remainder: jax.Array) -> jax.Array:
    """Hashes vertices given by their remainder and their code among those of it.

    The finaliser of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom
    Number Generators", 2014): each bit of its input turns half of those that come out.

    Args:
      code: int64, and
      remainder: int32, of shapes that broadcast.

    Returns:
      uint64: the first slot in the upper bits, the stride in the lower.
    """
    mixed = code.astype(jnp.uint64)
    mixed += remainder.astype(jnp.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> 27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> 31)


def insert(
    table: jax.Array, hashes: jax.Array, numbers: jax.Array, wanted: jax.Array
) -> jax.Array:
    """Puts numbers into the table.

    Args:
      table: int32 [slots].
      hashes: uint64 [entries], of vertices that are not in the table.
      numbers: int32 [entries], no two the same.
      wanted: bool [entries], which of them to put in.

    Returns:
      The new table.
    """

    def try_next_slot(state):
        table, waiting, turn = state
        slot = _slot(hashes, turn, table)
        free = waiting & (_read(table, slot) == _FREE)
        slot_if_free = jnp.where(free, slot, len(table))
        table = table.at[slot_if_free].min(numbers, mode="drop")
        return table, waiting & (_read(table, slot) != numbers), turn + 1

    state = (table, wanted, jnp.int32(0))
    return lax.while_loop(lambda state: jnp.any(state[1]), try_next_slot, state)[0]


def look_up(
    table: jax.Array,
    hashes: jax.Array,
    is_it: Callable[[jax.Array], jax.Array],
    missing: int,
) -> jax.Array:
    """Finds the numbers of vertices.

    Args:
      table: int32 [slots].
      hashes: uint64 [...], of the vertices.
      is_it: of numbers int32 [...] in the table, or `missing`, whether each is the
        vertex's; never of `missing`.
      missing: the number of a vertex that is not in the table.

    Returns:
      int32 [...].
    """

    def try_next_slot(state):
        found, waiting, turn = state
        number = _read(table, _slot(hashes, turn, table))
        there = jnp.where(number == _FREE, missing, number)
        hit = waiting & is_it(there)
        return (
            jnp.where(hit, there, found),
            waiting & ~hit & (number != _FREE),
            turn + 1,
        )

    state = (
        jnp.full(hashes.shape, missing, jnp.int32),
        jnp.ones(hashes.shape, bool),
        jnp.int32(0),
    )
    return lax.while_loop(lambda state: jnp.any(state[1]), try_next_slot, state)[0]


def _slot(hashes: jax.Array, turn: jax.Array, table: jax.Array) -> jax.Array:
    """Where to look in the given turn; an odd stride comes to every slot in the end."""
    first = (hashes >> 32).astype(jnp.uint32)
    stride = hashes.astype(jnp.uint32) | np.uint32(1)
    slot = first + turn.astype(jnp.uint32) * stride
    return (slot & np.uint32(len(table) - 1)).astype(jnp.int32)


def _read(array: jax.Array, index: jax.Array) -> jax.Array:
    return array.at[index].get(mode="promise_in_bounds")
