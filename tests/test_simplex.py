"""The embedding of points against the loops of the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import embed_point
from test_in_memory import conditions

from crfrnn_jax.simplex import base_range, elevation_matrix, embed, widest_reach

POINTS = 60


def features_of(d, offset=0.0):
    rng = np.random.default_rng(d)
    return (offset + 4 * rng.normal(size=(d, POINTS))).astype(np.float32)


def embed64(features):
    with jax.enable_x64(True):
        return jax.jit(embed)(features)


def vertices_of(simplex):
    """Integer coordinates [remainders, d + 1, points] that base and rank stand for."""
    base, rank = np.asarray(simplex.base), np.asarray(simplex.rank)
    size = len(base)
    return np.stack(
        [size * base + k - size * (rank > size - 1 - k) for k in range(size)]
    )


@pytest.mark.parametrize("d", range(1, 7))
def test_columns_of_the_elevation_are_orthogonal_in_the_plane_and_of_one_length(d):
    matrix = elevation_matrix(d)
    length = np.sqrt(2 / 3) * (d + 1)
    np.testing.assert_allclose(matrix.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(matrix.T @ matrix, length**2 * np.eye(d), atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_simplices_are_the_references(d, offset):
    features = features_of(d, offset)
    simplex = embed64(features)
    ours = vertices_of(simplex)
    for point, feature in enumerate(features.T):
        vertices, weights = embed_point(feature)
        np.testing.assert_array_equal(ours[:, :, point], vertices)
        np.testing.assert_allclose(simplex.weights[:, point], weights, atol=1e-6)


@pytest.mark.parametrize("d", [2, 5])
def test_vertices_average_to_the_point(d):
    features = features_of(d, 100.0)
    simplex = embed64(features)
    weights = np.asarray(simplex.weights)
    assert weights.min() > -1e-6
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-6)
    average = np.einsum("kp,kcp->cp", weights, vertices_of(simplex))
    elevated = elevation_matrix(d) @ features.astype(np.float64)
    np.testing.assert_allclose(average, elevated, atol=1e-5)


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("kind", ["spread", "on the axes"])
def test_ranks_permute_the_coordinates(kind, d):
    """On the axes some are equal; there are more points than a vector has lanes."""
    features = features_of(d)
    if kind == "on the axes":
        rng = np.random.default_rng(d)
        axes = np.eye(d)[:, rng.integers(d, size=101)]
        features = (np.round(rng.normal(size=(d, 101))) * axes).astype(np.float32)
    rank = np.asarray(embed64(features).rank)
    np.testing.assert_array_equal(
        np.sort(rank, axis=0), np.broadcast_to(np.arange(d + 1)[:, None], rank.shape)
    )


@pytest.mark.parametrize("batched", [False, True])
def test_its_steps_are_kept_apart_on_a_cpu(batched):
    """Nearest multiples, the way from there, and ranks."""
    function = jax.vmap(embed) if batched else embed
    features = np.zeros((4, 3, 50), np.float32) if batched else features_of(3)
    with jax.enable_x64(True):
        assert conditions(function, features) == 3


def test_the_origin_is_a_vertex_and_the_first_of_equals_leads():
    simplex = embed64(np.zeros((3, 1)))
    np.testing.assert_array_equal(simplex.base[:, 0], 0)
    np.testing.assert_array_equal(simplex.rank[:, 0], [0, 1, 2, 3])
    np.testing.assert_array_equal(simplex.weights[:, 0], [1, 0, 0, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_only_features_that_are_not_finite_get_nan_weights(bad):
    features = features_of(2)
    features[1, 7] = bad
    weights = np.asarray(embed64(features).weights)
    assert np.isnan(weights[:, 7]).all()
    assert np.isfinite(np.delete(weights, 7, axis=1)).all()


@pytest.mark.parametrize("spread", [1.0, 1e3, 1e12])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_bases_lie_in_their_range_and_fill_it(d, spread):
    """The corners of the box are among the points, so the range is tight."""
    features = np.float32(spread) * features_of(d)
    features[-1, 3] = np.nan
    features[0, 4] = np.inf
    corners = np.array(np.meshgrid(*[[-40 * spread, 40 * spread]] * d)).reshape(d, -1)
    features = np.append(features, corners.astype(np.float32), axis=1)
    with jax.enable_x64(True):
        lowest, highest = jax.jit(base_range)(features)
        base = jax.jit(embed)(features).base
    lowest, highest, base = (np.asarray(x) for x in (lowest, highest, base))
    allowed = 2 + 2.0**-45 * np.abs(base).max()
    assert (lowest <= base.min(axis=1)).all()
    assert (highest >= base.max(axis=1)).all()
    np.testing.assert_allclose(lowest, base.min(axis=1), rtol=0, atol=allowed)
    np.testing.assert_allclose(highest, base.max(axis=1), rtol=0, atol=allowed)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_weights_have_the_features_dtype_and_the_vertices_do_not_depend_on_it(dtype):
    features = features_of(2).astype(dtype)
    simplex, of_float32 = embed64(features), embed64(features.astype(np.float32))
    assert simplex.weights.dtype == dtype
    np.testing.assert_array_equal(simplex.base, of_float32.base)
    np.testing.assert_array_equal(simplex.rank, of_float32.rank)
    rounded = np.asarray(simplex.weights, np.float32)
    half_digit = float(jnp.finfo(dtype).eps) / 2 + 1e-7
    np.testing.assert_allclose(rounded, of_float32.weights, rtol=0, atol=half_digit)


def test_derivative_of_the_weights_is_a_difference():
    """Exactly: they are linear inside a simplex, so the step need not be small."""
    features = features_of(4).astype(np.float64)
    tangent = np.random.default_rng(9).normal(size=features.shape)
    with jax.enable_x64(True):
        _, derivative = jax.jvp(lambda f: embed(f).weights, (features,), (tangent,))
    ahead = embed64(features + 1e-5 * tangent)
    behind = embed64(features - 1e-5 * tangent)
    np.testing.assert_array_equal(ahead.rank, behind.rank)
    np.testing.assert_array_equal(ahead.base, behind.base)
    slope = (np.asarray(ahead.weights) - np.asarray(behind.weights)) / 2e-5
    np.testing.assert_allclose(derivative, slope, atol=1e-9)


@pytest.mark.parametrize("d", range(1, 6))
def test_points_with_vertices_beside_each_other_are_within_reach(d):
    """The furthest: from the far ends of the longest edges, with a step between."""
    size = d + 1

    def canonical(k):
        """The vertex of remainder k of the simplex at the origin (section 3.1)."""
        return np.concatenate([np.full(size - k, k), np.full(k, k - size)])

    longest = max(np.linalg.norm(canonical(k)) for k in range(size))
    step = np.linalg.norm(canonical(1))
    length = np.linalg.norm(elevation_matrix(d)[:, 0])  # of a unit of the features
    furthest = (2 * longest + step) / length
    assert furthest <= widest_reach(d) < 1.3 * furthest
