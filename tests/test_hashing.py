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


group, look_up = jax.jit(hashing.group), jax.jit(hashing.look_up)


def codes_of(kind, count):
    rng = np.random.default_rng(count)
    return {
        "distinct": rng.permutation(count) - count // 2,
        "repeated": rng.integers(-3, count // 4 + 1, count),
        "all_the_same": np.full(count, 7),
        "strided": rng.integers(count, size=count) * 2**40,
        "extreme": rng.choice(np.array([-(2**63), -1, 0, 1, 2**63 - 1]), count),
    }[kind].astype(np.int64)


KINDS = ["distinct", "repeated", "all_the_same", "strided", "extreme"]


@pytest.mark.parametrize("count", [1, 7, 500])
@pytest.mark.parametrize("kind", KINDS)
def test_entries_are_grouped_by_code(kind, count):
    codes = codes_of(kind, count)
    _, first = group(codes)
    number = {}
    for entry, code in enumerate(codes.tolist()):
        number.setdefault(code, entry)
    assert first.dtype == jnp.int32
    np.testing.assert_array_equal(first, [number[code] for code in codes.tolist()])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_is_found_and_nothing_else(kind):
    codes = codes_of(kind, 500)
    table, first = group(codes)
    found, exists = look_up(table, codes)
    assert exists.all()
    np.testing.assert_array_equal(found, first)
    others = np.setdiff1d(np.stack([codes - 1, codes + 1, codes ^ 2**50]), codes)
    found, exists = look_up(table, others)
    assert not exists.any()
    np.testing.assert_array_equal(found, 0)


def test_codes_of_one_hash_are_told_apart(monkeypatch):
    """Though all try the same slots in the same order."""

    def hash_to_seven(codes):
        return jnp.full(codes.shape, 7, jnp.uint64)

    monkeypatch.setattr(hashing, "_hash", hash_to_seven)
    codes = jnp.asarray(codes_of("repeated", 60))
    table, first = hashing.group(codes)
    np.testing.assert_array_equal(codes[first], codes)
    np.testing.assert_array_equal(first, group(codes)[1])
    wanted = jnp.append(codes, 10**6)
    found, exists = hashing.look_up(table, wanted)
    np.testing.assert_array_equal(exists, jnp.append(jnp.ones(60, bool), False))
    np.testing.assert_array_equal(found[:60], first)


@pytest.mark.parametrize("count", [1, 3, 4, 100, 1000, 4096])
def test_some_slots_stay_free(count):
    """Even if all codes are distinct: a search ends at a free slot."""
    table, _ = group(codes_of("distinct", count))
    size = len(table.slots)
    assert size & (size - 1) == 0
    assert np.sum(np.asarray(table.slots) < count) == count <= 0.8 * size


def test_slots_are_taken_as_by_chance():
    """Of 4096 codes in as many slots a share of 1 / e finds its first one taken."""
    hashes = np.asarray(hashing._hash(jnp.arange(4096, dtype=jnp.int64)))
    first = np.asarray(hashing._slot(hashes, jnp.int32(0), 4096))
    assert abs(len(np.unique(first)) / 4096 - (1 - np.exp(-1))) < 0.02
