"""Sorting with places is NumPy's stable argsort of each row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crfrnn_jax import sorting


@pytest.fixture(autouse=True, scope="module")
def _wide_integers(strict_promotion):
    with jax.enable_x64(True):
        yield


sort_with_places = jax.jit(sorting.sort_with_places)


def codes_of(kind, rows, entries):
    rng = np.random.default_rng(entries)
    codes = rng.integers(0, 2**63, (rows, entries), dtype=np.uint64)
    return {
        "short": codes % np.uint64(entries // 2 + 1),
        "equal": np.full_like(codes, 7),
        "one_long": np.where(codes == codes[-1, 0], codes, codes % np.uint64(5)),
        "long": codes,
        "equal_below": codes >> np.uint64(40) << np.uint64(40),
        "with_the_highest_bit": codes * np.uint64(2) + np.uint64(1),
    }[kind]


@pytest.mark.parametrize(
    ("rows", "entries"), [(1, 1), (2, 5), (3, 100), (5, 33), (6, 257)]
)
@pytest.mark.parametrize(
    "kind",
    ["short", "equal", "one_long", "long", "equal_below", "with_the_highest_bit"],
)
def test_rows_are_sorted_stably(kind, rows, entries):
    codes = codes_of(kind, rows, entries)
    ordered, places = sort_with_places(codes, codes.max())
    truth = np.argsort(codes, axis=1, kind="stable")
    assert ordered.dtype == jnp.uint64
    assert places.dtype == jnp.int32
    np.testing.assert_array_equal(places, truth)
    np.testing.assert_array_equal(ordered, np.take_along_axis(codes, truth, axis=1))


def test_a_bound_may_be_loose():
    codes = codes_of("short", 3, 100)
    ordered, places = sort_with_places(codes, np.uint64(2**64 - 1))
    np.testing.assert_array_equal(ordered, np.sort(codes, axis=1))
    np.testing.assert_array_equal(places, np.argsort(codes, axis=1, kind="stable"))


@pytest.mark.parametrize("bits_too_many", [0, 1])
def test_codes_as_long_as_fit_beside_their_places(bits_too_many):
    """With 100 entries, 7 bits of a word are the place's and 57 are left."""
    top = 2**57 - 1 + bits_too_many
    codes = np.where(np.arange(100) % 3 == 0, top, np.arange(100))[None]
    ordered, places = sort_with_places(codes.astype(np.uint64), np.uint64(top))
    np.testing.assert_array_equal(places, np.argsort(codes, axis=1, kind="stable"))
    np.testing.assert_array_equal(ordered, np.sort(codes, axis=1))
