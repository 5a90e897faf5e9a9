"""Reading and writing at indices, beside NumPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crfrnn_jax.indexing import add, put, put_back, take, take_each

RNG = np.random.default_rng(0)
ARRAY = RNG.normal(size=(7, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("shape", [(), (4,), (2, 9)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_take_is_numpys(axis, shape):
    ids = RNG.integers(ARRAY.shape[axis], size=shape)
    taken = take(jnp.asarray(ARRAY), jnp.asarray(ids), axis)
    np.testing.assert_array_equal(taken, np.take(ARRAY, ids, axis))


def test_take_of_a_batch_is_a_loop():
    ids = RNG.integers(5, size=(7, 4))
    taken = jax.vmap(take)(jnp.asarray(ARRAY), jnp.asarray(ids))
    for ours, array, places in zip(taken, ARRAY, ids, strict=True):
        np.testing.assert_array_equal(ours, array[places])


def test_take_each_is_numpys():
    rows = ARRAY[..., 0]
    order = RNG.integers(5, size=(7, 6))
    taken = take_each(jnp.asarray(rows), jnp.asarray(order))
    np.testing.assert_array_equal(taken, np.take_along_axis(rows, order, axis=1))


def test_put_writes_at_the_places_and_drops_what_is_beyond():
    array = put(jnp.zeros(5), jnp.array([3, 5, 0, 9]), jnp.array([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_array_equal(array, [3, 0, 0, 1, 0])


def test_put_back_undoes_a_take():
    order = RNG.permutation(20)
    array = jnp.arange(20) ** 2
    restored = put_back(take(array, jnp.asarray(order)), jnp.asarray(order))
    np.testing.assert_array_equal(restored, array)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_add_adds_up_what_meets_and_drops_what_is_beyond(channels):
    array = RNG.normal(size=(5, 4)).astype(np.float32)
    values = RNG.normal(size=(6, channels)).astype(np.float32)
    ids = np.array([2, 0, 2, 5, 2, 7])
    expected = array.copy()
    inside = ids < 5
    np.add.at(expected[:, :channels], ids[inside], values[inside])
    added = add(jnp.asarray(array), jnp.asarray(ids), jnp.asarray(values))
    np.testing.assert_allclose(added, expected, rtol=1e-6)
