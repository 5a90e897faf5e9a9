"""The filter and its derivatives, in the least room that holds the vertices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from crfrnn_jax.lattice import Lattice, with_weights
from crfrnn_jax.rooms import with_room
from crfrnn_jax.splat_blur_slice import (
    blur,
    in_splat_order,
    mix_vertices,
    slice_gain,
    slice_vertices,
    splat,
    take_values,
)

# Work on so few channels, as a normaliser's one, has a choice of fewer rooms.
_NARROW = 2


def splat_blur_and_slice(
    lattice: Lattice,
    values: jax.Array,
    mixing: jax.Array | None = None,
    divisor: jax.Array | None = None,
    minuend: jax.Array | None = None,
    *,
    reverse: bool = False,
) -> jax.Array:
    """The filter, or in reverse its transpose; the arguments as `filter_lattice`'s."""

    def in_room(rows, lattice, in_order, mixing, divisor, minuend):
        vertices = splat(lattice, rows, in_order)
        channels = in_order.shape[1]
        if mixing is not None:
            vertices = mix_vertices(vertices, mixing)
            channels = len(mixing)
        vertices = blur(lattice, vertices, reverse=reverse)
        filtered = slice_vertices(lattice, vertices, channels)
        # Here they are computed with the slice, which is stored but once.
        return divide_and_subtract(filtered, divisor, minuend)

    in_order = in_splat_order(lattice, values)
    return _in_least_room(in_room, lattice, in_order, mixing, divisor, minuend)


def divide_and_subtract(
    filtered: jax.Array, divisor: jax.Array | None, minuend: jax.Array | None
) -> jax.Array:
    """The minuend less filtered / divisor, as far as they are given."""
    if divisor is not None:
        filtered = filtered / divisor
    return filtered if minuend is None else minuend - filtered


def tangent(
    lattice: Lattice, values: jax.Array, of_values: jax.Array, of_weights: jax.Array
) -> jax.Array:
    """The filter's derivative along tangents of the values and of the weights."""

    def in_room(rows, lattice, in_order, tangent_in_order, moved):
        vertices = blur(lattice, splat(lattice, rows, in_order))
        by_values = splat(lattice, rows, tangent_in_order)
        of_vertices = blur(lattice, by_values + splat(moved, rows, in_order))
        channels = in_order.shape[1]
        by_weights = slice_vertices(moved, vertices, channels)
        return by_weights + slice_vertices(lattice, of_vertices, channels)

    in_order = in_splat_order(lattice, values)
    tangent_in_order = in_splat_order(lattice, of_values)
    moved = with_weights(lattice, of_weights)
    return _in_least_room(in_room, lattice, in_order, tangent_in_order, moved)


def cotangents(
    lattice: Lattice, values: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The transpose of `tangent`: the cotangents of the values and of the weights."""

    def in_room(rows, lattice, in_order, cotangent_in_order, values, cotangent):
        vertices = blur(lattice, splat(lattice, rows, in_order))
        back = splat(lattice, rows, cotangent_in_order)
        back = blur(lattice, back, reverse=True)
        channels = values.shape[1]

        def of_weight(ids):
            sliced = take_values(vertices, ids, channels)
            back_sliced = take_values(back, ids, channels)
            return jnp.sum(cotangent * sliced + values * back_sliced, axis=1)

        of_weights = jnp.stack([of_weight(ids) for ids in lattice.vertex_ids])
        of_values = slice_vertices(lattice, back, channels)
        return of_values, slice_gain(lattice) * of_weights

    in_order = in_splat_order(lattice, values)
    cotangent_in_order = in_splat_order(lattice, cotangent)
    return _in_least_room(
        in_room, lattice, in_order, cotangent_in_order, values, cotangent
    )


def _in_least_room(
    function: Callable[..., Any],
    lattice: Lattice,
    in_order: jax.Array,
    *arguments: jax.Array | Lattice | None,
) -> Any:
    """Calls function(rows, lattice, in_order, *arguments) with rows for all vertices.

    Args:
      function: as `with_room` has it.
      lattice: the lattice.
      in_order: values, whose channels say how wide the work is.
      *arguments: more of them.
    """
    rows = lattice.neighbours.shape[2]
    return with_room(
        function,
        rows,
        lattice.num_vertices,
        lattice,
        in_order,
        *arguments,
        narrow=in_order.shape[1] <= _NARROW,
        is_grid=lattice.entries.order is None,
    )
