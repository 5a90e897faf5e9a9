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
short for the vector units of any backend. Sums and comparisons over the coordinates are
spelt out, and what they take most from is in memory first, as XLA's CPU backend would
compute it anew for each row that reads it.
"""

import functools
import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.in_memory import in_memory


class Simplex(NamedTuple):
    """The simplex around each point.

    Attributes:
      base: int64 [d + 1, points], the remainder-0 vertex divided by d + 1.
      rank: int32 [d + 1, points], a permutation of 0..d for each point.
      weights: float [d + 1, points], barycentric weights in the order of the
        remainders; they sum to one. NaN where the features are not finite, or too
        large to be embedded.
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
    embeddable, kept = keep_embeddable(features)

    # Not a matrix product, whose batching rule, run outside this 64-bit context, would
    # truncate it to single precision.
    def elevate(kept):
        matrix = jnp.asarray(elevation_matrix(d))
        return sum_rows(
            matrix[:, j, None] * kept[j, None].astype(jnp.float64) for j in range(d)
        )

    def round_coordinates(kept):
        """The nearest multiples of d + 1, divided by that."""
        quotient = elevate(kept) / (d + 1)
        above, below = jnp.ceil(quotient), jnp.floor(quotient)
        # Ties downwards, as in Krähenbühl and Koltun's code.
        return jnp.where(above - quotient < quotient - below, above, below)

    # Elevated again, which takes less than to store what was: fresh memory is dear.
    def offsets_from(nearest, kept):
        return elevate(kept) - nearest * (d + 1)

    # The rounded point may have left the hyperplane by a multiple of d + 1. The
    # coordinates that were rounded furthest are moved back: those whose rank leaves
    # 0..d when the excess is added.
    def rank_coordinates(nearest, offset):
        i = np.arange(d + 1, dtype=np.int32)[:, None]
        # The first of equals leads.
        before = (
            jnp.where(j < i, offset[j, None] >= offset, offset[j, None] > offset)
            for j in range(d + 1)
        )
        excess = sum_rows(nearest).astype(jnp.int32)
        return excess[None] + sum_rows(leads.astype(jnp.int32) for leads in before)

    # In memory not only for speed: computed anew, offsets might be rounded otherwise,
    # and ranks by which each coordinate leads the other would be no permutation.
    nearest = in_memory(round_coordinates, kept)
    offset = in_memory(offsets_from, nearest, kept)
    rank = in_memory(rank_coordinates, nearest, offset)
    wrap = (rank < 0).astype(jnp.int32) - (rank > d).astype(jnp.int32)
    away = (d + 1) * wrap
    base, rank = nearest.astype(jnp.int64) + wrap.astype(jnp.int64), rank + away

    # Only what decides about bases and ranks needs double precision.
    dtype = np.promote_types(features.dtype, np.float32)
    scaled = (offset - away.astype(jnp.float64)) * (1 / (d + 1))
    weights = _cyclic_differences(scaled.astype(dtype), rank)
    weights = jnp.where(embeddable, weights + np.eye(d + 1, 1, dtype=dtype), jnp.nan)
    return Simplex(base, rank, weights.astype(features.dtype))


@embed.defjvp
def _embed_jvp(primals, tangents):
    """Weights are linear in the features inside a simplex; base and rank are fixed.

    Autodiff would reach the same result through the 64-bit arithmetic, and store it.
    """
    (features,), (tangent,) = primals, tangents
    with jax.enable_x64(True):
        simplex = embed(features)
    d = features.shape[0]
    matrix = (elevation_matrix(d) / (d + 1)).astype(tangent.dtype)
    scaled = jnp.matmul(matrix, tangent, precision="highest")
    weights = _cyclic_differences(scaled, simplex.rank)
    no_tangent: Any = np.zeros(simplex.rank.shape, jax.dtypes.float0)
    return simplex, Simplex(no_tangent, no_tangent, weights)


