"""The hash table is a dictionary of vertices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crfrnn_jax import hashing

MISSING = 999


@pytest.fixture(autouse=True, scope="module")
def _wide_integers(strict_promotion):
    with jax.enable_x64(True):
        yield


def vertices(count, seed=0):
    """Codes that follow one another, as those of a lattice do, and remainders."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(4 * count, size=count, replace=False).astype(np.int64)
    return codes - count, rng.integers(6, size=count).astype(np.int32)


@jax.jit
def fill(table, codes, remainders, numbers, wanted):
    hashes = hashing.hash_vertex(codes, remainders)
    return hashing.insert(table, hashes, numbers, wanted)


@jax.jit
def find(table, codes, remainders, all_codes, all_remainders):
    def is_it(number):
        at = jnp.minimum(number, len(all_codes) - 1)
        same = (all_codes[at] == codes) & (all_remainders[at] == remainders)
        return same & (number != MISSING)

    hashes = hashing.hash_vertex(codes, remainders)
    return hashing.look_up(table, hashes, is_it, MISSING)


@pytest.mark.parametrize("count", [1, 7, 300])
@pytest.mark.parametrize("capacity", [1, 2, 10])  # times the count
def test_what_was_put_in_is_found_and_nothing_else(count, capacity):
    codes, remainders = vertices(count)
    numbers = np.arange(count, dtype=np.int32)
    there = numbers % 3 != 1
    table = hashing.empty_table(capacity * count)
    # In two parts, the second of which finds slots taken by the first.
    for part in (numbers < count // 2, numbers >= count // 2):
        table = fill(table, codes, remainders, numbers, part & there)
    found = find(table, codes, remainders, codes, remainders)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, np.where(there, numbers, MISSING))
    # The same codes with other remainders are other vertices.
    others = find(table, codes, remainders + 1, codes, remainders)
    np.testing.assert_array_equal(others, MISSING)


def test_vertices_of_one_hash_are_told_apart(monkeypatch):
    """Though all try the same slots in the same order."""

    def hash_to_seven(code, _):
        return jnp.full(code.shape, 7, jnp.uint64)

    monkeypatch.setattr(hashing, "hash_vertex", hash_to_seven)
    codes, remainders = (jnp.asarray(x) for x in vertices(20))
    numbers = np.arange(20, dtype=np.int32)
    table = hashing.empty_table(20)
    table = fill.__wrapped__(table, codes, remainders, numbers, numbers >= 0)
    found = find.__wrapped__(table, codes, remainders, codes, remainders)
    np.testing.assert_array_equal(found, numbers)
    np.testing.assert_array_equal(np.sort(table)[:20], numbers)


def test_a_full_capacity_leaves_slots_free():
    for capacity in (1, 3, 4, 100, 1000, 4096):
        slots = len(hashing.empty_table(capacity))
        assert slots & (slots - 1) == 0
        assert 0.8 * slots >= capacity


def test_the_order_of_the_entries_does_not_matter():
    """Of several at one free slot the lowest number gets it."""
    codes, remainders = vertices(100)
    numbers = np.arange(100, dtype=np.int32)
    order = np.random.default_rng(1).permutation(100)
    tables = [
        fill(hashing.empty_table(100), codes[o], remainders[o], o, o >= 0)
        for o in (numbers, order.astype(np.int32))
    ]
    np.testing.assert_array_equal(*tables)


def test_slots_are_taken_evenly():
    """As by chance: of 4096 in as many slots a share of 1 / e finds its first taken."""
    codes, remainders = np.arange(4096), np.zeros(4096, np.int32)
    hashes = np.asarray(hashing.hash_vertex(codes, remainders))
    first = (hashes >> np.uint64(32)) % np.uint64(4096)
    assert abs(len(np.unique(first)) / 4096 - (1 - np.exp(-1))) < 0.02
