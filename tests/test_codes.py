"""Codes name the vertices: one each, and steps are additions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import embed_point, step

from crfrnn_jax import codes
from crfrnn_jax.simplex import embed

POINTS = 50


@pytest.fixture(autouse=True, scope="module")
def _wide_integers(strict_promotion):
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module", params=[1, 2, 5])
def cloud(request):
    """Simplices of a cloud of points, and their vertices [remainders][points]."""
    d = request.param
    features = 2 * np.random.default_rng(d).normal(size=(POINTS, d))
    by_point = [embed_point(feature)[0] for feature in features]
    return jax.jit(embed)(features.T), list(zip(*by_point, strict=True))


@pytest.fixture(params=["packed", "wide"])
def coded(request, cloud):
    """A dictionary of the codes of the vertices, and the place values."""
    simplex, vertices = cloud
    digits = codes.digits_of(simplex)
    if request.param == "packed":
        places = codes.packed_places(digits)
    else:
        places = jnp.asarray(codes.wide_places(len(simplex.base)))
    code = np.asarray(jax.jit(codes.encode)(simplex, digits, places))
    pairs = [
        (vertex, tuple(code[:, k, point].tolist()))
        for k, of_remainder in enumerate(vertices)
        for point, vertex in enumerate(of_remainder)
    ]
    return pairs, places


def test_a_vertex_has_one_code_and_a_code_one_vertex(coded):
    pairs, _ = coded
    assert len(set(pairs)) == len(dict(pairs)) == len({code for _, code in pairs})


def test_codes_are_not_negative_and_the_remainder_leads(coded):
    pairs, places = coded
    for vertex, code in pairs:
        assert min(code) >= 0
        assert code[0] // int(places[0, 0]) == vertex[0] % len(vertex)


def test_a_step_along_an_axis_adds_to_the_code(coded):
    pairs, places = coded
    code_of = dict(pairs)
    inside, wrapped = np.asarray(codes.axis_steps(places))
    met = set()
    for vertex, code in pairs:
        remainder = vertex[0] % len(vertex)
        for axis in range(len(vertex)):
            neighbour = step(vertex, axis, 1)
            stepped = np.add(code, (inside if remainder else wrapped)[axis])
            if neighbour in code_of:
                assert tuple(stepped.tolist()) == code_of[neighbour]
                met.add((remainder > 0, axis))
            else:
                assert tuple(stepped.tolist()) not in set(code_of.values())
    assert len(met) == 2 * len(vertex)


def test_digits_leave_room_for_a_step_to_either_side(cloud):
    simplex, vertices = cloud
    lowest, extent = (np.asarray(x) for x in codes.digits_of(simplex))
    for vertex in (v for of_remainder in vertices for v in of_remainder):
        for near in [vertex] + [
            step(vertex, axis, sign) for axis in range(len(vertex)) for sign in (1, -1)
        ]:
            digit = np.floor_divide(near[:-1], len(near)) - lowest
            assert (digit >= 0).all()
            assert (digit < extent).all()


@pytest.mark.parametrize("num_digits", [2, 3, 6, 7])
def test_wide_places_put_two_digits_in_a_word(num_digits):
    places = codes.wide_places(num_digits)
    assert places.shape == ((num_digits + 1) // 2, num_digits)
    largest = places @ np.full(num_digits, codes.DIGIT_LIMIT - 1, object)
    assert max(largest) < 2**63
    np.testing.assert_array_equal((places != 0).sum(axis=0), 1)


@pytest.mark.parametrize("words", [1, 3])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_find_is_the_search_of_a_sorted_list(words, rows):
    rng = np.random.default_rng(rows)
    drawn = {tuple(row) for row in rng.integers(4, size=(20 * rows, words)).tolist()}
    table = sorted(drawn)[:rows]
    table += [(2**62,) * words] * (rows - len(table))
    wanted = [*sorted(drawn), (-1,) * words, (2**63 - 1,) * words]
    row, exists = jax.jit(codes.find)(np.array(table).T, np.array(wanted).T)
    assert row.dtype == jnp.int32
    rows_found = zip(wanted, row.tolist(), exists.tolist(), strict=True)
    for target, found, present in rows_found:
        assert present == (target in table)
        if target <= table[-1]:
            assert found == min(i for i, code in enumerate(table) if code >= target)
