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
from crfrnn_jax.simplex import Simplex, embed
from crfrnn_jax.sorting import sort_with_places

# Entries that are summed up at once when values are splatted. Fewer make more pieces,
# whose sums are added one after another; more make more of a piece that is not filled.
PIECE = 8

# Rows whose neighbours are looked up together.
_CHUNK = 8192


class Entries(NamedTuple):
    """Points' shares in vertices, in the order of the vertices.

    Of each remainder a point has one share, and vertices are numbered by remainder: so
    the first axis is the remainder, and read as one sequence the entries are those of
    vertex 0, then those of vertex 1, and so on.

    Attributes:
      points: int32 [d + 1, points], the point of each entry.
      weights: float [d + 1, points], its barycentric weight. Carries no derivative.
      vertex_ids: int32 [d + 1, points], its vertex.
    """

    points: jax.Array
    weights: jax.Array
    vertex_ids: jax.Array


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
      entries: the same weights and vertices, in the order of the vertices.
      piece_starts: int32 [pieces + 1], the entry with which each piece starts, and the
        number of entries for the pieces that there are not. A piece is of one vertex,
        and no longer than `PIECE`.
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
    entries: Entries
    piece_starts: jax.Array
    neighbours: jax.Array
    num_vertices: jax.Array
    overflowed: jax.Array


def build_lattice(
    features: jax.typing.ArrayLike, *, capacity: int | None = None
) -> Lattice:
    """Finds the vertices of the permutohedral lattice around the points.

    No vertex is ever dropped: by default there is room for the most that the points can
    touch, points * (d + 1), and later cost follows the least of four such rooms that
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
        vertices = _number(codes.encode(simplex, digits), capacity)
        neighbours = _find_neighbours(vertices, capacity, digits.places)
        found_right = lax.cond(
            digits.exact,
            lambda *_: jnp.bool_(True),
            _is_free_of_collisions,
            simplex,
            vertices,
            neighbours,
        )
        overflowed = ~found_right | (vertices.num_vertices > capacity)
    # Added, not selected: the derivative by the features is to be NaN, too.
    nan_if_overflowed = jnp.where(overflowed, jnp.nan, 0.0)
    barycentric = simplex.weights + nan_if_overflowed.astype(simplex.weights.dtype)
    return Lattice(
        barycentric,
        _unsort(vertices),
        Entries(
            vertices.points,
            _sort_weights(barycentric, vertices.points),
            vertices.rows,
        ),
        _cut_in_pieces(vertices.is_first, capacity),
        neighbours,
        vertices.num_vertices,
        overflowed,
    )


def with_weights(lattice: Lattice, barycentric: jax.Array) -> Lattice:
    """The lattice with other weights for the same points and vertices."""
    weights = _sort_weights(barycentric, lattice.entries.points)
    entries = lattice.entries._replace(weights=weights)
    return lattice._replace(barycentric=barycentric, entries=entries)


def _sort_weights(barycentric: jax.Array, points: jax.Array) -> jax.Array:
    """Barycentric weights [d + 1, points] in the order of the entries' points."""
    weights = jnp.take_along_axis(barycentric, points, axis=1, mode="promise_in_bounds")
    return lax.stop_gradient(weights)


class _Vertices(NamedTuple):
    """The entries in the order of their vertices, that of remainder and code.

    An entry is a point's share in one of its vertices. Of each remainder a point has
    one, so the first axis is the remainder and the second the place in the order.

    Attributes:
      points: int32 [d + 1, points], the point of each entry.
      codes: int64 [d + 1, points], the code of each entry's vertex.
      is_first: bool [d + 1, points], whether it is the first entry of its vertex.
      rows: int32 [d + 1, points], the number of its vertex; those beyond the capacity
        share the last.
      num_vertices: int32 scalar.
    """

    points: jax.Array
    codes: jax.Array
    is_first: jax.Array
    rows: jax.Array
    num_vertices: jax.Array


def _number(code: jax.Array, capacity: int) -> _Vertices:
    """Sorts the entries of int64 [d + 1, points] codes, and numbers their vertices.

    In the order of the codes, since a step along an axis adds the same to all of a
    remainder: so a blur reads neighbours nearly as they lie in memory, twice as fast.
    """
    code, points = sort_with_places(code)
    is_first = jnp.pad(
        code[:, 1:] != code[:, :-1], ((0, 0), (1, 0)), constant_values=True
    )
    ordinal = jnp.cumsum(is_first.reshape(-1), dtype=jnp.int32)
    rows = jnp.minimum(ordinal - 1, capacity).reshape(is_first.shape)
    return _Vertices(points, code, is_first, rows, ordinal[-1])


def _unsort(vertices: _Vertices) -> jax.Array:
    """The vertices' numbers in the order of the points: int32 [d + 1, points]."""
    unsorted = [
        jnp.zeros_like(rows)
        .at[points]
        .set(rows, mode="promise_in_bounds", unique_indices=True)
        for points, rows in zip(vertices.points, vertices.rows, strict=True)
    ]
    return jnp.stack(unsorted)


