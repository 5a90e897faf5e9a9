"""The least room that holds all vertices is taken, and its edge is where it says."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from oracles import DictLattice

from crfrnn_jax import build_lattice, filter_lattice, rooms

ROWS = 2**15
SIZES = [
    round(ROWS * part) for part in (1 / 64, 3 / 64, 5 / 64, 8 / 64, 13 / 64, 24 / 64, 1)
]
SIZES_OF_GRID = [round(ROWS * part) for part in (3 / 64, 8 / 64, 24 / 64, 1)]
NARROW_SIZES = [round(ROWS * part) for part in (5 / 64, 24 / 64, 1)]
NARROW_SIZES_OF_GRID = [round(ROWS * part) for part in (3 / 64, 1)]


def room_of(num_vertices, **kind):
    return rooms.with_room(
        lambda room, one: room * one,
        ROWS,
        jnp.int32(num_vertices),
        jnp.int32(1),
        **kind,
    )


@pytest.mark.parametrize(
    ("sizes", "kind"),
    [
        (SIZES, {}),
        (SIZES_OF_GRID, {"is_grid": True}),
        (NARROW_SIZES, {"narrow": True}),
        (NARROW_SIZES_OF_GRID, {"narrow": True, "is_grid": True}),
    ],
)
def test_the_room_is_the_least_that_holds_all(sizes, kind):
    assert room_of(1, **kind) == sizes[0]
    for room, larger in itertools.pairwise(sizes):
        assert room_of(room, **kind) == room
        assert room_of(room + 1, **kind) == larger
    overflowed = ROWS + 5
    assert room_of(overflowed, **kind) == ROWS


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


@pytest.mark.parametrize("channels", [2, 3, 17])
def test_lattices_of_all_rooms_are_the_dictionarys(small_rooms, channels):
    """The rooms of 91 rows are 1, 4, 7, 11, 18, 34 and 91; if narrow 9, 34 and 91.

    No lattice has but one vertex; 18 and 9 are just filled.
    """
    values = np.random.default_rng(0).normal(size=(30, channels)).astype(np.float32)
    batch = np.stack([points_apart(count) for count in (1, 2, 3, 5, 6, 11, 12, 30)])
    counts = [len(DictLattice(features).number) for features in batch]
    assert counts == [3, 6, 9, 15, 18, 33, 36, 90]
    truth = [DictLattice(features).filter(values) for features in batch]

    def filter_points(features):
        return filter_lattice(build_lattice(features), values)

    for features, expected in zip(batch, truth, strict=True):
        np.testing.assert_allclose(filter_points(features), expected, atol=1e-5)
    # Side by side every room is computed, also those too small for an item.
    np.testing.assert_allclose(jax.vmap(filter_points)(batch), truth, atol=1e-5)


@pytest.mark.parametrize("mixing", [None, np.eye(3, dtype=np.float32)])
def test_reverse_mode_through_a_loop_keeps_nothing_of_the_rooms(small_rooms, mixing):
    """What follows from the lattice alone would else be taken out of the loop.

    Hundreds of arrays, and not the few that are made of the arguments.
    """
    lattice = build_lattice(points_apart(5))

    def loss(values):
        def turn(current, _):
            return jnp.tanh(filter_lattice(lattice, current, mixing)), None

        last, _ = lax.scan(turn, values, length=2)
        return jnp.sum(last)

    traced = jax.make_jaxpr(jax.grad(loss))(np.ones((30, 3), np.float32))
    equations = traced.jaxpr.eqns
    names = [equation.primitive.name for equation in equations]
    before = equations[: names.index("scan")]
    assert sum(len(equation.outvars) for equation in before) < 10
