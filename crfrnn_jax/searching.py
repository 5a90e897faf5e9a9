"""Binary search in arrays that ascend.

XLA has no search of its own, and `jnp.searchsorted` looks through a whole array, in as
many turns as that asks for.
"""

import jax
import jax.numpy as jnp
from jax import lax

from crfrnn_jax.indexing import take


def last_at_most(
    array: jax.Array,
    wanted: jax.Array,
    low: jax.typing.ArrayLike,
    high: jax.typing.ArrayLike,
) -> jax.Array:
    """The last place of a part of the array that holds no more than what is wanted.

    Args:
      array: [places], that ascends within each part.
      wanted: in its dtype, of any shape.
      low: int32 in a shape that broadcasts to that of `wanted`, where each part starts.
      high: the same, where it ends: the first place after it.

    Returns:
      int32 in the shape of `wanted`; low - 1 if all the part holds more.
    """
    low, high = jnp.asarray(low, jnp.int32), jnp.asarray(high, jnp.int32)
    turns = 32 - lax.clz(jnp.max(high - low))

    def halve(turn, place):
        further = place + (jnp.int32(1) << (turns - 1 - turn))
        # Beyond the part any place will do.
        found = take(array, jnp.minimum(further, len(array) - 1))
        return jnp.where((further < high) & (found <= wanted), further, place)

    return lax.fori_loop(0, turns, halve, jnp.broadcast_to(low - 1, wanted.shape))
