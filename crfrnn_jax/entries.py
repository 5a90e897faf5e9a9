"""Points' shares in vertices: sorted by vertex, numbered, and cut in pieces."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.indexing import put, put_back, take
from crfrnn_jax.sorting import sort_with_places

# Entries that are summed up at once when values are splatted. Fewer make more pieces,
# whose sums are added one after another; more make more of a piece that is not filled.
PIECE = 8


class Entries(NamedTuple):
    """Points' shares in vertices, in the order of the vertices.

    Of each remainder a point has one share, and vertices are numbered by remainder: so
    the first axis is the remainder, and read as one sequence the entries are those of
    vertex 0, then those of vertex 1, and so on.

    Attributes:
      order: int32 [points], the points in the order of their vertices of remainder 0.
        Values copied into it lie close together for vertices of other remainders, too.
        None for their own order.
      places: int32 [d + 1, points], where in `order` the point of each entry stands.
      weights: float [d + 1, points], its barycentric weight, divided by the slots that
        it takes in a piece, from `slots`. Carries no derivative.
      vertex_ids: int32 [d + 1, points], its vertex.
    """

    order: jax.Array | None
    places: jax.Array
    weights: jax.Array
    vertex_ids: jax.Array


class Pieces(NamedTuple):
    """Entries of one vertex, at most `PIECE` in a row, that a splat sums up at once.

    A piece starts with each vertex and at each multiple of `PIECE`. Its number is
    entry // `PIECE` + vertex, for any of its entries, so some numbers are no piece's.

    Attributes:
      first: int32 [numbers], each piece's first entry; the number of all entries at a
        number that is no piece's.
      last: int32 [numbers], its last entry; any entry at a number that is no piece's.
    """

    first: jax.Array
    last: jax.Array


class SortedEntries(NamedTuple):
    """The entries as they are sorted: by remainder, then by code.

    Attributes:
      points: int32 [d + 1, points], the point of each entry.
      codes: uint64 [d + 1, points], the code of each entry's vertex.
      is_first: bool [d + 1, points], whether it is the first entry of its vertex.
      vertex_ids: int32 [d + 1, points], its vertex; those beyond the capacity share the
        last row.
      num_vertices: int32 scalar.
    """

    points: jax.Array
    codes: jax.Array
    is_first: jax.Array
    vertex_ids: jax.Array
    num_vertices: jax.Array


def sort_entries(code: jax.Array, bound: jax.Array, capacity: int) -> SortedEntries:
    """Sorts the entries of uint64 [d + 1, points] codes, and numbers their vertices.

    None of the codes is above `bound`, as `Digits` has it.

    In the order of the codes, since a step along an axis adds the same to all of a
    remainder: so a blur reads neighbours nearly as they lie in memory, twice as fast.
    """
    code, points = sort_with_places(code, bound)
    is_first = jnp.pad(
        code[:, 1:] != code[:, :-1], ((0, 0), (1, 0)), constant_values=True
    )

    def count(before, is_first):
        ordinal = before + jnp.cumsum(is_first, dtype=jnp.int32)
        return ordinal[-1], jnp.minimum(ordinal - 1, capacity)

    # By rows of [points], whatever d is: XLA compiles that once for all lattices.
    num_vertices, vertex_ids = lax.scan(count, jnp.int32(0), is_first)
    return SortedEntries(points, code, is_first, vertex_ids, num_vertices)


def unsort(entries: SortedEntries) -> jax.Array:
    """The entries' vertices in the order of the points: int32 [d + 1, points]."""
    # By rows, as in `sort_entries`.
    return lax.map(lambda row: put_back(*row), (entries.vertex_ids, entries.points))


def splat_order(points: jax.Array, is_grid: bool) -> tuple[jax.Array | None, jax.Array]:
    """`Entries.order` and `Entries.places`, of the entries' points."""
    if is_grid:
        return None, points
    order = points[0]
    places = put_back(jnp.arange(len(order), dtype=jnp.int32), order)
    return order, take(places, points)


def cut_in_pieces(entries: SortedEntries, capacity: int) -> Pieces:
    """The pieces of the sorted entries."""
    entry, piece = _pieces_of_entries(entries.vertex_ids)
    begins = entries.is_first.reshape(-1) | (entry % PIECE == 0)
    numbers = piece_numbers(entry.size, capacity + 1)
    nowhere = jnp.full(numbers, entry.size, jnp.int32)
    first = put(nowhere, jnp.where(begins, piece, numbers), entry)
    # Where the next number is no piece's, this one ends before a multiple of `PIECE`.
    next_multiple = (first // PIECE + 1) * PIECE
    following = _following(first, entry.size)
    return Pieces(first, jnp.minimum(following, next_multiple) - 1)


def vertices_of_pieces(first: jax.Array, entries: int, rows: int) -> jax.Array:
    """The vertex of each piece, by its first entry; `rows` if it is none."""
    number = jnp.arange(len(first), dtype=jnp.int32)
    return jnp.where(first < entries, number - first // PIECE, rows)


def slots(vertex_ids: jax.Array, pieces: Pieces) -> jax.Array:
    """How many of the slots of its piece each entry takes: int32 [d + 1, points].

    One each, and the last entry of a piece also those of the `PIECE` that are left.
    Slots of weight 0 would make NaN of what is infinite.
    """
    entry, piece = _pieces_of_entries(vertex_ids)
    left = PIECE - (entry - take(pieces.first, piece))
    is_last = piece != _following(piece, -1)
    return jnp.where(is_last, left, 1).reshape(vertex_ids.shape)


def _pieces_of_entries(vertex_ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The entries one after another, and the number of the piece that each is in."""
    entry = jnp.arange(vertex_ids.size, dtype=jnp.int32)
    # Without gaps they could be numbered by a cumulative sum, which takes a CPU longer
    # than to skip the gaps.
    return entry, entry // PIECE + vertex_ids.reshape(-1)


def _following(numbers: jax.Array, end: int) -> jax.Array:
    """The number after each, and after the last the given one.

    A pad, which XLA fuses into what reads it; pieces put together it would store.
    """
    return lax.pad(numbers, np.int32(end), [(-1, 1, 0)])


def piece_numbers(entries: int, rows: int) -> int:
    """Numbers that pieces of entries can have, of vertices in the first `rows` rows."""
    return -(-entries // PIECE) + rows
