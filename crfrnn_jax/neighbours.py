"""Which vertices of a lattice lie beside each other, found by their codes.

Everything here must be traced in a 64-bit context (`jax.enable_x64`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax import codes
from crfrnn_jax.entries import SortedEntries
from crfrnn_jax.indexing import put, take
from crfrnn_jax.searching import last_at_most
from crfrnn_jax.simplex import (
    keep_embeddable,
    sum_rows,
    widest_error,
    widest_reach,
)

# Rows that are worked on together: few enough to stay in a core's cache.
_CHUNK = 8192


def find_neighbours(
    entries: SortedEntries, places: jax.Array, capacity: int
) -> jax.Array:
    """Forward and backward neighbours of the vertices.

    Args:
      entries: the sorted entries.
      places: int64 [d + 1], of the codes' digits.
      capacity: the most vertices there are numbers for.

    Returns:
      int32 [d + 1, 2, capacity + 1], the number `capacity` for none.
    """
    inside, wrapped = codes.axis_steps(places)  # [axes]
    num_axes, rows = len(inside), capacity + 1
    num_used = jnp.minimum(entries.num_vertices, capacity)
    code_of_row = _codes_of_rows(entries, num_used)
    # Vertices are numbered by remainder, and of each by code.
    starts = entries.vertex_ids[:, 0]
    ends = jnp.append(starts[1:], num_used)
    axis = np.arange(num_axes, dtype=np.int32)[:, None]

    def find(row, _, neighbours):
        # A step leads to the remainder before, and from the first to the last.
        remainder = sum_rows((row >= start).astype(jnp.int32) for start in starts[1:])
        wraps = remainder == 0
        before = (jnp.where(wraps, num_axes, remainder) - 1)[None]
        low, high = take(starts, before), take(ends, before)
        steps = jnp.where(wraps[None], wrapped[:, None], inside[:, None])
        wanted = take(code_of_row, row)[None] + steps
        found = last_at_most(code_of_row, wanted, low, high)
        exists = (take(code_of_row, jnp.maximum(found, 0)) == wanted) & (found >= low)
        forward = jnp.where(exists & (row < num_used)[None], found, capacity)
        neighbours = lax.dynamic_update_slice(
            neighbours, forward[:, None], (jnp.int32(0), jnp.int32(0), row[0])
        )
        # A step back is the inverse of a step forward.
        ahead = jnp.where(forward == capacity, rows, forward)
        return neighbours.at[axis, 1, ahead].set(
            jnp.broadcast_to(row, forward.shape),
            mode="drop",
            wrap_negative_indices=False,
        )

    # It is `capacity`, but XLA does not know. Else it would fill this array, the
    # largest of the lattice, before anything else, and keep a thread from sorting
    # meanwhile.
    late_none = jnp.maximum(capacity, -entries.num_vertices)
    nothing = jnp.full((num_axes, 2, rows), late_none)
    return _by_chunks(find, num_used, capacity, nothing)


def _codes_of_rows(entries: SortedEntries, num_used: jax.Array) -> jax.Array:
    """Each vertex's code, uint64 [entries]: any at numbers that no vertex has.

    In the place of the entries' codes: a vertex's number is at most that of its first
    entry, so that what is written over was read before. A scatter of all entries would
    be simpler; it runs on one thread, and its arrays are larger than what is found.
    """
    ids, size = entries.vertex_ids.reshape(-1), entries.codes.size

    def gather_up(row, comes_again, codes):
        first = last_at_most(ids, row - 1, 0, size) + 1
        first = jnp.where(comes_again, row, first)
        return lax.dynamic_update_slice(codes, take(codes, first), (row[0],))

    return _by_chunks(gather_up, num_used, size, entries.codes.reshape(-1))


def _by_chunks(
    function: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    num_used: jax.Array,
    most: int,
    carried: jax.Array,
) -> jax.Array:
    """What a function makes of an array, for one chunk of rows after the other.

    Args:
      function: takes the rows' numbers, int32 [chunk], which of them came before, bool
        [chunk], and what it has made so far.
      num_used: int32 scalar; all rows below it come, and some above may.
      most: the most that it can be; no row is that or above.
      carried: what it begins with.
    """
    chunk = min(_CHUNK, most)

    def turn(i, carried):
        # The last rows are moved back to end with all: some come again.
        start = jnp.minimum(i * chunk, most - chunk)
        row = start + jnp.arange(chunk, dtype=jnp.int32)
        return function(row, row < i * chunk, carried)

    turns = -(-num_used // np.int32(chunk))
    return lax.fori_loop(0, turns, turn, carried)


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
    row = jnp.where(entries.is_first, entries.vertex_ids, rows).reshape(-1)
    nothing = jnp.zeros(rows, jnp.int32)
    point_of_row = put(nothing, row, entries.points.reshape(-1))

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
