"""Sorting of codes together with where they came from."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.indexing import take_each

# Rows that are sorted side by side. XLA's CPU backend sorts on one thread, and of many
# sorts that might run at once it may leave most to the same: so as many as the cores of
# the machine that this was measured on, or one more where that leaves no row over.
_ROWS = 2


def sort_with_places(codes: jax.Array, bound: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sorts each row of codes, stably.

    One word sorts five times faster on a CPU than a code with its place beside it. So
    both go into one word; of codes that are too long for that first the low bits, then
    the high ones, as in a radix sort.

    Must be traced in a 64-bit context (`jax.enable_x64`).

    Args:
      codes: uint64 [rows, entries], at most 2^31 in a row.
      bound: uint64 scalar, which none of them is above; the time depends on it.

    Returns:
      The sorted codes, uint64 [rows, entries], and the places they had before, int32.
    """
    place_bits = max(codes.shape[1] - 1, 1).bit_length()
    low_bits = 64 - place_bits

    def by_high_bits(_, places):
        high = take_each(codes >> low_bits, places)
        _, order = _sort_low_bits(high, place_bits)
        places = take_each(places, order)
        return take_each(codes, places), places

    by_low_bits = _sort_low_bits(codes, place_bits)
    is_long = bound >> low_bits > 0
    return lax.cond(is_long, by_high_bits, lambda *short: short, *by_low_bits)


def _sort_low_bits(codes: jax.Array, place_bits: int) -> tuple[jax.Array, jax.Array]:
    """The lowest 64 - place_bits bits, sorted, and their places."""
    rows, entries = codes.shape
    place = jnp.arange(entries, dtype=jnp.uint64)
    one_more = rows % _ROWS > 0 and rows % (_ROWS + 1) == 0
    together = min(_ROWS + one_more, rows)
    put_row = partial(lax.dynamic_update_index_in_dim, axis=0)

    def sort_rows(i, ordered_and_places):
        # The last rows are moved back to end with all: some are sorted again.
        start = jnp.minimum(i * together, rows - together)
        ordered, places = ordered_and_places
        for row in range(together):
            code = lax.dynamic_index_in_dim(codes, start + row, keepdims=False)
            # No two words are the same, and yet a CPU sorts a quarter faster stably.
            words = lax.sort((code << place_bits) | place, is_stable=True)
            ordered = put_row(ordered, words >> place_bits, start + row)
            place_of = (words & np.uint64(2**place_bits - 1)).astype(jnp.int32)
            places = put_row(places, place_of, start + row)
        return ordered, places

    nothing = (jnp.zeros_like(codes), jnp.zeros(codes.shape, jnp.int32))
    # Behind a barrier a single turn stays a loop, in which no row's number is known: so
    # what XLA compiles for one row serves the others. As a wider integer it could not
    # be batched, which is traced outside the context.
    turns = lax.optimization_barrier(jnp.int32(-(-rows // together)))
    return lax.fori_loop(0, turns, sort_rows, nothing)
