"""The lattice against a dictionary of vertices: the same vertices, joined the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import DictLattice

from crfrnn_jax import (
    build_lattice,
    filter_lattice,
    neighbours,
    position_features,
)
from crfrnn_jax import lattice as lattice_module
from crfrnn_jax.entries import PIECE
from crfrnn_jax.simplex import elevation_matrix

POINTS = 200


def features_of(kind, d, points=POINTS):
    rng = np.random.default_rng(d)
    normal = rng.normal(size=(points, d))
    features = {
        "spread": 5 * normal,
        "clustered": rng.normal(size=(10, d))[rng.integers(10, size=points)] * 9
        + 0.05 * normal,
        "constant": np.broadcast_to(3.7 * normal[:1], (points, d)),
        "collinear": np.linspace(-20, 20, points)[:, None] * normal[:1],
        "on_the_axes": np.round(normal) * np.eye(d)[rng.integers(d, size=points)],
        "far_1e4": 1e4 + 3 * normal,
        "far_1e6": 1e6 * np.sign(normal[:1]) + 3 * normal,
        "wide": 1e6 * normal,
    }
    return features[kind].astype(np.float32)


KINDS = [
    "spread",
    "clustered",
    "constant",
    "collinear",
    "on_the_axes",
    "far_1e4",
    "far_1e6",
    "wide",
]


def assert_same_lattice(lattice, oracle):
    """Equal but for the numbering of the vertices."""
    num_vertices = len(oracle.number)
    assert int(lattice.num_vertices) == num_vertices
    assert not lattice.overflowed
    ours = np.asarray(lattice.vertex_ids).T
    np.testing.assert_allclose(lattice.barycentric.T, oracle.weights, atol=1e-6)

    theirs = np.full(num_vertices, -1)
    theirs[ours.ravel()] = oracle.ids.ravel()
    np.testing.assert_array_equal(np.sort(theirs), np.arange(num_vertices))
    np.testing.assert_array_equal(theirs[ours], oracle.ids)

    axes = len(oracle.neighbours)
    rows = lattice.neighbours[0, 0].size
    neighbours = np.asarray(lattice.neighbours).reshape(axes, 2, rows)
    none = np.full(rows - num_vertices, -1)
    renumbered = np.concatenate([theirs, none])[neighbours[:, :, :num_vertices]]
    np.testing.assert_array_equal(renumbered, oracle.neighbours[:, :, theirs])
    np.testing.assert_array_equal(neighbours[:, :, num_vertices:], rows - 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_vertices_weights_and_neighbours_are_the_dictionarys(kind, d):
    features = features_of(kind, d)
    assert_same_lattice(build_lattice(features), DictLattice(features))


@pytest.mark.parametrize("kind", ["spread", "clustered", "constant", "wide"])
@pytest.mark.parametrize("d", [1, 3])
def test_entries_are_the_points_by_vertex_and_pieces_cut_them(kind, d):
    lattice = build_lattice(features_of(kind, d))
    order, places, weights, vertices = map(np.asarray, lattice.entries)
    points = order[places]
    np.testing.assert_array_equal(points[0], order)
    np.testing.assert_array_equal(
        np.sort(points, axis=1), [np.arange(POINTS)] * (d + 1)
    )
    assert (np.diff(vertices.ravel()) >= 0).all()
    unsorted = np.take_along_axis(np.asarray(lattice.vertex_ids), points, axis=1)
    np.testing.assert_array_equal(unsorted, vertices)

    entries = vertices.size
    starts, ends = map(np.asarray, lattice.pieces)
    assert starts[-1] == entries
    (numbers,) = np.nonzero(starts < entries)
    assert (starts[starts >= entries] == entries).all()
    assert ends.min() >= 0
    assert ends.max() < entries
    starts, ends = starts[numbers], ends[numbers]
    assert starts[0] == 0
    of_vertex = vertices.ravel()[starts]
    np.testing.assert_array_equal(numbers, starts // PIECE + of_vertex)
    sizes = np.diff(starts, append=entries)
    np.testing.assert_array_equal(ends, starts + sizes - 1)
    assert sizes.min() >= 1
    assert sizes.max() <= PIECE
    np.testing.assert_array_equal(np.repeat(of_vertex, sizes), vertices.ravel())

    # The last entry of a piece takes the slots that the others leave.
    slots = np.ones(entries, np.float32)
    slots[ends] += PIECE - sizes
    barycentric = np.take_along_axis(np.asarray(lattice.barycentric), points, axis=1)
    np.testing.assert_array_equal(weights.ravel(), barycentric.ravel() / slots)


def build_anew(features, capacity=None):
    """Builds a lattice not with what was compiled, whose constants are its own."""
    capacity = capacity or features.size + len(features)
    build = lattice_module._build.__wrapped__
    return jax.jit(lambda features: build(features, capacity))(features)


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("kind", ["spread", "far apart but for two"])
def test_vertices_may_be_worked_on_chunk_by_chunk(monkeypatch, kind, chunk):
    """Of the last chunk some may come again; with two alike, what they read moved."""
    monkeypatch.setattr(neighbours, "_CHUNK", chunk)
    features = features_of("spread", 2, points=47)
    if kind != "spread":
        features *= 600
        features[1] = features[0]
    oracle = DictLattice(features)
    assert_same_lattice(build_anew(features), oracle)
    assert_same_lattice(build_anew(features, len(oracle.number)), oracle)


def test_derivatives_of_the_weights_batch_as_a_loop():
    features = np.stack([features_of("spread", 3), features_of("clustered", 3)])
    directions = np.random.default_rng(3).normal(size=features.shape)

    def derive(features, direction):
        def weights_of(features):
            return build_lattice(features).barycentric

        weights, tangent = jax.jvp(weights_of, (features,), (direction,))
        _, transpose = jax.vjp(weights_of, features)
        return weights, tangent, *transpose(tangent)

    arguments = features, directions.astype(np.float32)
    together = jax.vmap(derive)(*arguments)
    for i, alone in enumerate(map(derive, *arguments)):
        for ours, theirs in zip(together, alone, strict=True):
            np.testing.assert_allclose(ours[i], theirs, rtol=1e-5, atol=1e-5)


def test_one_point_makes_a_simplex():
    features = features_of("spread", 3, points=1)
    lattice = build_lattice(features)
    assert int(lattice.num_vertices) == 4
    assert_same_lattice(lattice, DictLattice(features))


@pytest.mark.parametrize("d", [1, 3])
def test_a_grid_has_the_lattice_of_its_points_and_reads_them_as_they_come(d):
    features = position_features((5, 6, 7)[:d]) / 1.7
    lattice = build_lattice(features)
    of_grid = build_lattice(features, is_grid=True)
    assert of_grid.entries.order is None
    places = lattice.entries.order[lattice.entries.places]
    entries = lattice.entries._replace(order=None, places=places)
    expected = lattice._replace(entries=entries)
    jax.tree.map(np.testing.assert_array_equal, of_grid, expected)


@pytest.mark.parametrize("shape", [(300,), (60, 80), (20, 15, 24)])
def test_vertices_of_a_grid_follow_its_points_upwards(shape):
    """Never further back than the two rows of vertices between which a point lies."""
    width = 3.0
    lattice = build_lattice(position_features(shape) / width, is_grid=True)
    d = len(shape)
    between_vertices = (d + 1) * width / -elevation_matrix(d)[d, d - 1]
    for points in np.asarray(lattice.entries.places):
        row = np.unravel_index(points, shape)[0]
        assert (np.maximum.accumulate(row) - row).max() < 2 * between_vertices


def test_barycentric_weights_interpolate():
    """At least zero but for rounding, and one in all."""
    barycentric = build_lattice(features_of("spread", 5)).barycentric
    assert barycentric.min() > -1e-6
    np.testing.assert_allclose(barycentric.sum(0), 1, atol=1e-6)


# Points so far apart that none of their vertices is shared.
APART = (3e4 * np.random.default_rng(7).normal(size=(POINTS, 2))).astype(np.float32)
MOST = 3 * POINTS
VALUES = np.random.default_rng(8).normal(size=(POINTS, 3)).astype(np.float32)


def test_room_for_every_vertex_of_points_far_apart():
    assert int(build_lattice(APART).num_vertices) == MOST


def test_vmap_builds_each_items_own_lattice():
    """Lattices of 3, of many and of the most vertices, side by side."""
    batch = np.stack([0 * APART, APART / 1e4, APART, 1e3 * APART]).astype(np.float32)
    values = np.broadcast_to(VALUES, (4, *VALUES.shape))
    lattices = jax.vmap(build_lattice)(batch)
    filtered = jax.vmap(filter_lattice)(lattices, values)
    counts = [len(DictLattice(features).number) for features in batch]
    assert len(set(counts)) >= 3
    np.testing.assert_array_equal(lattices.num_vertices, counts)
    for features, value, ours in zip(batch, values, filtered, strict=True):
        alone = filter_lattice(build_lattice(features), value)
        np.testing.assert_allclose(ours, alone, rtol=1e-6, atol=1e-7)


def test_lattices_do_not_depend_on_the_64_bit_mode():
    features = features_of("far_1e4", 3)
    off = build_lattice(features)
    with jax.enable_x64(True):
        on = build_lattice(features)
    for one, other in zip(*map(jax.tree.leaves, (on, off)), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    assert off.barycentric.dtype == jnp.float32
    assert off.vertex_ids.dtype == jnp.int32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_points_that_are_not_finite_get_nan_weights_and_no_others(bad):
    features = features_of("spread", 3)
    features[17, 1] = bad
    lattice = build_lattice(features)
    bad_points = np.isnan(lattice.barycentric).all(0)
    np.testing.assert_array_equal(bad_points, np.arange(POINTS) == 17)
    assert np.isfinite(np.delete(lattice.barycentric, 17, axis=1)).all()
    assert lattice.vertex_ids.max() < lattice.num_vertices


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones(5), r"features: expected shape \[points, d\], got \[5\]"),
        (
            np.ones((2, 3, 4)),
            r"features: expected shape \[points, d\], got \[2, 3, 4\]",
        ),
        (np.ones((0, 3)), r"features: axis 'points' is empty, got shape \[0, 3\]"),
        (np.ones((5, 0)), r"features: axis 'd' is empty, got shape \[5, 0\]"),
        (np.ones((5, 3), int), r"features: expected floating-point .*got dtype int"),
    ],
)
def test_bad_features_raise(features, message):
    with pytest.raises(ValueError, match=message):
        build_lattice(features)


def test_more_entries_than_can_be_numbered_raise():
    features = jax.ShapeDtypeStruct((2**28, 3), jnp.float32)
    with pytest.raises(ValueError, match=r"features: .*2\*\*30, got shape \[268435456"):
        jax.eval_shape(build_lattice, features)