def base_range(features: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Between what the bases of the simplices lie, without embedding the points.

    Must be traced in a 64-bit context.

    Args:
      features: float [d, points].

    Returns:
      A lowest and a highest base, int64 [d + 1]. The ranges are those of the box around
      the features, and may be wider than those of the features.
    """
    d = features.shape[0]
    # Whole numbers have no derivative, and newer JAX traces one outside the context.
    _, kept = keep_embeddable(lax.stop_gradient(features))
    least = jnp.min(kept, axis=1).astype(jnp.float64)
    most = jnp.max(kept, axis=1).astype(jnp.float64)
    columns = jnp.asarray(elevation_matrix(d) / (d + 1)).T
    ends = [(columns[j] * least[j], columns[j] * most[j]) for j in range(d)]
    # For what is rounded in another order here than in `embed`.
    slack = 2.0**-48 * sum_rows(jnp.maximum(abs(low), abs(high)) for low, high in ends)
    lowest = sum_rows(jnp.minimum(*both) for both in ends) - slack
    highest = sum_rows(jnp.maximum(*both) for both in ends) + slack
    # Rounded, and moved back by one at most.
    return (
        jnp.floor(lowest).astype(jnp.int64) - 1,
        jnp.ceil(highest).astype(jnp.int64) + 1,
    )


def keep_embeddable(features: jax.Array, axis: int = 0) -> tuple[jax.Array, jax.Array]:
    """Which points can be embedded, and the features, 0 for others.

    Those whose features are so small that on the hyperplane they surely stay below
    2^52, as far as doubles have integers.

    Args:
      features: float [d, points] or [points, d].
      axis: that of the d features.

    Returns:
      bool, of size 1 along the axis, and the features in their shape.
    """
    matrix = elevation_matrix(features.shape[axis])
    furthest = 2.0**52 / np.abs(matrix).sum(axis=1).max()
    # The maximum is NaN if one of them is, and XLA vectorises it.
    largest = jnp.max(abs(features), axis, keepdims=True)
    embeddable = largest.astype(jnp.float64) < furthest
    return embeddable, jnp.where(embeddable, features, 0)


def widest_reach(d: int) -> float:
    """How far apart points may be of which a vertex of one is beside one of the other.

    Or is the same. In units of the features, and but for `widest_error`.
    """
    # An edge of a simplex is at most sqrt(3 (d + 1) / 8) long, and a step along an axis
    # less than sqrt(3 / 2), by the elevation's scale.
    return 2 * np.sqrt(3 * (d + 1) / 8) + np.sqrt(3 / 2)


def widest_error(d: int) -> float:
    """How far rounding in `embed` may move two points apart, per unit from 0."""
    # Of each coordinate: d products, their sum, and the matrix's own roundings.
    return 2.0**-52 * (d + 5) * np.sqrt(d)


def _cyclic_differences(scaled: jax.Array, rank: jax.Array) -> jax.Array:
    """Linear part of the barycentric weights, of the offsets divided by d + 1.

    With y_k the offset of rank d - k, the weight of remainder k is
    (y_k - y_(k-1)) / (d + 1), cyclically, plus one for remainder 0.
    """
    size = len(scaled)
    wanted = np.arange(size, dtype=np.int32)[::-1, None]
    before = (wanted + 1) % size
    # Of each sum all but two terms are 0.
    return sum_rows(
        jnp.where(rank[i, None] == wanted, scaled[i, None], 0)
        - jnp.where(rank[i, None] == before, scaled[i, None], 0)
        for i in range(size)
    )


def sum_rows(rows: Iterable[jax.Array]) -> jax.Array:
    """Sum of a few arrays, spelt out.

    XLA's CPU backend does not vectorise a floating-point `jnp.sum` over a leading axis
    (it keeps the order of the additions per output), which is five times slower here.
    """
    return functools.reduce(operator.add, rows)
