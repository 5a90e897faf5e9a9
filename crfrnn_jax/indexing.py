"""Reading and writing at whole arrays of indices, none of which is negative.

Each is one operation. `jnp`'s indexing looks for negative indices first, which takes
time in every loop that reads, and takes several times as long to trace.
"""

import jax
import jax.numpy as jnp
from jax import lax

_IN_BOUNDS = lax.GatherScatterMode.PROMISE_IN_BOUNDS
_DROP = lax.GatherScatterMode.FILL_OR_DROP


def take(array: jax.Array, ids: jax.Array, axis: int = 0) -> jax.Array:
    """What the array holds at the given places of an axis, as `jnp.take` has it.

    All are to be in 0..size - 1; of others the result is some place's or other.
    """
    kept = (*range(axis), *range(axis + ids.ndim, ids.ndim + array.ndim - 1))
    numbers = lax.GatherDimensionNumbers(
        offset_dims=kept, collapsed_slice_dims=(axis,), start_index_map=(axis,)
    )
    sizes = (*array.shape[:axis], 1, *array.shape[axis + 1 :])
    return lax.gather(array, _as_starts(ids), numbers, sizes, mode=_IN_BOUNDS)


def take_each(array: jax.Array, order: jax.Array) -> jax.Array:
    """Each row [rows, entries] in an order of its own, int [rows, entries]."""
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(),
        collapsed_slice_dims=(1,),
        start_index_map=(1,),
        operand_batching_dims=(0,),
        start_indices_batching_dims=(0,),
    )
    return lax.gather(array, _as_starts(order), numbers, (1, 1), mode=_IN_BOUNDS)


def put(array: jax.Array, ids: jax.Array, values: jax.Array) -> jax.Array:
    """The array [places] with values [ids] at the given places.

    Those of places beyond the end are dropped.
    """
    numbers = _scatter_numbers(values)
    return lax.scatter(array, _as_starts(ids), values, numbers, mode=_DROP)


def put_back(array: jax.Array, order: jax.Array) -> jax.Array:
    """Undoes array = take(unsorted, order) of a whole order."""
    nothing = jnp.zeros_like(array)
    return lax.scatter(
        nothing,
        _as_starts(order),
        array,
        _scatter_numbers(array),
        unique_indices=True,
        mode=_IN_BOUNDS,
    )


def add(array: jax.Array, ids: jax.Array, values: jax.Array) -> jax.Array:
    """The array [rows, channels] with values added to the given rows.

    They are [ids, c], of c <= channels, and go to the first c. Those of rows beyond the
    end are dropped.
    """
    numbers = _scatter_numbers(values)
    return lax.scatter_add(array, _as_starts(ids), values, numbers, mode=_DROP)


def _as_starts(ids: jax.Array) -> jax.Array:
    """Indices of one axis, each in a vector of its own."""
    return lax.expand_dims(ids, (ids.ndim,))


def _scatter_numbers(values: jax.Array) -> lax.ScatterDimensionNumbers:
    """For values [ids, ...] to write at indices of the first axis."""
    return lax.ScatterDimensionNumbers(
        update_window_dims=tuple(range(1, values.ndim)),
        inserted_window_dims=(0,),
        scatter_dims_to_operand_dims=(0,),
    )
