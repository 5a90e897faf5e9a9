"""The permutohedral lattice of a set of points, built once and filtered on often."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from crfrnn_jax import codes
from crfrnn_jax.checks import InputError, check_at_least, check_floating, check_shape
from crfrnn_jax.simplex import Simplex, embed

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
      overflowed: bool scalar, whether the vertices did not fit: into the capacity that
        the caller gave, or, if the features span over 2^31 cells, into the integers.
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
        raise InputError("features: expected to span under 2**31 cells of the lattice")
    return lattice


@partial(jax.jit, static_argnames="capacity")
def _build(features: jax.Array, capacity: int) -> Lattice:
    points, d = features.shape
    entry_bits = (points * (d + 1)).bit_length()
    with jax.enable_x64(True):
        simplex = embed(features.T)
        digits = codes.digits_of(simplex)

        # One word that holds a code and the number of its entry sorts five times faster
        # than a code with a payload. Codes almost always fit; if not, wide ones do.
        num_codes = (d + 1) * jnp.prod(digits.extent.astype(jnp.float64))
        fits = num_codes < 2.0 ** (63 - entry_bits)
        vertex_ids, neighbours, num_vertices = lax.cond(
            fits,
            partial(_index_packed, capacity=capacity, entry_bits=entry_bits),
            partial(_index_wide, capacity=capacity),
            simplex,
            digits,
        )
        too_wide = ~fits & jnp.any(digits.extent >= codes.DIGIT_LIMIT)
        overflowed = too_wide | (num_vertices > capacity)
    barycentric = jnp.where(overflowed, jnp.nan, simplex.weights)
    return Lattice(barycentric, vertex_ids, neighbours, num_vertices, overflowed)


def _index_packed(simplex: Simplex, digits, *, capacity: int, entry_bits: int):
    places = codes.packed_places(digits)
    code = codes.encode(simplex, digits, places).reshape(-1)
    entry = jnp.arange(code.size, dtype=jnp.int64)
    keys = lax.sort(code << entry_bits | entry, is_stable=False)
    order = (keys & (2**entry_bits - 1)).astype(jnp.int32)
    return _index(order, (keys >> entry_bits)[None], places, simplex.rank, capacity)


def _index_wide(simplex: Simplex, digits, *, capacity: int):
    places = jnp.asarray(codes.wide_places(simplex.rank.shape[0]))
    code = codes.encode(simplex, digits, places).reshape(len(places), -1)
    entry = jnp.arange(code.shape[1], dtype=jnp.int32)
    *code, order = lax.sort((*code, entry), num_keys=len(places))
    return _index(order, jnp.stack(code), places, simplex.rank, capacity)


def _index(order, sorted_codes, places, rank, capacity):
    """Numbers the distinct codes and finds the neighbours of each.

    Args:
      order: int32 [entries], the entry (remainder * points + point) of each sorted
        code.
      sorted_codes: int64 [words, entries].
      places: int64 [words, d + 1], the place values of the codes.
      rank: [d + 1, points], for its shape.
      capacity: most vertices to have room for.

    Returns:
      vertex_ids, neighbours and num_vertices, as in `Lattice`.
    """
    block = max(_LEAST_BLOCK, -(-(capacity + 1) // _MAX_BLOCKS))
    num_blocks = -(-(capacity + 1) // block)
    rows = num_blocks * block

    differs = jnp.any(sorted_codes[:, 1:] != sorted_codes[:, :-1], axis=0)
    is_first = jnp.concatenate([jnp.ones(1, bool), differs])
    vertex = jnp.cumsum(is_first, dtype=jnp.int32) - 1
    num_vertices = vertex[-1] + 1
    vertex_ids = (
        jnp.zeros_like(order)
        .at[order]
        .set(jnp.minimum(vertex, rows - 1), unique_indices=True)
    )

    # Rows past the last vertex hold a code above all others, to keep them sorted.
    position = jnp.arange(order.size, dtype=jnp.int32)
    first = jnp.zeros(rows, jnp.int32)
    first = first.at[jnp.where(is_first, vertex, rows)].set(position, mode="drop")
    in_use = jnp.arange(rows, dtype=jnp.int32) < jnp.minimum(num_vertices, capacity)
    row_codes = jnp.where(in_use, sorted_codes[:, first], jnp.iinfo(jnp.int64).max)

    neighbours = _find_neighbours(
        row_codes, places, block, jnp.minimum(num_vertices, capacity)
    )
    neighbours = neighbours.reshape(*neighbours.shape[:2], num_blocks, block)
    return vertex_ids.reshape(rank.shape), neighbours, num_vertices


def _find_neighbours(row_codes, places, block, num_vertices):
    """Forward and backward neighbours, int32 [d + 1, 2, rows]; rows - 1 for none."""
    rows = row_codes.shape[1]
    num_axes = places.shape[1]
    inside, wrapped = codes.axis_steps(places)  # [axes, words]
    axis = jnp.arange(num_axes, dtype=jnp.int32)[:, None]

    def find_in_block(i, neighbours):
        start = i * block
        own = lax.dynamic_slice_in_dim(row_codes, start, block, axis=1)
        has_remainder = own[0] >= places[0, 0]
        steps = jnp.where(has_remainder, inside.T[:, :, None], wrapped.T[:, :, None])
        found, exists = codes.find(row_codes, own[:, None] + steps)  # [axes, block]
        row = start + jnp.arange(block, dtype=jnp.int32)
        exists = exists & (row < num_vertices)[None]
        forward, backward = neighbours
        forward = lax.dynamic_update_slice_in_dim(
            forward, jnp.where(exists, found, rows - 1), start, axis=1
        )
        # A step back is the inverse of a step forward.
        backward = backward.at[axis, jnp.where(exists, found, rows)].set(
            jnp.broadcast_to(row, found.shape), mode="drop"
        )
        return forward, backward

    none = jnp.full((num_axes, rows), rows - 1, jnp.int32)
    blocks_in_use = -(-num_vertices // jnp.int32(block))
    forward, backward = lax.fori_loop(
        jnp.int32(0), blocks_in_use, find_in_block, (none, none)
    )
    return jnp.stack([forward, backward], axis=1)
