"""Lattice vertices as integers that tell them apart and step along the axes.

A vertex is its remainder and the quotients of its coordinates by d + 1, but for the
first coordinate, which follows: they sum to zero. Subtracted from a number above all of
them, these are its digits, of which the last coordinate's is the most significant: its
code is sum_i place_i digit_i + remainder, so that a step to a neighbour adds a constant
to the code. Where the digits' ranges, times d + 1, multiply to less than 2^62, which
they almost always do, the places are those of mixed digits and codes are exact.
Otherwise they are fixed random numbers and the sum wraps around: a hash of 64 bits,
whose collisions `build_lattice` looks for.

The last coordinate is the last feature alone, and falls as that grows. So the vertices
of a grid's positions, by their codes, follow its points row by row, upwards in memory;
downwards a CPU would not fetch ahead, and takes twice as long to read.

Everything here must be traced in a 64-bit context (`jax.enable_x64`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crfrnn_jax.simplex import Simplex, sum_rows


class Digits(NamedTuple):
    """The digits of a set of simplices, by coordinate.

    Attributes:
      highest: int64 [d + 1], from which each coordinate's quotient is subtracted.
      places: int64 [d + 1], what each digit is multiplied by; 0 for the first
        coordinate's, which has no part in the code.
      bound: uint64 scalar, which no code is above.
    """

    highest: jax.Array
    places: jax.Array
    bound: jax.Array

    @property
    def exact(self) -> jax.Array:
        """Whether no two vertices can have the same code: bool scalar."""
        return self.bound < 2**62


def digits_of(lowest: jax.Array, highest: jax.Array) -> Digits:
    """The digits' places, with room for the neighbours of every vertex.

    A vertex's quotient is its simplex's `base` or one less; a neighbour's differs from
    it by at most one. So a step never carries from one digit into another.

    Args:
      lowest: int64 [d + 1], no more than the least `base` of each coordinate.
      highest: int64 [d + 1], no less than the greatest.
    """
    lowest, highest = lowest - 2, highest + 1
    digit = np.arange(len(lowest))
    # The least digit is the remainder, at the first coordinate's place.
    extent = jnp.where(digit > 0, highest + 1 - lowest, len(lowest))
    is_less = np.tri(len(lowest) + 1, len(lowest), -1, dtype=bool)
    # One of XLA's kernels; of a cumulative product it makes a chain.
    products = jnp.prod(jnp.where(is_less, extent, 1), axis=1)
    # In doubles, as the product may not fit a word.
    exact = jnp.prod(extent.astype(jnp.float64)) < 2.0**62
    mixed, num_codes = jnp.where(digit > 0, products[:-1], 0), products[-1]
    places = jnp.where(exact, mixed, hash_places(len(lowest) - 1))
    bound = jnp.where(exact, num_codes.astype(jnp.uint64), np.uint64(2**64 - 1))
    return Digits(highest, places, bound)


def hash_places(d: int) -> np.ndarray:
    """The places if codes are hashes: 0, then d odd random numbers, int64 [d + 1]."""
    return np.append(0, np.random.default_rng(d).integers(2**62, size=d) * 2 + 1)


def encode(simplex: Simplex, digits: Digits) -> jax.Array:
    """Codes of every simplex's vertices: uint64 [d + 1 (remainders), points]."""
    coordinates = range(1, len(digits.places))
    of_base = sum_rows(
        (digits.highest[i] - simplex.base[i]) * digits.places[i] for i in coordinates
    )

    # The vertex of remainder k lies k above the base in the coordinates ranked
    # 0..d - k, and d + 1 - k below it, with a quotient one less, in the others.
    remainder = np.arange(len(digits.places))[:, None]
    least = (len(digits.places) - remainder).astype(np.int32)
    added = sum_rows(
        jnp.where(simplex.rank[i, None] >= least, digits.places[i], 0)
        for i in coordinates
    )
    return (of_base[None] + added + remainder).astype(jnp.uint64)


def axis_steps(places: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What a step along each axis adds to a code: two of uint64 [d + 1 (axes)].

    A step along axis j adds d to coordinate j and takes 1 from the others. It lowers
    the remainder by one and raises quotient j (the first); from remainder 0 it comes to
    remainder d and lowers every quotient but the j-th (the second).
    """
    inside = -places - 1
    # Spelt out, the sum is part of the kernel that adds it.
    wrapped = inside + sum_rows(places) + len(places)
    return inside.astype(jnp.uint64), wrapped.astype(jnp.uint64)
