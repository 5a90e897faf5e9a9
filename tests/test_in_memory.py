"""What is in memory is computed as it would be, and XLA keeps it apart."""

import jax
import jax.numpy as jnp
import numpy as np

from crfrnn_jax.in_memory import in_memory

X = np.arange(12.0, dtype=np.float32).reshape(3, 4)


def swap_and_add(of):
    return {"sum": of["a"] + of["b"], "swapped": (of["b"], of["a"])}


def kept_apart(arguments):
    made = in_memory(swap_and_add, arguments)
    return made["sum"] * made["swapped"][0]


def test_trees_go_in_and_come_out():
    made = in_memory(swap_and_add, {"a": X, "b": 2 * X})
    expected = swap_and_add({"a": X, "b": 2 * X})
    jax.tree.map(np.testing.assert_array_equal, made, expected)


def conditions(function, *arguments):
    with jax.default_device(jax.devices("cpu")[0]):
        compiled = jax.jit(function).lower(*arguments).compile()
    return compiled.as_text().count(" conditional(")


def test_it_is_kept_apart_on_a_cpu():
    """Also if all is constant to the compiler, and for a batch."""
    arguments = {"a": X, "b": 2 * X}
    assert conditions(swap_and_add, arguments) == 0
    assert conditions(kept_apart, arguments) == 1
    assert conditions(lambda: kept_apart(jax.tree.map(jnp.asarray, arguments))) == 1
    assert conditions(jax.vmap(kept_apart), arguments) == 1


def test_it_derives_and_batches_as_the_function_does():
    def energy(a):
        return jnp.sum(kept_apart({"a": a, "b": a**2}))

    gradient = jax.vmap(jax.grad(energy))(X)
    np.testing.assert_allclose(gradient, 3 * X**2 + 4 * X**3, rtol=1e-6)
