"""The permutohedral lattice of a set of points, built once and filtered on often."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from crfrnn_jax import codes, hashing
from crfrnn_jax.checks import InputError, check_at_least, check_floating, check_shape
from crfrnn_jax.simplex import embed

# The rows of a lattice come in at most this many blocks, and only the blocks in use are
# computed on: the cost of a blur follows the vertices in use, not the room for them.
_MAX_BLOCKS = 64
_LEAST_BLOCK = 256


class Lattice(NamedTuple):
    """Which vertices each point touches, how much, and how vertices lie together.

    Made by `build_lattice`. A pytree of arrays, whose shapes depend on the number of
    points, d and the capacity alone. Vertices in use are numbered 0..num_vertices - 1;
    there are `rows` = blocks * block places for them, of which the last never holds
    one.

    Attributes:
      barycentric: float [d + 1, points], each point's weights, at least 0 but for
        rounding, with sum 1. NaN where the point's features are not finite, and
        everywhere if the lattice overflowed. The one field that carries derivatives.
      vertex_ids: int32 [d + 1, points], the vertex each weight belongs to, in
        range whatever the features.
      neighbours: int32 [d + 1 (axes), 2 (forwards, backwards), blocks, block], for each
        row the vertex one step along the axis, or rows - 1 where none is in use.
      num_vertices: int32 scalar, the number of vertices the points touch. More than the
        capacity means that the lattice overflowed and filters to NaN.
      overflowed: bool scalar, whether there were more vertices than the capacity that
        the caller gave, or, of features that span over 2^62 cells of the lattice, two
        of them could not be told apart (once in millions of such lattices).
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
    touch, points * (d + 1), and later cost follows the number that they do touch.

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
            "features to span under 2**62 cells"
        )
    return lattice


@partial(jax.jit, static_argnames="capacity")
def _build(features: jax.Array, capacity: int) -> Lattice:
    with jax.enable_x64(True):
        simplex = embed(features.T)
        digits = codes.digits_of(simplex)
        order, sorted_codes = _sort(codes.encode(simplex, digits), digits.num_codes)
        vertex_ids, table = _number(order, sorted_codes, capacity)
        neighbours = _find_neighbours(table, digits.places)
        found_right = lax.cond(
            digits.exact,
            lambda *_: jnp.bool_(True),
            _is_free_of_collisions,
            simplex,
            vertex_ids,
            table,
            neighbours,
        )
        num_vertices = table.starts[-1]
        overflowed = ~found_right | (num_vertices > capacity)
    barycentric = jnp.where(overflowed, jnp.nan, simplex.weights)
    num_blocks = len(table.codes) // table.block
    neighbours = neighbours.reshape(*neighbours.shape[:2], num_blocks, table.block)
    return Lattice(barycentric, vertex_ids, neighbours, num_vertices, overflowed)


class _Table(NamedTuple):
    """The vertices, by remainder and code; `block` divides the rows.

    Attributes:
      codes: int64 [rows].
      entries: int32 [rows], remainder * points + point of a point that touches it.
      starts: int32 [d + 2], the first vertex of each remainder, and their number.
      block: rows in a block.
    """

    codes: jax.Array
    entries: jax.Array
    starts: jax.Array
    block: int


