"""The passes of the filter: from points to vertices, among those, and back.

Each works on the first `rows` rows of a lattice: it is for the caller to choose enough
of them. Vertices have `padded_channels`, of which those beyond the values' own are 0,
or NaN once something infinite was mixed, and leave no trace in the others.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from crfrnn_jax.entries import PIECE, piece_numbers, vertices_of_pieces
from crfrnn_jax.in_memory import in_memory
from crfrnn_jax.indexing import add, take
from crfrnn_jax.lattice import Lattice
from crfrnn_jax.simplex import sum_rows

# Channels that a CPU computes at once, and the most that are left as they are.
_LANES = 8
_FEW = 16


def padded_channels(channels: int) -> int:
    """Channels of the vertices: whole vectors of a CPU, but for few channels."""
    return channels if channels <= _FEW else -(-channels // _LANES) * _LANES


def in_splat_order(lattice: Lattice, values: jax.Array) -> jax.Array:
    """Values [points, channels] in the order in which `splat` reads them.

    They are to be in memory before it does, as what is handed to a choice of rooms is:
    XLA would fuse this into the splat, whose reads would wait for a CPU's caches. Those
    hold the values of lattices so small that they have one room.
    """
    order = lattice.entries.order
    return values if order is None else take(values, order)


def splat(lattice: Lattice, rows: int, in_order: jax.Array) -> jax.Array:
    """Adds points' values to their vertices: [rows, padded_channels].

    Args:
      lattice: the lattice.
      rows: how many of its rows.
      in_order: float [points, channels], from `in_splat_order`.
    """
    channels = in_order.shape[1]
    places = lattice.entries.places.reshape(-1)
    weights = lattice.entries.weights.reshape(-1)
    numbers = piece_numbers(len(weights), rows)
    first, last = (entry[:numbers] for entry in lattice.pieces)

    # XLA's CPU backend would gather the weights alone, into arrays of their own. This
    # one it never makes, and reads the weights where they are multiplied.
    wide_weights = jnp.broadcast_to(weights[:, None], (len(weights), channels))

    # A scatter of all the entries runs on one thread of a CPU, and longer than to
    # gather them by pieces; what is left to scatter are the pieces' sums.
    def share(slot):
        # The last entry again in the slots that are left, which its weight allows for.
        entry = jnp.minimum(first + slot, last)
        return take(wide_weights, entry) * take(in_order, take(places, entry))

    sums = sum_rows(map(share, range(PIECE)))
    vertex = vertices_of_pieces(first, len(weights), rows)
    nothing = jnp.zeros((rows, padded_channels(channels)), in_order.dtype)
    return add(nothing, vertex, sums)


def mix(values: jax.Array, mixing: jax.Array) -> jax.Array:
    """Mixes channels by [mixed, channels], the product with its transpose."""
    return jnp.matmul(values, mixing.T, precision="highest")


def mix_vertices(vertices: jax.Array, mixing: jax.Array) -> jax.Array:
    """Mixes vertices' channels: [rows, padded_channels] of before and of after."""
    padding = [(0, padded_channels(size) - size) for size in mixing.shape]
    return mix(vertices, jnp.pad(mixing, padding))


def blur(lattice: Lattice, vertices: jax.Array, *, reverse: bool = False) -> jax.Array:
    """Blurs [rows, padded_channels] with (1/4, 1/2, 1/4) along every axis.

    First to last, or last to first if `reverse`, which is the transpose.
    """
    num_axes, rows = len(lattice.neighbours), len(vertices)

    def blur_axis(axis, vertices):
        in_use = jnp.arange(rows, dtype=jnp.int32) < lattice.num_vertices
        forward, backward = (
            _take_if_any(lattice, vertices, ids)
            for ids in lattice.neighbours[axis, :, :rows]
        )
        blurred = 0.25 * forward + 0.5 * vertices + 0.25 * backward
        # The other rows are 0 anyway. But a loop over few channels that does little
        # LLVM unrolls, and then it does not vectorise it; with this and the padding
        # the loop over 17 to 24 channels is long enough.
        return jnp.where(in_use[:, None], blurred, 0)

    @jax.jit  # traced once for all turns
    def blur_in_turn(turn, vertices):
        axis = num_axes - 1 - turn if reverse else turn
        return in_memory(partial(blur_axis, axis), vertices)

    # Two axes a turn, so that the second is written where the first was read: XLA
    # copies what a loop carries from one buffer to another.
    def blur_two_axes(turn, vertices):
        return blur_in_turn(2 * turn + 1, blur_in_turn(2 * turn, vertices))

    vertices = lax.fori_loop(0, num_axes // 2, blur_two_axes, vertices)
    if num_axes % 2 == 0:
        return vertices
    # Behind a barrier its number is no constant, and it is compiled as the others are.
    return blur_in_turn(lax.optimization_barrier(num_axes - 1), vertices)


def slice_vertices(lattice: Lattice, vertices: jax.Array, channels: int) -> jax.Array:
    """Interpolates each point's values from its d + 1 vertices: [points, channels]."""
    # One gather per corner: a single gather of all the corners is a [points, d + 1,
    # channels] array, and ten times slower on a CPU.
    corners = [
        weights[:, None] * take_values(vertices, ids, channels)
        for ids, weights in zip(lattice.vertex_ids, lattice.barycentric, strict=True)
    ]
    return sum_rows(corners) * slice_gain(lattice)


def take_values(vertices: jax.Array, ids: jax.Array, channels: int) -> jax.Array:
    """The rows of the vertices with the given numbers: [ids, channels]."""
    return take(vertices, ids)[:, :channels]


def slice_gain(lattice: Lattice) -> float:
    """1 / (1 + 2^-d), the factor of Krähenbühl and Koltun's slicing."""
    return 1.0 / (1.0 + 2.0 ** (1 - len(lattice.barycentric)))


def _take_if_any(lattice: Lattice, vertices: jax.Array, ids: jax.Array) -> jax.Array:
    """The rows with the given numbers, 0 for a number that no vertex has."""
    rows = take(vertices, jnp.minimum(ids, len(vertices) - 1))
    return jnp.where((ids < lattice.num_vertices)[:, None], rows, 0)
