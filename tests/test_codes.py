"""Codes name the vertices: one each, and steps are additions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import embed_point, step

from crfrnn_jax import codes
from crfrnn_jax.simplex import (
    base_range,
    elevation_matrix,
    embed,
    widest_error,
    widest_reach,
)

POINTS = 50


@pytest.fixture(autouse=True, scope="module")
def _wide_integers(strict_promotion):
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module", params=[1, 2, 5])
def cloud(request):
    """Simplices of a cloud of points, their vertices [remainders][points] and range."""
    d = request.param
    features = 2 * np.random.default_rng(d).normal(size=(POINTS, d))
    by_point = [embed_point(feature)[0] for feature in features]
    vertices = list(zip(*by_point, strict=True))
    return jax.jit(embed)(features.T), vertices, base_range(features.T)


@pytest.fixture(params=["exact", "hashed"])
def coded(request, cloud):
    """Pairs of a vertex and its code, and the place values."""
    simplex, vertices, bases = cloud
    digits = codes.digits_of(*bases)
    assert digits.exact
    if request.param == "hashed":
        places = codes.hash_places(len(digits.places) - 1)
        digits = digits._replace(places=jnp.asarray(places), bound=np.uint64(2**64 - 1))
    code = np.asarray(jax.jit(codes.encode)(simplex, digits))
    pairs = [
        (vertex, int(code[remainder, point]))
        for remainder, of_remainder in enumerate(vertices)
        for point, vertex in enumerate(of_remainder)
    ]
    return pairs, digits


def test_a_vertex_has_one_code_and_a_code_one_vertex(coded):
    pairs, _ = coded
    assert len(set(pairs)) == len(dict(pairs)) == len({code for _, code in pairs})


def test_a_step_along_an_axis_adds_to_the_code(coded):
    pairs, digits = coded
    code_of = dict(pairs)
    inside, wrapped = map(np.asarray, codes.axis_steps(digits.places))
    met = set()
    for vertex, code in pairs:
        d = len(vertex) - 1
        has_remainder = vertex[0] % (d + 1) > 0
        for axis in range(d + 1):
            neighbour = step(vertex, axis, 1)
            with np.errstate(over="ignore"):  # a hash wraps around
                stepped = np.uint64(code) + (inside if has_remainder else wrapped)[axis]
            if neighbour in code_of:
                assert stepped == code_of[neighbour]
                met.add((has_remainder, axis))
            else:
                assert stepped not in set(code_of.values())
    assert len(met) == 2 * len(vertex)


def test_digits_leave_room_for_a_step_to_either_side(cloud):
    """A digit in 0..extent - 1 of each place, so that no two sums are the same."""
    simplex, vertices, bases = cloud
    digits = codes.digits_of(*bases)
    highest, places, bound = (np.asarray(x).astype(np.int64) for x in digits)
    assert places[0] == 0
    assert places[1] == len(simplex.base)  # the extent of the remainder
    extents = np.append(places[2:], bound) / places[1:]
    for vertex in (v for of_remainder in vertices for v in of_remainder):
        for near in [vertex] + [
            step(vertex, axis, sign) for axis in range(len(vertex)) for sign in (1, -1)
        ]:
            digit = (highest - np.floor_divide(near, len(near)))[1:]
            assert (digit >= 0).all()
            assert (digit < extents).all()


@pytest.mark.parametrize("spread", [3e2, 1e9])
def test_codes_are_exact_as_long_as_they_fit(spread):
    features = spread * np.random.default_rng(0).normal(size=(POINTS, 5))
    digits = codes.digits_of(*base_range(features.T))
    assert digits.exact == (spread < 1e6)
    if not digits.exact:
        np.testing.assert_array_equal(digits.places, codes.hash_places(5))
        assert digits.bound == np.uint64(2**64 - 1)


@pytest.mark.parametrize(("largest", "exact"), [(2**60 - 9, True), (2**61, False)])
def test_codes_are_exact_only_if_the_remainders_fit_too(largest, exact):
    """One quotient of `largest` values; twice as many codes, in 2^62."""
    lowest, highest = jnp.array([0, -largest]), jnp.array([largest, 0])
    assert codes.digits_of(lowest, highest).exact == exact


@pytest.mark.parametrize("d", range(1, 9))
def test_hashes_tell_all_vertices_apart_whose_points_are_near(d):
    """As `is_free_of_collisions` takes for granted.

    Their quotients differ by no more than the points are apart, with what is granted
    for rounding, and each vertex from its point; by one as remainders may differ; by
    one for the step to a neighbour; and by what rounding does to the vertices. Sums of
    the first half of the digits meet those of the other half, negated.
    """
    edge = np.sqrt(3 * (d + 1) / 8)
    furthest = np.sqrt(d) * 2.0**52 / abs(elevation_matrix(d)).sum(axis=1).max()
    error = widest_error(d) * furthest
    quotient = np.sqrt(2 / 3)  # of a unit of the features, at most
    reach = int(quotient * (widest_reach(d) + 2 * edge + 2 * error)) + 3
    differences = np.arange(-reach, reach + 1)
    places = codes.hash_places(d)[1:]

    def sums(places, first):
        for place in places:
            first = np.add.outer(first, place * differences).reshape(-1)
        return np.unique(first, return_counts=True)

    half = (d + 1) // 2
    one, ones = sums(places[:half], np.zeros(1, np.int64))
    other, others = sums(-places[half:], np.arange(-d, d + 1))
    _, of_one, of_other = np.intersect1d(one, other, return_indices=True)
    assert (ones[of_one] * others[of_other]).tolist() == [1]


@pytest.mark.parametrize("d", [1, 6])
def test_hash_places_are_odd_and_differ(d):
    zero, *places = codes.hash_places(d)
    assert zero == 0
    assert all(place % 2 == 1 for place in places)
    assert len(set(places)) == d
