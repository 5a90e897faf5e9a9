"""Loops over as many rows as are in use, of arrays that have room for more."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Rows that are worked on together: few enough to stay in a core's cache.
_CHUNK = 8192


def by_chunks(
    function: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    used: jax.Array,
    rows: int,
    carried: jax.Array,
) -> jax.Array:
    """What a function makes of an array, for one chunk of rows after the other.

    Args:
      function: takes the rows' numbers, int32 [chunk], one after the other, which of
        them came before, bool [chunk], and what it has made so far.
      used: int32 scalar; all rows below it come, and some above may.
      rows: the most that it can be; no row is that or above.
      carried: what it begins with.
    """
    chunk = min(_CHUNK, rows)

    def turn(i, carried):
        # The last rows are moved back to end with all: some come again.
        start = jnp.minimum(i * chunk, rows - chunk)
        row = start + jnp.arange(chunk, dtype=jnp.int32)
        return function(row, row < i * chunk, carried)

    turns = -(-used // np.int32(chunk))
    return lax.fori_loop(0, turns, turn, carried)
