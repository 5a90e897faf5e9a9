"""The permutohedral lattice of a set of points, built once and filtered on often."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from crfrnn_jax import codes, hashing
from crfrnn_jax.checks import InputError, check_at_least, check_floating, check_shape
from crfrnn_jax.rooms import with_room
from crfrnn_jax.simplex import embed


class Lattice(NamedTuple):
    """Which vertices each point touches, how much, and how vertices lie together.

    Made by `build_lattice`. A pytree of arrays, whose shapes depend on the number of
    points, d and the capacity alone. Vertices in use are numbered 0..num_vertices - 1;
    there are `rows` places for them, of which the last holds none unless it overflowed.

    Attributes:
      barycentric: float [d + 1, points], each point's weights, at least 0 but for
        rounding, with sum 1. NaN where the point's features are not finite, and
        everywhere if the lattice overflowed. The one field that carries derivatives.
      vertex_ids: int32 [d + 1, points], the vertex each weight belongs to, in
        range whatever the features.
      neighbours: int32 [d + 1 (axes), 2 (forwards, backwards), rows], for each row the
        vertex one step along the axis, or rows - 1 where none is in use.
      num_vertices: int32 scalar, the number of vertices the points touch. More than the
        capacity means that the lattice overflowed and filters to NaN.
      overflowed: bool scalar, whether there were more vertices than the capacity that
        the caller gave, or, of features that span over 2^62 vertices of the lattice,
        two of them could not be told apart (once in millions of such lattices).
    """

    barycentric: jax.Array
    vertex_ids: jax.Array
    neighbours: jax.Array
    num_vertices: jax.Array
    overflowed: jax.Array


def build_lattice(
    features: jax.typing.ArrayLike, *, capacity: int | None = None
) -> Lattice:
    """Finds the vertices of the permutohedral lattice around the points.

    No vertex is ever dropped: by default there is room for the most that the points can
    touch, points * (d + 1), and later cost follows the least of three such rooms that
    holds those they do touch (`crfrnn_jax.rooms`).

    Args:
      features: float [points, d], d >= 1, already divided by the kernel widths. NaN or
        infinite features make NaN of the results they take part in.
      capacity: most vertices to have room for, to save memory where the number is
        known.

    Returns:
      The lattice. Differentiable with respect to `features` through `barycentric`, with
      the vertices held fixed.

    Raises:
      ValueError: wrong rank, no points, d = 0, not floating, or a capacity below 1.
        Also if the lattice overflows, where that is known: under `jit` it comes with
        `overflowed` set and filters to NaN, never to a wrong number.
    """
    sizes = check_shape("features", features, "points d")
    check_floating("features", features)
    most = sizes["points"] * (sizes["d"] + 1)
    if most >= 2**31:
        raise InputError(
            "features: points * (d + 1) must stay below 2**31, got shape "
            f"[{sizes['points']}, {sizes['d']}]"
        )
    if capacity is not None:
        check_at_least("capacity", capacity, 1)
    capacity = most if capacity is None else min(int(capacity), most)
    lattice = _build(jnp.asarray(features), capacity)
    if not isinstance(lattice.overflowed, Tracer) and lattice.overflowed:
        if lattice.num_vertices > capacity:
            raise InputError(
                f"capacity: expected at least {lattice.num_vertices} for these "
                f"features, got {capacity}"
            )
        raise InputError(
            "features: two vertices of the lattice can't be told apart; expected the "
            "features to span under 2**62 vertices"
        )
    return lattice


@partial(jax.jit, static_argnames="capacity")
def _build(features: jax.Array, capacity: int) -> Lattice:
    with jax.enable_x64(True):
        simplex = embed(features.T)
        digits = codes.digits_of(simplex)
        table, first_entry = hashing.group(codes.encode(simplex, digits).reshape(-1))
        numbering = _number(table.codes, first_entry, capacity)
        neighbours = _find_neighbours(table, numbering, digits.places)
        found_right = lax.cond(
            digits.exact,
            lambda *_: jnp.bool_(True),
            _is_free_of_collisions,
            simplex,
            first_entry,
            numbering,
            neighbours,
        )
        overflowed = ~found_right | (numbering.num_vertices > capacity)
    vertex_ids = numbering.vertex_of_entry.reshape(simplex.rank.shape)
    # Added, not selected: the derivative by the features is to be NaN, too.
    nan_if_overflowed = jnp.where(overflowed, jnp.nan, 0.0)
    barycentric = simplex.weights + nan_if_overflowed.astype(simplex.weights.dtype)
    return Lattice(
        barycentric, vertex_ids, neighbours, numbering.num_vertices, overflowed
    )


class _Numbering(NamedTuple):
    """The vertices in the order of their codes.

    An entry is a point's share in a vertex: entry remainder * points + point.

    Attributes:
      vertex_of_entry: int32 [entries].
      entry_of_row: int32 [rows], the first entry of each vertex.
      num_vertices: int32 scalar.
    """

    vertex_of_entry: jax.Array
    entry_of_row: jax.Array
    num_vertices: jax.Array


def _number(code: jax.Array, first_entry: jax.Array, capacity: int) -> _Numbering:
    """Numbers the vertices; those beyond the capacity share a row."""
    rows, none = capacity + 1, capacity
    entry = jnp.arange(len(code), dtype=jnp.int32)
    is_first = first_entry == entry
    count = jnp.cumsum(is_first, dtype=jnp.int32)
    num_vertices = count[-1]
    # In the order of their first entries ...
    vertex = jnp.minimum(count - 1, none)
    entry_of_row = jnp.zeros(rows, jnp.int32)
    entry_of_row = entry_of_row.at[jnp.where(is_first, vertex, rows)].set(
        entry, mode="drop"
    )
    # ... and in that of their codes: a step along an axis adds the same to all, so that
    # a blur reads its neighbours nearly as they lie in memory, twice as fast.
    entry_of_row, rank = with_room(
        _sort_rows, rows, num_vertices, code, entry_of_row, num_vertices
    )
    return _Numbering(rank[vertex][first_entry], entry_of_row, num_vertices)


def _sort_rows(
    room: int, code: jax.Array, entry_of_row: jax.Array, num_vertices: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sorts the rows in use by code.

    Returns:
      The sorted `entry_of_row`, and int32 [rows], the new place of each row.
    """
    rows = len(entry_of_row)
    row = jnp.arange(room, dtype=jnp.int32)
    row_bits = rows.bit_length()
    # One word sorts five times faster than a code with a payload. Of codes that are too
    # long for that the lowest bits are left out, as only speed depends on the order.
    length = 64 - lax.clz(jnp.max(code.astype(jnp.uint64))).astype(jnp.int32)
    excess = jnp.maximum(length - (64 - row_bits), 0)
    key = code[entry_of_row[:room]].astype(jnp.uint64) >> excess.astype(jnp.uint64)
    key = jnp.where(row < num_vertices, key << row_bits, ~jnp.uint64(0) << row_bits)
    key = lax.sort(key | row.astype(jnp.uint64), is_stable=False)
    old_row = (key & np.uint64(2**row_bits - 1)).astype(jnp.int32)
    rank = jnp.zeros(room, jnp.int32).at[old_row].set(row, unique_indices=True)
    rest = jnp.arange(room, rows, dtype=jnp.int32)
    return (
        jnp.concatenate([entry_of_row[old_row], entry_of_row[room:]]),
        jnp.concatenate([rank, rest]),
    )


