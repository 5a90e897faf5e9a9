"""Searching is NumPy's, in each part of an array."""

import jax
import numpy as np
import pytest

from crfrnn_jax.searching import last_at_most

search = jax.jit(last_at_most)
RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True, scope="module")
def _wide_integers(strict_promotion):
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("dtype", [np.int32, np.uint64, np.float32])
@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 1000])
def test_a_whole_array_is_numpys_search(size, dtype):
    """Some of it twice, and what is wanted below, in and above it.

    Of 64 bits on both sides of where a sign would change.
    """
    least = 2**63 - size // 2 if dtype == np.uint64 else 3
    array = least + np.sort(RNG.integers(size, size=size)).astype(dtype)
    wanted = least - 3 + np.arange(size + 6).astype(dtype)[:, None]
    assert array.dtype == wanted.dtype == dtype
    found = search(array, wanted, 0, size)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.searchsorted(array, wanted, "right") - 1)


def test_each_part_is_searched_by_itself():
    sizes = np.array([1, 5, 0, 16, 2, 33], np.int32)
    ends = np.cumsum(sizes, dtype=np.int32)
    starts = ends - sizes
    array = np.concatenate([np.sort(RNG.integers(0, 40, size)) for size in sizes])
    part = RNG.integers(len(sizes), size=(3, 50))
    wanted = RNG.integers(-1, 41, (3, 50)).astype(array.dtype)
    found = search(array, wanted, starts[part], ends[part])
    for i, value, start, end in np.nditer([found, wanted, starts[part], ends[part]]):
        within = np.searchsorted(array[start:end], value, "right")
        assert i == start + within - 1


def test_of_none_nothing_is_found():
    found = search(np.arange(5), np.array([-1, 2, 9]), 3, 3)
    np.testing.assert_array_equal(found, 2)


def test_parts_may_be_batched():
    array, wanted = np.arange(100), np.arange(4)[:, None] * np.arange(3)
    low = np.array([0, 1, 2, 50], np.int32)
    found = jax.vmap(search, (None, 0, 0, None))(array, wanted, low, 60)
    np.testing.assert_array_equal(found, np.maximum(wanted, low[:, None] - 1))
