"""The permutohedral lattice of a set of points, built once and filtered on often."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from crfrnn_jax import codes
from crfrnn_jax.checks import (
    InputError,
    check_at_least,
    check_floating,
    check_shape,
    shown,
)
from crfrnn_jax.entries import (
    Entries,
    Pieces,
    cut_in_pieces,
    slots,
    sort_entries,
    splat_order,
    unsort,
)
from crfrnn_jax.in_memory import in_memory
from crfrnn_jax.indexing import take, take_each
from crfrnn_jax.neighbours import find_neighbours, is_free_of_collisions
from crfrnn_jax.simplex import base_range, embed


class Lattice(NamedTuple):
    """Which vertices each point touches, how much, and how vertices lie together.

    Made by `build_lattice`. A pytree of arrays, whose shapes depend on the number of
    points, d and the capacity alone; a grid's lacks one. Vertices in use are numbered
    0..num_vertices - 1; there are `rows` places for them, of which the last holds none
    unless it overflowed.

    Attributes:
      barycentric: float [d + 1, points], each point's weights, at least 0 but for
        rounding, with sum 1. NaN where the point's features are not finite, or nearly
        2^52 steps from the origin, and everywhere if the lattice overflowed. The one
        field that carries derivatives.
      vertex_ids: int32 [d + 1, points], the vertex each weight belongs to, in
        range whatever the features.
      entries: the same vertices, and weights as a splat takes them, in the order of the
        vertices.
      pieces: which entries a splat sums up at once.
      neighbours: int32 [d + 1 (axes), 2 (forwards, backwards), rows], for each row the
        vertex one step along the axis, or rows - 1 where none is in use.
      num_vertices: int32 scalar, the number of vertices the points touch. More than the
        capacity means that the lattice overflowed and filters to NaN.
      overflowed: bool scalar, whether there were more vertices than the capacity that
        the caller gave, or, of features that span over 2^62 vertices of the lattice,
        two of them could not be told apart (once in millions of such lattices).

    Examples:
      >>> lattice = build_lattice(np.zeros((4, 2), np.float32))
      >>> lattice.barycentric.shape, bool(lattice.overflowed)
      ((3, 4), False)
    """

    barycentric: jax.Array
    vertex_ids: jax.Array
    entries: Entries
    pieces: Pieces
    neighbours: jax.Array
    num_vertices: jax.Array
    overflowed: jax.Array


def build_lattice(
    features: jax.typing.ArrayLike,
    *,
    capacity: int | None = None,
    is_grid: bool = False,
) -> Lattice:
    """Finds the vertices of the permutohedral lattice around the points.

    No vertex is ever dropped: by default there is room for the most that the points can
    touch, points * (d + 1), and later cost follows the least of a few such rooms that
    holds those they do touch (`crfrnn_jax.rooms`).

    Args:
      features: float [points, d], d >= 1, already divided by the kernel widths. NaN or
        infinite features make NaN of the results they take part in.
      capacity: most vertices to have room for, to save memory where the number is
        known.
      is_grid: whether the features are those of `position_features`, divided by widths:
        the positions of a grid's points. A filter then reads values as they come, not
        from a copy in the order of the vertices. Of other points the results are the
        same, and take longer.

    Returns:
      The lattice. Differentiable with respect to `features` through `barycentric`, with
      the vertices held fixed.

    Raises:
      ValueError: wrong rank, no points, d = 0, not floating, a capacity below 1, or
        `is_grid` neither True nor False.
        Also if the lattice overflows, where that is known: under `jit` it comes with
        `overflowed` set and filters to NaN, never to a wrong number.

    Examples:
      >>> lattice = build_lattice(np.array([[0.3, 0.1]], np.float32))
      >>> int(lattice.num_vertices)
      3
    """
    sizes = check_shape("features", features, "points d")
    check_floating("features", features)
    most = sizes["points"] * (sizes["d"] + 1)
    if most >= 2**30:  # twice as many must have numbers of 32 bits
        raise InputError(
            "features: points * (d + 1) must stay below 2**30, got shape "
            f"[{sizes['points']}, {sizes['d']}]"
        )
    if capacity is not None:
        check_at_least("capacity", capacity, 1)
    if not isinstance(is_grid, bool):
        raise InputError(f"is_grid: expected True or False, got {shown(is_grid)}")
    capacity = most if capacity is None else min(int(capacity), most)
    lattice = _build(jnp.asarray(features), capacity, is_grid)
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


@partial(jax.jit, static_argnames=("capacity", "is_grid"))
def _build(features: jax.Array, capacity: int, is_grid: bool = False) -> Lattice:
    with jax.enable_x64(True):
        digits = codes.digits_of(*base_range(features.T))

        def embed_and_encode(features):
            simplex = embed(features.T)
            return codes.encode(simplex, digits), simplex.weights

        code, weights = in_memory(embed_and_encode, features)
        entries = sort_entries(code, digits.bound, capacity)
        neighbours = find_neighbours(entries, digits.places, capacity)
        found_right = lax.cond(
            digits.exact,
            lambda *_: jnp.bool_(True),
            is_free_of_collisions,
            features,
            entries,
            neighbours,
        )
        overflowed = ~found_right | (entries.num_vertices > capacity)
    # Added, not selected: the derivative by the features is to be NaN, too.
    nan_if_overflowed = jnp.where(overflowed, jnp.nan, 0.0)
    barycentric = weights + nan_if_overflowed.astype(weights.dtype)
    order, places = splat_order(entries.points, is_grid)
    pieces = cut_in_pieces(entries, capacity)
    weights = _weights_by_slot(barycentric, entries.points, entries.vertex_ids, pieces)
    return Lattice(
        barycentric,
        unsort(entries),
        Entries(order, places, weights, entries.vertex_ids),
        pieces,
        neighbours,
        entries.num_vertices,
        overflowed,
    )


def with_weights(lattice: Lattice, barycentric: jax.Array) -> Lattice:
    """The lattice with other weights for the same points and vertices."""
    entries = lattice.entries
    points = entries.places
    if entries.order is not None:
        points = take(entries.order, points)
    weights = _weights_by_slot(barycentric, points, entries.vertex_ids, lattice.pieces)
    entries = entries._replace(weights=weights)
    return lattice._replace(barycentric=barycentric, entries=entries)


def _weights_by_slot(
    barycentric: jax.Array,
    points: jax.Array,
    vertex_ids: jax.Array,
    pieces: Pieces,
) -> jax.Array:
    """`Entries.weights`, of the weights [d + 1, points] and the entries' points."""
    taken = slots(vertex_ids, pieces).astype(barycentric.dtype)
    return lax.stop_gradient(take_each(barycentric, points) / taken)