def _find_neighbours(
    table: hashing.HashTable, numbering: _Numbering, places: jax.Array
) -> jax.Array:
    """Forward and backward neighbours, int32 [d + 1, 2, rows]; rows - 1 for none."""
    inside, wrapped = codes.axis_steps(places)  # [axes]
    rows, num_axes = len(numbering.entry_of_row), len(inside)
    none = rows - 1
    points = len(table.codes) // num_axes

    def find(room, table, numbering):
        row = jnp.arange(room, dtype=jnp.int32)
        entry = numbering.entry_of_row[:room]
        has_remainder = (entry >= points)[None]
        steps = jnp.where(has_remainder, inside[:, None], wrapped[:, None])
        found, exists = hashing.look_up(table, table.codes[entry][None] + steps)
        exists = exists & (row < numbering.num_vertices)[None]
        forward = jnp.where(exists, numbering.vertex_of_entry[found], none)
        neighbours = jnp.full((num_axes, 2, rows), none, jnp.int32)
        neighbours = neighbours.at[:, 0, :room].set(forward)
        # A step back is the inverse of a step forward.
        axis = jnp.arange(num_axes, dtype=jnp.int32)[:, None]
        return neighbours.at[axis, 1, jnp.where(exists, forward, rows)].set(
            jnp.broadcast_to(row, forward.shape), mode="drop"
        )

    return with_room(find, rows, numbering.num_vertices, table, numbering)


def _is_free_of_collisions(simplex, first_entry, numbering, neighbours) -> jax.Array:
    """Whether equal codes were equal vertices, wherever codes were compared.

    Compared are all entries with the first of their code, and all vertices with their
    neighbours: the quotients, as where they and the codes agree the remainders do too.
    """
    num_remainders, points = simplex.rank.shape
    d = num_remainders - 1

    def quotients_at(entry):
        at = jax.tree.map(lambda field: field[..., entry % points], simplex)
        return codes.quotients(at, entry // points, d)

    def same_vertex(remainder_and_entries):
        remainder, first = remainder_and_entries
        own = codes.quotients(simplex, remainder, d)
        return jnp.all(own == quotients_at(first))

    of_row = quotients_at(numbering.entry_of_row)
    has_remainder = (numbering.entry_of_row >= points)[None]
    none = of_row.shape[1] - 1

    def one_step_apart(axis):
        forward, inside, wrapped = axis
        steps = jnp.where(has_remainder, inside[:, None], wrapped[:, None])
        joined = of_row[:, forward] == of_row + steps
        return jnp.all(joined | (forward == none)[None])

    # Loops, of which one turn is compiled and not d + 1: this hardly ever runs.
    remainders = jnp.arange(num_remainders, dtype=jnp.int32)
    shared = lax.map(
        same_vertex, (remainders, first_entry.reshape(num_remainders, points))
    )
    joined = lax.map(
        one_step_apart, (neighbours[:, 0], *map(jnp.asarray, codes.step_digits(d)))
    )
    return jnp.all(shared) & jnp.all(joined)
