"""The hash table is a dictionary of codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crfrnn_jax import hashing


@pytest.fixture(autouse=True, scope="module")
def _wide_integers(strict_promotion):
    with jax.enable_x64(True):
        yield


look_up = jax.jit(hashing.look_up)


@jax.jit
def table_of(codes):
    """A table of distinct codes, all of them put in at once."""
    entries = jnp.arange(len(codes), dtype=jnp.int32)
    table = hashing.empty_table(codes, jnp.int32(len(codes)))
    return hashing.insert(table, entries, jnp.ones(len(codes), bool))


def codes_of(kind, count):
    """Distinct codes in no order."""
    rng = np.random.default_rng(count)
    codes = {
        "dense": np.arange(count) - count // 2,
        "strided": np.arange(count) * 2**40,
        "random": rng.integers(-(2**62), 2**62, count),
        "extreme": np.append(np.arange(count - 1) + (2**63 - count), -(2**63)),
    }[kind].astype(np.int64)
    return rng.permutation(codes)


KINDS = ["dense", "strided", "random", "extreme"]


@pytest.mark.parametrize("count", [1, 7, 500])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_is_found_and_nothing_else(kind, count):
    codes = codes_of(kind, count)
    assert len(np.unique(codes)) == count
    table = table_of(codes)
    entry, exists = look_up(table, codes)
    assert exists.all()
    assert entry.dtype == jnp.int32
    np.testing.assert_array_equal(entry, np.arange(count))
    others = np.setdiff1d(np.stack([codes - 1, codes + 1, codes ^ 2**50]), codes)
    entry, exists = look_up(table, others)
    assert not exists.any()
    np.testing.assert_array_equal(entry, 0)


def test_entries_that_are_not_wanted_are_not_put_in():
    codes = codes_of("random", 500)
    entries, wanted = np.arange(500, dtype=np.int32), np.arange(500) % 3 == 0
    empty = hashing.empty_table(jnp.asarray(codes), jnp.int32(wanted.sum()))
    table = hashing.insert(empty, entries, wanted)
    entry, exists = look_up(table, codes)
    np.testing.assert_array_equal(exists, wanted)
    np.testing.assert_array_equal(entry, np.where(wanted, entries, 0))


def test_entries_may_be_put_in_by_parts_and_again():
    codes = codes_of("random", 500)
    table = hashing.empty_table(jnp.asarray(codes), jnp.int32(500))
    for first in (0, 200, 100, 300):
        entries = jnp.arange(first, first + 200, dtype=jnp.int32)
        table = hashing.insert(table, entries, jnp.ones(200, bool))
    entry, exists = look_up(table, codes)
    assert exists.all()
    np.testing.assert_array_equal(entry, np.arange(500))
    assert np.sum(np.asarray(table.slots) < 500) == 500


def test_codes_of_one_hash_are_told_apart(monkeypatch):
    """Though all try the same slots in the same order."""

    def hash_to_seven(codes):
        return jnp.full(codes.shape, 7, jnp.uint64)

    monkeypatch.setattr(hashing, "_hash", hash_to_seven)
    codes = jnp.asarray(codes_of("random", 60))
    entries = jnp.arange(60, dtype=jnp.int32)
    empty = hashing.empty_table(codes, jnp.int32(60))
    table = hashing.insert(empty, entries, jnp.ones(60, bool))
    entry, exists = hashing.look_up(table, jnp.append(codes, 10**6))
    np.testing.assert_array_equal(exists, jnp.append(jnp.ones(60, bool), False))
    np.testing.assert_array_equal(entry[:60], entries)


@pytest.mark.parametrize("count", [1, 3, 4, 95, 96, 1000, 3071, 3072])
def test_a_quarter_of_the_slots_stays_free(count):
    """A search ends at a free slot, and sooner the more of them there are."""
    table = table_of(codes_of("dense", count))
    size = int(table.mask) + 1
    assert size & (size - 1) == 0
    assert size <= len(table.slots)
    assert np.sum(np.asarray(table.slots) < count) == count <= 0.75 * size
    _, exists = look_up(table, jnp.arange(10**6, 10**6 + 5000))
    assert not exists.any()


@pytest.mark.parametrize("num_entries", [0, 1, 5, 2**29, 2**30 - 1])
def test_slots_in_use_are_there_whatever_the_number_of_entries(num_entries):
    """An overflowed lattice has more vertices than there are codes."""
    table = hashing.empty_table(jnp.arange(4), jnp.int32(num_entries))
    assert len(table.slots) == 8
    assert table.mask == 7


def test_few_entries_use_few_slots():
    """The others stay untouched, out of cache."""
    codes = jnp.asarray(codes_of("random", 4096))
    entries = jnp.arange(10, dtype=jnp.int32)
    empty = hashing.empty_table(codes, jnp.int32(10))
    table = hashing.insert(empty, entries, jnp.ones(10, bool))
    used = np.flatnonzero(np.asarray(table.slots) < 4096)
    mask = int(table.mask)
    assert used.max() <= mask < 80
    entry, exists = look_up(table, codes)
    np.testing.assert_array_equal(np.flatnonzero(exists), entries)
    np.testing.assert_array_equal(entry[:10], entries)


def test_slots_are_taken_as_by_chance():
    """Of 4096 codes in as many slots a share of 1 / e finds its first one taken."""
    hashes = np.asarray(hashing._hash(jnp.arange(4096, dtype=jnp.int64)))
    first = np.asarray(hashing._slot(hashes, jnp.int32(0), jnp.uint32(4095)))
    assert abs(len(np.unique(first)) / 4096 - (1 - np.exp(-1))) < 0.02
