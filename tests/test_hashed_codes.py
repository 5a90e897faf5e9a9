"""Lattices whose codes fill a word, or are hashes: right, or known not to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import DictLattice
from test_lattice import (
    APART,
    KINDS,
    VALUES,
    assert_same_lattice,
    build_anew,
    features_of,
)

from crfrnn_jax import build_lattice, codes, filter_lattice
from crfrnn_jax import lattice as lattice_module
from crfrnn_jax.simplex import elevation_matrix

# What no code is above if codes are hashes.
HASHED = np.uint64(2**64 - 1)


def _build_with(monkeypatch, features, **replaced):
    """Builds a lattice with some of its digits replaced."""
    original = codes.digits_of

    def digits_of(*bases):
        return original(*bases)._replace(**jax.tree.map(jnp.asarray, replaced))

    with monkeypatch.context() as patch:
        patch.setattr(codes, "digits_of", digits_of)
        return build_anew(features)


@pytest.mark.parametrize("hashed", [False, True])
def test_codes_that_fill_a_word_give_the_same_filter(monkeypatch, hashed):
    """Codes too long to share a word with their place, and hashes of the vertices.

    They may number the vertices differently, so only what is filtered is compared.
    """
    features = features_of("spread", 3)
    places = codes.hash_places(3) if hashed else 4 * np.array([0, 1, 2**26, 2**52])
    bound = HASHED if hashed else np.uint64(2**62 - 1)
    other = _build_with(monkeypatch, features, places=places, bound=bound)
    assert not other.overflowed
    ours, packed = (filter_lattice(x, VALUES) for x in (other, build_lattice(features)))
    np.testing.assert_allclose(ours, packed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("places", [(4, 0, 0), (4, 4, 4), (0, 4, 2**40), (1, 2, 3)])
def test_hashes_that_collide_are_seen(monkeypatch, places):
    """Of vertices at one point, of such that are never joined, and of neighbours."""
    features = features_of("spread", 3)
    replaced = {"places": np.append(0, places), "bound": HASHED}
    lattice = _build_with(monkeypatch, features, **replaced)
    assert lattice.overflowed
    assert np.isnan(lattice.barycentric).all()
    assert np.isnan(filter_lattice(lattice, VALUES)).all()


def test_a_hash_that_joins_distant_vertices_is_seen(monkeypatch):
    """Two points far apart, the same way inside their simplices, codes five apart.

    No two vertices have the same code, but some steps seem to lead from a vertex of one
    point to one of the other.
    """
    base = np.array([[0, 0, 0], [50, -49, -1]])
    elevated = 3 * base + np.array([0.5, 0.1, -0.6])
    features = np.linalg.lstsq(elevation_matrix(2), elevated.T)[0].T.astype(np.float32)
    assert int(build_lattice(features).num_vertices) == 6
    replaced = {"places": np.array([0, -5, 240]), "bound": HASHED}
    lattice = _build_with(monkeypatch, features, **replaced)
    assert int(lattice.num_vertices) == 6
    assert lattice.overflowed


def test_a_point_that_cannot_be_embedded_hides_no_collision(monkeypatch):
    """It is taken for the origin, and here stands between two that collide."""
    features = np.array([[0, 0], [np.nan, 0], [30, 0]], np.float32)
    replaced = {"places": np.array([0, 0, 0]), "bound": HASHED}
    assert _build_with(monkeypatch, features, **replaced).overflowed


@pytest.mark.parametrize("kind", [*KINDS, "furthest"])
@pytest.mark.parametrize("d", [1, 3, 6])
def test_hashes_that_do_not_collide_give_the_same_lattice(monkeypatch, kind, d):
    """Also furthest out, and beside points that can't be embedded."""
    if kind == "furthest":
        spread = features_of("spread", d) * np.float32(2.0**50 / 20 / (d + 1))
        features = np.concatenate([spread, spread])  # to share vertices
        features[0], features[1], features[2] = np.nan, np.inf, 1e30
    else:
        features = features_of(kind, d)
    replaced = {"places": codes.hash_places(d), "bound": HASHED}
    hashed = _build_with(monkeypatch, features, **replaced)
    assert not hashed.overflowed
    assert int(hashed.num_vertices) == int(build_lattice(features).num_vertices)
    if kind != "furthest":
        assert_same_lattice(hashed, DictLattice(features))


def test_two_vertices_that_cannot_be_told_apart_are_an_error(monkeypatch):
    """No features are known to collide, so the build is made to say they did."""
    collided = build_lattice(APART)._replace(overflowed=jnp.bool_(True))
    monkeypatch.setattr(lattice_module, "_build", lambda *_: collided)
    with pytest.raises(ValueError, match=r"features: two vertices .* can't be told"):
        build_lattice(APART)