def _sort(code: jax.Array, num_codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Points in the order of their codes, and those: [d + 1 (remainders), points]."""
    point_bits = code.shape[1].bit_length()
    point = jnp.broadcast_to(jnp.arange(code.shape[1], dtype=jnp.int32), code.shape)

    # One word that holds a code and its point sorts five times faster than a code with
    # a payload. It almost always fits.
    def sort_packed(code):
        keys = lax.sort(code << point_bits | point.astype(jnp.int64), is_stable=False)
        return (keys & (2**point_bits - 1)).astype(jnp.int32), keys >> point_bits

    def sort_pairs(code):
        return lax.sort((code, point), num_keys=1)[::-1]

    fits = num_codes < 2.0 ** (63 - point_bits)
    return lax.cond(fits, sort_packed, sort_pairs, code)


def _number(order, sorted_codes, capacity) -> tuple[jax.Array, _Table]:
    """Numbers the distinct codes of each remainder, one remainder after another.

    Returns:
      vertex_ids, as in `Lattice`, and the table of the vertices.
    """
    num_remainders, points = order.shape
    block = max(_LEAST_BLOCK, -(-(capacity + 1) // _MAX_BLOCKS))
    rows = -(-(capacity + 1) // block) * block

    differs = sorted_codes[:, 1:] != sorted_codes[:, :-1]
    is_first = jnp.pad(differs, ((0, 0), (1, 0)), constant_values=True).reshape(-1)
    vertex = jnp.cumsum(is_first, dtype=jnp.int32) - 1
    starts = jnp.append(vertex[::points], vertex[-1] + 1)

    remainder = jnp.arange(num_remainders, dtype=jnp.int32)[:, None]
    entry = (remainder * points + order).reshape(-1)
    vertex_ids = jnp.zeros_like(entry)
    vertex_ids = vertex_ids.at[entry].set(
        jnp.minimum(vertex, rows - 1), unique_indices=True
    )

    first = jnp.where(is_first, vertex, rows)
    row_codes = jnp.zeros(rows, jnp.int64)
    row_codes = row_codes.at[first].set(sorted_codes.reshape(-1), mode="drop")
    entries = jnp.zeros(rows, jnp.int32).at[first].set(entry, mode="drop")
    return vertex_ids.reshape(order.shape), _Table(row_codes, entries, starts, block)


def _find_neighbours(table: _Table, places: jax.Array) -> jax.Array:
    """Forward and backward neighbours, int32 [d + 1, 2, rows]; rows - 1 for none."""
    rows, block, starts = len(table.codes), table.block, table.starts
    num_axes = len(starts) - 1
    none = rows - 1
    num_vertices = jnp.minimum(starts[-1], none)
    blocks_in_use = -(-num_vertices // jnp.int32(block))
    inside, wrapped = codes.axis_steps(places)  # [axes]
    axis = jnp.arange(num_axes, dtype=jnp.int32)[:, None]

    def of_block(i):
        row = i * block + jnp.arange(block, dtype=jnp.int32)
        code = lax.dynamic_slice_in_dim(table.codes, i * block, block)
        return row, code, _remainder_of(row, starts)

    def insert_block(i, slots):
        row, code, remainder = of_block(i)
        hashes = hashing.hash_vertex(code, remainder)
        return hashing.insert(slots, hashes, row, row < num_vertices)

    slots = lax.fori_loop(
        jnp.int32(0), blocks_in_use, insert_block, hashing.empty_table(rows)
    )

    def find_in_block(i, neighbours):
        row, code, remainder = of_block(i)
        steps = jnp.where((remainder > 0)[None], inside[:, None], wrapped[:, None])
        wanted = code[None] + steps
        # A step lowers the remainder by one, from 0 to d.
        target = ((remainder - 1) % num_axes)[None]
        first, end = starts[target], starts[target + 1]

        def is_it(number):
            same_code = table.codes.at[number].get(mode="promise_in_bounds") == wanted
            return same_code & (number >= first) & (number < end) & (number != none)

        forward = hashing.look_up(
            slots, hashing.hash_vertex(wanted, target), is_it, none
        )
        forward = jnp.where((row < num_vertices)[None], forward, none)
        neighbours = lax.dynamic_update_slice_in_dim(
            neighbours, forward[:, None], i * block, axis=2
        )
        # A step back is the inverse of a step forward.
        target = jnp.where(forward == none, rows, forward)
        return neighbours.at[axis, 1, target].set(
            jnp.broadcast_to(row, forward.shape), mode="drop", unique_indices=True
        )

    nowhere = jnp.full((num_axes, 2, rows), none, jnp.int32)
    return lax.fori_loop(jnp.int32(0), blocks_in_use, find_in_block, nowhere)


def _remainder_of(row: jax.Array, starts: jax.Array) -> jax.Array:
    """The remainder of the vertices in the given rows, int32 [rows]."""
    return jnp.sum(row[None] >= starts[1:-1, None], axis=0, dtype=jnp.int32)


def _is_free_of_collisions(simplex, vertex_ids, table, neighbours) -> jax.Array:
    """Whether equal codes were equal vertices, wherever codes were compared.

    Compared are all points that share a vertex with the one that is in the table for
    it, and all vertices with their neighbours.
    """
    d = len(table.starts) - 2
    points = vertex_ids.shape[1]

    def quotients_of(entry):
        at = jax.tree.map(lambda field: field[..., entry % points], simplex)
        return codes.quotients(at, entry // points, d)

    of_row = quotients_of(table.entries)  # [d, rows]
    row = jnp.arange(len(table.codes), dtype=jnp.int32)
    has_remainder = (_remainder_of(row, table.starts) > 0)[None]

    def same_vertex(remainder_and_ids):
        remainder, ids = remainder_and_ids
        return jnp.all(of_row[:, ids] == codes.quotients(simplex, remainder, d))

    def one_step_apart(axis):
        forward, inside, wrapped = axis
        steps = jnp.where(has_remainder, inside[:, None], wrapped[:, None])
        none = forward == len(row) - 1
        return jnp.all((of_row[:, forward] == of_row + steps) | none[None])

    # Loops, of which one turn is compiled and not d + 1: this hardly ever runs.
    shared = lax.map(same_vertex, (jnp.arange(d + 1), vertex_ids))
    joined = lax.map(
        one_step_apart, (neighbours[:, 0], *map(jnp.asarray, codes.step_digits(d)))
    )
    return jnp.all(shared) & jnp.all(joined)
