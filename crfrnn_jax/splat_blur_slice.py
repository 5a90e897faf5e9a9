"""The three passes of the filter: from points to vertices, among those, and back.

Each works on the first `rows` rows of a lattice: it is for the caller to choose enough
of them. Vertices have `padded` channels, of which those beyond the values' are 0.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from crfrnn_jax.indexing import take
from crfrnn_jax.lattice import PIECE, Lattice, piece_numbers
from crfrnn_jax.simplex import sum_rows

# Channels that a CPU computes at once, and the least for which their padding pays.
_LANES = 8
_FEW = 16


def padded(channels: int) -> int:
    """Channels of the vertices: whole vectors of a CPU, but for few channels."""
    return channels if channels <= _FEW else -(-channels // _LANES) * _LANES


def splat(lattice: Lattice, rows: int, values: jax.Array) -> jax.Array:
    """Adds the values [points, channels] to each point's vertices: [rows, padded]."""
    channels = values.shape[1]
    entries = lattice.entries.places.size
    places_of, weights_of, vertex_of = (
        field.reshape(-1) for field in lattice.entries[1:]
    )
    values = _in_memory(lattice, partial(take, ids=lattice.entries.order), values)
    starts = lattice.piece_starts[: piece_numbers(entries, rows) + 1]
    start, following = starts[:-1], starts[1:]
    # Where the next number is no piece's, this one ends at a multiple of `PIECE`.
    multiple = (start // PIECE + 1) * PIECE
    last = jnp.minimum(following, multiple) - 1
    # A piece's last entry takes the places that are left in it, and divides its weight
    # between them: places of weight 0 would make NaN of what is infinite.
    part_of_last = 1 / (PIECE - (last - start)).astype(values.dtype)

    # XLA's CPU backend would gather the weights alone, into arrays of their own. This
    # one it never makes, and reads the weights where they are multiplied.
    weights_of = jnp.broadcast_to(weights_of[:, None], (entries, channels))

    # A scatter of all the entries runs on one thread of a CPU, and longer than to
    # gather them by pieces; what is left to scatter are the pieces' sums.
    def share(place):
        entry = jnp.minimum(start + place, last)
        part = jnp.where(entry == last, part_of_last, 1)
        weight = part[:, None] * take(weights_of, entry)
        return weight * take(values, take(places_of, entry))

    sums = sum_rows(map(share, range(PIECE)))
    vertex = take(vertex_of, jnp.minimum(start, entries - 1))
    vertex = jnp.where(start < entries, vertex, rows)
    nothing = jnp.zeros((rows, padded(channels)), values.dtype)
    return nothing.at[vertex, :channels].add(
        sums, mode="drop", wrap_negative_indices=False
    )


def mix(vertices: jax.Array, mixing: jax.Array) -> jax.Array:
    """Mixes the channels by [mixed, channels], the product with its transpose."""
    padding = [(0, padded(size) - size) for size in mixing.shape]
    return jnp.matmul(vertices, jnp.pad(mixing, padding).T, precision="highest")


def blur(
    lattice: Lattice, rows: int, vertices: jax.Array, *, reverse: bool = False
) -> jax.Array:
    """Blurs [rows, padded] with (1/4, 1/2, 1/4) along every axis.

    First to last, or last to first if `reverse`, which is the transpose.
    """
    num_axes = len(lattice.neighbours)
    in_use = jnp.arange(rows, dtype=jnp.int32) < lattice.num_vertices

    def blur_axis(turn, vertices):
        axis = num_axes - 1 - turn if reverse else turn

        def neighbour(vertices, ids):
            exists = ids < lattice.num_vertices
            ids = jnp.minimum(ids, rows - 1)
            return jnp.where(exists[:, None], take(vertices, ids), 0)

        def blur_rows(vertices):
            forward, backward = (
                neighbour(vertices, ids) for ids in lattice.neighbours[axis, :, :rows]
            )
            blurred = 0.25 * forward + 0.5 * vertices + 0.25 * backward
            # The other rows are 0 anyway. But a loop over few channels that does little
            # LLVM unrolls, and then it does not vectorise it; with this and the padding
            # the loop over 17 to 24 channels is long enough.
            return jnp.where(in_use[:, None], blurred, 0)

        return _in_memory(lattice, blur_rows, vertices)

    # Two axes a turn, so that the second is written where the first was read: XLA
    # copies what a loop carries from one buffer to another.
    def blur_two_axes(turn, vertices):
        return blur_axis(2 * turn + 1, blur_axis(2 * turn, vertices))

    vertices = lax.fori_loop(0, num_axes // 2, blur_two_axes, vertices)
    return blur_axis(num_axes - 1, vertices) if num_axes % 2 else vertices


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


def _in_memory(
    lattice: Lattice, function: Callable[[jax.Array], jax.Array], argument: jax.Array
) -> jax.Array:
    """function(argument), of the argument's shape, computed once and before it is read.

    XLA's CPU backend would fuse it into what reads it, and compute it anew for each
    index that is read. It does not fuse through a condition; this one always holds, but
    XLA does not know.
    """

    def in_memory(argument):
        some = lattice.num_vertices > 0
        # Were it the argument that the other branch returns, XLA would copy the result.
        return lax.cond(some, function, jnp.zeros_like, argument)

    return lax.platform_dependent(argument, cpu=in_memory, default=function)
