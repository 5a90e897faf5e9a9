"""Which vertices of a lattice lie beside each other, found by their codes.

Everything here must be traced in a 64-bit context (`jax.enable_x64`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax import codes, hashing
from crfrnn_jax.entries import SortedEntries
from crfrnn_jax.indexing import take
from crfrnn_jax.simplex import keep_embeddable, widest_error, widest_reach

# Rows that are put into the table, and looked up, together: few enough to stay in a
# core's cache.
_CHUNK = 8192


def find_neighbours(entries: SortedEntries, places: jax.Array) -> jax.Array:
    """Forward and backward neighbours of the vertices.

    Args:
      entries: the sorted entries.
      places: int64 [d + 1], of the codes' digits.

    Returns:
      int32 [d + 1, 2, rows], rows - 1 for none. There are capacity + 1 rows.
    """
    inside, wrapped = codes.axis_steps(places)  # [axes]
    num_axes = len(inside)
    rows = len(entries.first_of_row)
    none = rows - 1
    first_with_remainder = entries.vertex_ids[1, 0]
    axis = np.arange(num_axes, dtype=np.int32)[:, None]
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
    code_of_row = take(entries.codes.reshape(-1), entries.first_of_row)
    table = hashing.empty_table(code_of_row, entries.num_vertices)
    table = lax.fori_loop(0, turns, insert, table)
    # It is `none`, but XLA does not know. Else it would fill this array, the largest of
    # the lattice, before anything else, and keep a thread from sorting meanwhile.
    late_none = jnp.maximum(none, -entries.num_vertices)
    nothing = jnp.full((num_axes, 2, rows), late_none)
    return lax.fori_loop(0, turns, find, nothing)


def is_free_of_collisions(
    features: jax.Array, entries: SortedEntries, neighbours: jax.Array
) -> jax.Array:
    """Whether equal codes were equal vertices, wherever codes were compared.

    Points that share a vertex, or have vertices beside each other, are near. So it
    looks whether they are: entries and the one before of the same code, and the first
    entries of vertices and of their neighbours. With up to 8 features there are no two
    vertices of near points that a hash can't tell apart. With more, one such collision
    would go unseen, and is as rare as any: about the number of pairs in 2^64.

    Args:
      features: float [points, d], from which the entries are.
      entries: the sorted entries.
      neighbours: from `find_neighbours`.
    """
    d = features.shape[1]
    reach, error = widest_reach(d), widest_error(d)
    _, kept = keep_embeddable(lax.stop_gradient(features), axis=1)
    rows = neighbours.shape[2]
    point_of_row = take(entries.points.reshape(-1), entries.first_of_row)

    # Entries of a remainder, and neighbours along an axis; there are as many of each.
    def count_far(so_far, of_turn):
        point, is_first, forward = of_turn
        ours = jnp.concatenate([point[1:], point_of_row])
        theirs = jnp.concatenate([point[:-1], take(point_of_row, forward)])
        compared = jnp.concatenate([~is_first[1:], forward < rows - 1])
        own, other = (take(kept, ids).astype(jnp.float64) for ids in (ours, theirs))
        far = _length(own - other) > reach + error * _length(own)
        # So that it is counted by one kernel; XLA makes a chain of them of a sum.
        counted = (far & compared).astype(jnp.float32)
        return so_far + jnp.vdot(counted, counted), None

    # A loop, of which one turn is compiled and not d + 1: this hardly ever runs, except
    # under `vmap`, where both sides of a condition are computed.
    turns = entries.points, entries.is_first, neighbours[:, 0]
    num_far, _ = lax.scan(count_far, jnp.float32(0), turns)
    return num_far == 0


def _length(vectors: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(vectors**2, axis=-1))
