"""Embedding of feature vectors in the permutohedral lattice (Adams et al., 2010).

The permutohedral lattice of dimension d lives on the hyperplane of R^(d+1) whose
coordinates sum to zero. Its vertices are the integer points whose coordinates are all
congruent modulo d + 1; the shared residue is the vertex's `remainder`. A feature vector
falls into one simplex, which has exactly one vertex of each remainder 0..d.

Symbols, after section 3.1 of Adams, Baek and Davis, "Fast High-Dimensional Filtering
Using the Permutohedral Lattice", Eurographics 2010:

- elevated: the feature on the hyperplane, E f in the paper;
- base: the remainder-0 vertex of its simplex, divided by d + 1;
- rank: the place of each coordinate when `elevated - (d + 1) base` is sorted, greatest
  first. Base and ranks name the simplex.

Everything is computed with the points as the last axis: rows of d + 1 numbers are too
short for the vector units of any backend.
"""

import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Simplex(NamedTuple):
    """The simplex around each point.

    Attributes:
      base: int64 [d + 1, points], the remainder-0 vertex divided by d + 1.
      rank: int32 [d + 1, points], a permutation of 0..d for each point.
      weights: float [d + 1, points], barycentric weights in the order of the
        remainders; they sum to one. NaN where the features are not finite.
    """

    base: jax.Array
    rank: jax.Array
    weights: jax.Array


def elevation_matrix(num_features: int) -> np.ndarray:
    """Matrix [d + 1, d] that takes features to the hyperplane.

    The columns are orthogonal and scaled by sqrt(2/3) (d + 1), so that a blur of
    (1/4, 1/2, 1/4) along the d + 1 axes has, together with splat and slice, unit
    variance in feature space (Adams et al. 2010, section 3.1; the scale is that of
    Krähenbühl and Koltun's code).
    """
    d = num_features
    basis = np.triu(np.ones((d + 1, d)))
    basis[np.arange(1, d + 1), np.arange(d)] = -np.arange(1.0, d + 1)
    index = np.arange(d)
    scale = np.sqrt(2.0 / 3.0) * (d + 1) / np.sqrt((index + 1.0) * (index + 2.0))
    return basis * scale


@jax.custom_jvp
def embed(features: jax.Array) -> Simplex:
    """Finds the simplex around each point and the weights of its vertices.

    Must be traced in a 64-bit context (`jax.enable_x64`): single precision would lose
    the position inside the simplex as soon as features lie far from the origin.

    Args:
      features: float [d, points].

    Returns:
      The simplices; `weights` in the dtype of `features`.
    """
    d = features.shape[0]
    # Not a matrix product, whose batching rule, run outside this 64-bit context, would
    # truncate it to single precision.
    columns = jnp.asarray(elevation_matrix(d).T[:, :, None])
    elevated = _sum_rows(columns * features.astype(jnp.float64)[:, None])
    finite = jnp.all(jnp.abs(elevated) < 2.0**52, axis=0)
    elevated = jnp.where(finite, elevated, 0.0)

    # Round each coordinate to the nearest multiple of d + 1, ties downwards as in
    # Krähenbühl and Koltun's code.
    quotient = elevated / (d + 1)
    above, below = jnp.ceil(quotient), jnp.floor(quotient)
    base = jnp.where(above - quotient < quotient - below, above, below)

    # The rounded point may have left the hyperplane by a multiple of d + 1. The
    # coordinates that were rounded furthest are moved back: those whose rank leaves
    # 0..d when the excess is added.
    rank = _descending_ranks(elevated - base * (d + 1))
    rank = rank + _sum_rows(base).astype(jnp.int32)[None]
    wrap = (rank < 0).astype(jnp.int32) - (rank > d).astype(jnp.int32)
    rank = rank + (d + 1) * wrap
    base = base + wrap.astype(base.dtype)

    weights = _cyclic_differences(elevated - base * (d + 1), rank)
    weights = weights.at[0].add(1.0)
    weights = jnp.where(finite, weights, jnp.nan)
    return Simplex(base.astype(jnp.int64), rank, weights.astype(features.dtype))


@embed.defjvp
def _embed_jvp(primals, tangents):
    """Weights are linear in the features inside a simplex; base and rank are fixed.

    Autodiff would reach the same result through the 64-bit arithmetic, and store it.
    """
    (features,), (tangent,) = primals, tangents
    with jax.enable_x64(True):
        simplex = embed(features)
    matrix = elevation_matrix(features.shape[0]).astype(tangent.dtype)
    elevated = jnp.matmul(matrix, tangent, precision="highest")
    weights = _cyclic_differences(elevated, simplex.rank)
    no_tangent: Any = np.zeros(simplex.rank.shape, jax.dtypes.float0)
    return simplex, Simplex(no_tangent, no_tangent, weights)


def _descending_ranks(values: jax.Array) -> jax.Array:
    """Rank of each entry in its column [d + 1, points]; the first of equals leads."""
    index = jnp.arange(values.shape[0], dtype=jnp.int32)

    def rank_of(row):
        own, position = row
        earlier = (index < position)[:, None]
        before = (values > own[None]) | ((values == own[None]) & earlier)
        return jnp.sum(before, axis=0, dtype=jnp.int32)

    return lax.map(rank_of, (values, index))


def _cyclic_differences(offset: jax.Array, rank: jax.Array) -> jax.Array:
    """Linear part of the barycentric weights.

    With y_k the offset of rank d - k, the weight of remainder k is
    (y_k - y_(k-1)) / (d + 1), cyclically, plus one for remainder 0.
    """
    size = offset.shape[0]

    def offset_of(wanted):
        return _sum_rows(jnp.where(rank == wanted, offset, 0))

    ascending = lax.map(offset_of, jnp.arange(size, dtype=jnp.int32)[::-1])
    return (ascending - jnp.roll(ascending, 1, axis=0)) / size


def _sum_rows(values: jax.Array) -> jax.Array:
    """Sum over the short leading axis, spelt out.

    XLA's CPU backend does not vectorise a floating-point `jnp.sum` over a leading axis
    (it keeps the order of the additions per output), which is five times slower here.
    """
    return functools.reduce(operator.add, list(values))
