"""The least room that holds all vertices is taken, and its edge is where it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import DictLattice

from crfrnn_jax import build_lattice, filter_lattice, rooms

ROWS = 2**15
EDGES = [round(ROWS * part) for part in (1 / 64, 3 / 32, 3 / 8)]


@pytest.mark.parametrize(
    ("num_vertices", "room"),
    [
        (1, EDGES[0]),
        (EDGES[0] - 1, EDGES[0]),
        (EDGES[0], EDGES[1]),
        (EDGES[1] - 1, EDGES[1]),
        (EDGES[1], EDGES[2]),
        (EDGES[2] - 1, EDGES[2]),
        (EDGES[2], ROWS),
        (ROWS + 5, ROWS),  # overflowed
    ],
)
def test_the_room_is_the_least_in_which_the_last_row_is_free(num_vertices, room):
    chosen = rooms.with_room(
        lambda room, one: room * one, ROWS, jnp.int32(num_vertices), jnp.int32(1)
    )
    assert chosen == room


def test_few_rows_are_one_room():
    chosen = rooms.with_room(
        lambda room, one: room * one, ROWS - 1, jnp.int32(1), jnp.int32(1)
    )
    assert chosen == ROWS - 1


@pytest.fixture
def small_rooms(monkeypatch):
    """Rooms for lattices of a few points; nothing compiled before is used."""
    monkeypatch.setattr(rooms, "_LEAST_ROWS", 4)
    jax.clear_caches()
    yield
    jax.clear_caches()


def points_apart(count, points=30):
    """Points [points, 2] of which `count` differ, far apart: 3 vertices each."""
    places = 100.0 * np.arange(count)[:, None] * np.array([1.0, 0.3]) + 0.2
    return places[np.arange(points) % count].astype(np.float32)


def test_lattices_at_the_edges_of_rooms_are_the_dictionarys(small_rooms):
    """With 91 rows the rooms are 1, 9, 34 and 91: counts below, at and above."""
    values = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    batch = np.stack([points_apart(count) for count in (2, 3, 4, 11, 12, 30)])
    counts = [len(DictLattice(features).number) for features in batch]
    assert counts == [6, 9, 12, 33, 36, 90]
    truth = [DictLattice(features).filter(values) for features in batch]

    def filter_points(features):
        return filter_lattice(build_lattice(features), values)

    for features, expected in zip(batch, truth, strict=True):
        np.testing.assert_allclose(filter_points(features), expected, atol=1e-5)
    # Side by side every room is computed, also those too small for an item.
    np.testing.assert_allclose(jax.vmap(filter_points)(batch), truth, atol=1e-5)
