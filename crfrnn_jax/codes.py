"""Lattice vertices as integers that tell them apart and step along the axes.

A vertex is its remainder and the quotients of its last d coordinates by d + 1 (the
first coordinate follows: they sum to zero). From the last coordinate to the second,
subtracted from a number above all of them, these are its digits: its code is
sum_i place_i digit_i + remainder, so that a step to a neighbour adds a constant to the
code. Where the digits' ranges, times d + 1, multiply to less than 2^62, which they
almost always do, the places are those of mixed digits and codes are exact. Otherwise
they are fixed random numbers and the sum wraps around: a hash of 64 bits, whose
collisions `build_lattice` looks for.

The last coordinate is the last feature alone, and falls as that grows. So the vertices
of a grid's positions, by their codes, follow its points row by row, upwards in memory;
downwards a CPU would not fetch ahead, and takes twice as long to read.

Everything here must be traced in a 64-bit context (`jax.enable_x64`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.simplex import Simplex, sum_rows


class Digits(NamedTuple):
    """Offsets and places of the digits of a set of simplices.

    Attributes:
      highest: int64 [d], from which each coordinate's quotient is subtracted.
      places: int64 [d], what each digit is multiplied by.
      bound: uint64 scalar, which no code is above if its sign is read as a bit.
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
    num_remainders = len(lowest)
    lowest, highest = lowest[:0:-1] - 2, highest[:0:-1] + 1
    extent = highest + 1 - lowest
    # In doubles, as the product may not fit a word.
    exact = num_remainders * jnp.prod(extent.astype(jnp.float64)) < 2.0**62
    lower_digits = jnp.append(extent[1:], num_remainders)
    mixed = jnp.cumprod(lower_digits[::-1])[::-1]
    places = jnp.where(exact, mixed, hash_places(len(extent)))
    num_codes = (extent[0] * mixed[0]).astype(jnp.uint64)
    bound = jnp.where(exact, num_codes, np.uint64(2**64 - 1))
    return Digits(highest, places, bound)


def hash_places(d: int) -> np.ndarray:
    """Odd random numbers, int64 [d]: the places of codes that are hashes."""
    return np.random.default_rng(d).integers(2**62, size=d) * 2 + 1


def encode(simplex: Simplex, digits: Digits) -> jax.Array:
    """Codes of every simplex's vertices: int64 [d + 1 (remainders), points]."""
    d = len(digits.highest)
    of_base = sum_rows(
        (digits.highest[i] - simplex.base[d - i]) * digits.places[i] for i in range(d)
    )

    # A loop, and rows by their numbers, for the reasons that `simplex` gives.
    def encode_remainder(remainder):
        # The vertex of remainder k lies k above the base in the coordinates ranked
        # 0..d - k, and d + 1 - k below it, with a quotient one less, in the others.
        below = [simplex.rank[d - i] > d - remainder for i in range(d)]
        added = sum_rows(jnp.where(below[i], digits.places[i], 0) for i in range(d))
        return of_base + added + remainder.astype(jnp.int64)

    return lax.map(encode_remainder, jnp.arange(d + 1, dtype=jnp.int32))


def axis_steps(places: jax.Array) -> jax.Array:
    """What a step along each axis adds to a code: int64 [2, d + 1 (axes)].

    A step along axis j adds d to coordinate j and takes 1 from the others. It lowers
    the remainder by one and raises quotient j (first row); from remainder 0 it comes to
    remainder d and lowers every quotient but the j-th (second row).
    """
    d = len(places)
    quotients = np.eye(d + 1, dtype=np.int64)[:, :0:-1]
    raised = np.stack([quotients, quotients - 1])
    of_digits = jnp.sum(-raised * places[None, None], axis=-1)
    return of_digits + np.array([-1, d])[:, None]