def _cut_in_pieces(is_first: jax.Array, capacity: int) -> jax.Array:
    """Where each piece of the sorted entries begins: int32 [pieces + 1]."""
    entry = jnp.arange(is_first.size, dtype=jnp.int32)
    begins = is_first.reshape(-1) | (entry % PIECE == 0)
    piece = jnp.cumsum(begins, dtype=jnp.int32) - 1
    most = num_pieces(is_first.size, capacity + 1)
    starts = jnp.full(most + 1, is_first.size, jnp.int32)
    return starts.at[jnp.where(begins, piece, most + 1)].set(entry, mode="drop")


def num_pieces(entries: int, rows: int) -> int:
    """The most pieces that entries of fewer vertices than `rows` are cut into."""
    return -(-entries // PIECE) + rows


def _find_neighbours(
    vertices: _Vertices, capacity: int, places: jax.Array
) -> jax.Array:
    """Forward and backward neighbours, int32 [d + 1, 2, rows]; rows - 1 for none."""
    inside, wrapped = codes.axis_steps(places)  # [axes]
    rows, num_axes = capacity + 1, len(inside)
    none = rows - 1
    first = _first_entries(rows, vertices)
    axis = jnp.arange(num_axes, dtype=jnp.int32)[:, None]
    chunk = min(_CHUNK, rows)

    def of_chunk(i):
        """Numbers of rows, and which are in use."""
        # The last rows are moved back to end with all: some come again.
        start = jnp.minimum(i * chunk, rows - chunk)
        row = start + jnp.arange(chunk, dtype=jnp.int32)
        return row, row < vertices.num_vertices

    def insert(i, table):
        return hashing.insert(table, *of_chunk(i))

    def find(i, neighbours):
        row, in_use = of_chunk(i)
        has_remainder = (first[row] >= vertices.codes.shape[1])[None]
        steps = jnp.where(has_remainder, inside[:, None], wrapped[:, None])
        forward, exists = hashing.look_up(table, table.codes[row][None] + steps)
        forward = jnp.where(exists & in_use[None], forward, none)
        neighbours = lax.dynamic_update_slice(
            neighbours, forward[:, None], (jnp.int32(0), jnp.int32(0), row[0])
        )
        # A step back is the inverse of a step forward.
        return neighbours.at[axis, 1, jnp.where(forward == none, rows, forward)].set(
            jnp.broadcast_to(row, forward.shape), mode="drop"
        )

    # As many turns as the vertices in use ask for.
    turns = -(-jnp.minimum(vertices.num_vertices, rows) // np.int32(chunk))
    table = hashing.empty_table(vertices.codes.reshape(-1)[first])
    table = lax.fori_loop(0, turns, insert, table)
    nothing = jnp.full((num_axes, 2, rows), none, jnp.int32)
    return lax.fori_loop(0, turns, find, nothing)


def _first_entries(rows: int, vertices: _Vertices) -> jax.Array:
    """The first entry of each vertex, int32 [rows]; 0 where there is none."""
    entry = jnp.arange(vertices.rows.size, dtype=jnp.int32)
    is_first, row = vertices.is_first.reshape(-1), vertices.rows.reshape(-1)
    first = jnp.zeros(rows, jnp.int32)
    return first.at[jnp.where(is_first, row, rows)].set(entry, mode="drop")


def _is_free_of_collisions(
    simplex: Simplex, vertices: _Vertices, neighbours: jax.Array
) -> jax.Array:
    """Whether equal codes were equal vertices, wherever codes were compared.

    Compared are all entries with the one before of the same code, and all vertices with
    their neighbours: the quotients, as where they and the codes agree the remainders do
    too.
    """
    num_remainders, points = simplex.rank.shape
    d = num_remainders - 1

    def quotients_at(point, remainder):
        at = jax.tree.map(lambda field: field[..., point], simplex)
        return codes.quotients(at, remainder, d)

    def same_vertex(of_remainder):
        remainder, point, is_first = of_remainder
        own = quotients_at(point, remainder)
        return jnp.all((own == jnp.roll(own, 1, axis=1)) | is_first[None])

    first = _first_entries(neighbours.shape[2], vertices)
    of_row = quotients_at(vertices.points.reshape(-1)[first], first // points)
    has_remainder = (first >= points)[None]
    none = of_row.shape[1] - 1

    def one_step_apart(axis):
        forward, inside, wrapped = axis
        steps = jnp.where(has_remainder, inside[:, None], wrapped[:, None])
        joined = of_row[:, forward] == of_row + steps
        return jnp.all(joined | (forward == none)[None])

    # Loops, of which one turn is compiled and not d + 1: this hardly ever runs.
    remainders = jnp.arange(num_remainders, dtype=jnp.int32)
    shared = lax.map(same_vertex, (remainders, vertices.points, vertices.is_first))
    joined = lax.map(
        one_step_apart, (neighbours[:, 0], *map(jnp.asarray, codes.step_digits(d)))
    )
    return jnp.all(shared) & jnp.all(joined)
