"""Lattice vertices as integers that sort, compare and step along the axes.

A vertex is its remainder and the quotients q of its first d coordinates by d + 1 (the
last coordinate follows: they sum to zero). These d + 1 digits are packed into the least
number of 64-bit words. Digits keep a margin at both ends, so a step to a neighbour is
the addition of a constant to each word and never carries into another digit.

Everything here must be traced in a 64-bit context (`jax.enable_x64`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.simplex import Simplex

# Two digits of 31 bits share a word; a digit that needs more can't be represented.
_DIGIT_BITS = 31
DIGIT_LIMIT = 2**_DIGIT_BITS


class Digits(NamedTuple):
    """Offsets and sizes of the digits of a set of simplices.

    Attributes:
      lowest: int64 [d], the least quotient of each coordinate, less the margin.
      extent: int64 [d], how many values each quotient's digit may take.
    """

    lowest: jax.Array
    extent: jax.Array


def digits_of(simplex: Simplex) -> Digits:
    """The ranges of the quotients, with room for the neighbours of every vertex.

    A vertex's quotient is its simplex's `base` or one less; a neighbour's differs from
    it by at most one.
    """
    base = simplex.base[:-1]
    lowest = jnp.min(base, axis=1) - 2
    return Digits(lowest, jnp.max(base, axis=1) + 2 - lowest)


def packed_places(digits: Digits) -> jax.Array:
    """Place values [1, d + 1] of all digits in one word, the remainder leading."""
    descending = jnp.cumprod(digits.extent[::-1])[::-1]
    return jnp.append(descending, 1)[None]


def wide_places(num_digits: int) -> np.ndarray:
    """Place values [words, d + 1] of two digits to a word: right for any extent."""
    digit = np.arange(num_digits)
    places = np.zeros((-(-num_digits // 2), num_digits), np.int64)
    places[digit // 2, digit] = np.where(digit % 2 == 0, DIGIT_LIMIT, 1)
    return places


def encode(simplex: Simplex, digits: Digits, places: jax.Array) -> jax.Array:
    """Codes of every simplex's vertices: int64 [words, d + 1 (remainders), points].

    The vertex of remainder k lies k above `base` in the coordinates ranked 0..d - k and
    d + 1 - k below it in the others, whose quotient is therefore one less.
    """
    d = len(digits.lowest)
    quotients = simplex.base[:d] - digits.lowest[:, None]

    # A loop over the remainders, whose operands XLA must have computed before: fused
    # with its consumers the embedding would be computed again for each of them.
    def encode_remainder(remainder):
        below = simplex.rank[:d] > d - remainder.astype(jnp.int32)
        own = quotients - below.astype(jnp.int64)
        return jnp.stack(
            [
                remainder * place[0] + jnp.sum(own * place[1:, None], 0)
                for place in places
            ]
        )

    codes = lax.map(encode_remainder, jnp.arange(d + 1))
    return jnp.swapaxes(codes, 0, 1)


def axis_steps(places: jax.Array) -> jax.Array:
    """What a step along each axis adds to a code: int64 [2, d + 1 (axes), words].

    A step along axis j adds d to coordinate j and takes 1 from the others. It lowers
    the remainder by one and raises quotient j (first row); from remainder 0 it comes to
    remainder d and lowers every quotient but the j-th (second row).
    """
    d = places.shape[1] - 1
    axis = np.arange(d + 1)[:, None]
    own = axis == np.arange(d)
    inside = np.concatenate([np.full((d + 1, 1), -1), own], axis=1)
    wrapped = np.concatenate([np.full((d + 1, 1), d), own - 1], axis=1)
    steps = np.stack([inside, wrapped]).astype(np.int64)
    return jnp.sum(steps[:, :, None, :] * places[None, None], axis=-1)


def find(codes: jax.Array, wanted: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Binary search of codes among sorted ones.

    Args:
      codes: int64 [words, rows], ascending, first word most significant.
      wanted: int64 [words, ...].

    Returns:
      int32 [...], the first row not below the wanted code (the last row if all are),
      and bool [...], whether it holds that code.
    """
    rows = codes.shape[1]
    low = jnp.zeros(wanted.shape[1:], jnp.int32)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        below = _less(codes[:, middle], wanted)
        return jnp.where(below, middle + 1, low), jnp.where(below, high, middle)

    steps = (rows - 1).bit_length()
    low, _ = lax.fori_loop(0, steps, halve, (low, jnp.full_like(low, rows - 1)))
    return low, jnp.all(codes[:, low] == wanted, axis=0)


def _less(left: jax.Array, right: jax.Array) -> jax.Array:
    """Lexicographic comparison of [words, ...]."""
    less = left[-1] < right[-1]
    for one, other in zip(left[-2::-1], right[-2::-1], strict=True):
        less = (one < other) | ((one == other) & less)
    return less
