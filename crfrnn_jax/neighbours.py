"""Which vertices of a lattice lie beside each other, found by their codes.

Everything here must be traced in a 64-bit context (`jax.enable_x64`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax import codes, hashing
from crfrnn_jax.entries import SortedEntries
from crfrnn_jax.indexing import put, take
from crfrnn_jax.simplex import Simplex

# Rows that are put into the table, and looked up, together: few enough to stay in a
# core's cache.
_CHUNK = 8192


def find_neighbours(entries: SortedEntries, places: jax.Array, rows: int) -> jax.Array:
    """Forward and backward neighbours of the vertices.

    Args:
      entries: the sorted entries.
      places: int64 [d], of the codes' digits.
      rows: the capacity and one more.

    Returns:
      int32 [d + 1, 2, rows], rows - 1 for none.
    """
    inside, wrapped = codes.axis_steps(places)  # [axes]
    num_axes = len(inside)
    none = rows - 1
    first_with_remainder = entries.vertex_ids[1, 0]
    axis = jnp.arange(num_axes, dtype=jnp.int32)[:, None]
    chunk = min(_CHUNK, rows)

    def of_chunk(i):
        """Numbers of rows, and which are in use."""
        # The last rows are moved back to end with all: some come again.
        start = jnp.minimum(i * chunk, rows - chunk)
        row = start + jnp.arange(chunk, dtype=jnp.int32)
        return row, row < entries.num_vertices

    def insert(i, table):
        return hashing.insert(table, *of_chunk(i))

    def find(i, neighbours):
        row, in_use = of_chunk(i)
        has_remainder = (row >= first_with_remainder)[None]
        steps = jnp.where(has_remainder, inside[:, None], wrapped[:, None])
        forward, exists = hashing.look_up(table, take(table.codes, row)[None] + steps)
        forward = jnp.where(exists & in_use[None], forward, none)
        neighbours = lax.dynamic_update_slice(
            neighbours, forward[:, None], (jnp.int32(0), jnp.int32(0), row[0])
        )
        # A step back is the inverse of a step forward.
        ahead = jnp.where(forward == none, rows, forward)
        return neighbours.at[axis, 1, ahead].set(
            jnp.broadcast_to(row, forward.shape),
            mode="drop",
            wrap_negative_indices=False,
        )

    # As many turns as the vertices in use ask for. Of hashes two may be the same: both
    # are put in, and what is found wrongly, `is_free_of_collisions` sees.
    turns = -(-jnp.minimum(entries.num_vertices, rows) // np.int32(chunk))
    code_of_row = _of_vertices(entries, rows, entries.codes)
    table = hashing.empty_table(code_of_row, entries.num_vertices)
    table = lax.fori_loop(0, turns, insert, table)
    # It is `none`, but XLA does not know. Else it would fill this array, the largest of
    # the lattice, before anything else, and keep a thread from sorting meanwhile.
    late_none = jnp.maximum(none, -entries.num_vertices)
    nothing = jnp.full((num_axes, 2, rows), late_none)
    return lax.fori_loop(0, turns, find, nothing)


def is_free_of_collisions(
    simplex: Simplex, entries: SortedEntries, neighbours: jax.Array
) -> jax.Array:
    """Whether equal codes were equal vertices, wherever codes were compared.

    Compared are all entries with the one before of the same code, and all vertices with
    their neighbours: the quotients, as where they and the codes agree the remainders do
    too.
    """
    num_remainders, points = simplex.rank.shape
    d = num_remainders - 1

    def quotients_at(point, remainder):
        at = jax.tree.map(lambda field: take(field, point, axis=1), simplex)
        return codes.quotients(at, remainder)

    def same_vertex(of_remainder):
        remainder, point, is_first = of_remainder
        own = quotients_at(point, remainder)
        return jnp.all((own == jnp.roll(own, 1, axis=1)) | is_first[None])

    entry = jnp.arange(entries.vertex_ids.size, dtype=jnp.int32)
    first = _of_vertices(entries, neighbours.shape[2], entry)
    of_row = quotients_at(take(entries.points.reshape(-1), first), first // points)
    has_remainder = (first >= points)[None]
    none = of_row.shape[1] - 1

    def one_step_apart(axis):
        forward, inside, wrapped = axis
        steps = jnp.where(has_remainder, inside[:, None], wrapped[:, None])
        joined = take(of_row, forward, axis=1) == of_row + steps
        return jnp.all(joined | (forward == none)[None])

    # Loops, of which one turn is compiled and not d + 1: this hardly ever runs, except
    # under `vmap`, where both sides of a condition are computed.
    remainders = jnp.arange(num_remainders, dtype=jnp.int32)
    shared = lax.map(same_vertex, (remainders, entries.points, entries.is_first))
    joined = lax.map(
        one_step_apart, (neighbours[:, 0], *map(jnp.asarray, codes.step_quotients(d)))
    )
    return jnp.all(shared) & jnp.all(joined)


def _of_vertices(entries: SortedEntries, rows: int, of_entries: jax.Array) -> jax.Array:
    """Of each vertex what its first entry has, 0 where there is no vertex: [rows]."""
    vertex = jnp.where(entries.is_first, entries.vertex_ids, rows).reshape(-1)
    nothing = jnp.zeros(rows, of_entries.dtype)
    return put(nothing, vertex, of_entries.reshape(-1))
