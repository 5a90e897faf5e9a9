"""Arrays that are computed once, before they are read."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def in_memory(function: Callable[..., Any], *arguments: Any) -> Any:
    """function(*arguments), arrays that are in memory before anything reads them.

    XLA would fuse them into what reads them, and compute them anew for each index that
    is read. So its CPU backend does even behind a barrier, but not through a condition;
    this one always holds, but XLA does not know.

    Args:
      function: returns a pytree of arrays.
      *arguments: pytrees of arrays.
    """
    function = jax.jit(function)  # traced once for both platforms

    def on_cpu(*arguments):
        # Were it an argument that the other branch returns, XLA would copy the result.
        def never(*arguments):
            shapes = jax.eval_shape(function, *arguments)
            return jax.tree.map(lambda of: jnp.zeros(of.shape, of.dtype), shapes)

        always = lax.optimization_barrier(jnp.bool_(True))
        return lax.cond(always, function, never, *arguments)

    def on_others(*arguments):
        return lax.optimization_barrier(function(*arguments))

    return lax.platform_dependent(*arguments, cpu=on_cpu, default=on_others)
