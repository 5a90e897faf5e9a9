"""The three passes of the filter: from points to vertices, among those, and back.

Each works on the first `num_blocks` blocks of a lattice's rows: enough for its vertices
in use, which is for the caller to choose.
"""

import functools
import operator

import jax
import jax.numpy as jnp
from jax import lax

from crfrnn_jax.lattice import Lattice


def splat(lattice: Lattice, num_blocks: int, values: jax.Array) -> jax.Array:
    """Adds the values [points, channels] to each point's vertices: [rows, channels]."""
    rows = num_blocks * lattice.neighbours.shape[3]

    # A scan, not a loop unrolled: XLA's CPU backend adds in place in either, but is a
    # quarter slower with the scatters side by side in one program.
    def add_corner(vertices, corner):
        ids, weights = corner
        share = weights[:, None] * values
        return vertices.at[ids].add(share, mode="promise_in_bounds"), None

    nothing = jnp.zeros((rows, values.shape[1]), values.dtype)
    return lax.scan(add_corner, nothing, (lattice.vertex_ids, lattice.barycentric))[0]


def blur(
    lattice: Lattice, num_blocks: int, vertices: jax.Array, *, reverse: bool = False
) -> jax.Array:
    """Blurs [rows, channels] with (1/4, 1/2, 1/4) along every axis.

    First to last, or last to first if `reverse`, which is the transpose.
    """
    neighbours = lattice.neighbours
    num_axes, _, _, block = neighbours.shape
    none = num_blocks * block - 1
    blocks_in_use = jnp.minimum(-(-lattice.num_vertices // block), num_blocks)

    def blur_axis(turn, source, target):
        """Writes the blurred blocks that are in use into `target`."""
        axis = num_axes - 1 - turn if reverse else turn

        def blur_block(i, target):
            before, after = jnp.minimum(neighbours[axis, :, i], none)
            own = lax.dynamic_slice_in_dim(source, i * block, block)
            blurred = 0.5 * own + 0.25 * (take(source, before) + take(source, after))
            return lax.dynamic_update_slice_in_dim(target, blurred, i * block, axis=0)

        return lax.fori_loop(0, blocks_in_use, blur_block, target)

    def blur_two_axes(turn, buffers):
        source, scratch = buffers
        scratch = blur_axis(2 * turn, source, scratch)
        return blur_axis(2 * turn + 1, scratch, source), scratch

    # A loop over the axes, not d + 1 fused steps, each of which XLA's CPU backend would
    # compute again for the next; two axes a turn, so that the two buffers come out in
    # the places they went in: XLA copies the carries of a loop that swaps them.
    buffers = (vertices, jnp.zeros_like(vertices))
    vertices, scratch = lax.fori_loop(0, num_axes // 2, blur_two_axes, buffers)
    if num_axes % 2:
        vertices = blur_axis(num_axes - 1, vertices, scratch)
    return vertices


def interpolate(lattice: Lattice, vertices: jax.Array) -> jax.Array:
    """Slices: each point's values from its d + 1 vertices, [points, channels]."""
    # One gather per corner: a single gather of all the corners is a [points, d + 1,
    # channels] array, and ten times slower on a CPU.
    corners = [
        weights[:, None] * take(vertices, ids)
        for ids, weights in zip(lattice.vertex_ids, lattice.barycentric, strict=True)
    ]
    return functools.reduce(operator.add, corners) * slice_gain(lattice)


def slice_gain(lattice: Lattice) -> float:
    """1 / (1 + 2^-d), the factor of Krähenbühl and Koltun's slicing."""
    return 1.0 / (1.0 + 2.0 ** (1 - len(lattice.barycentric)))


def take(vertices: jax.Array, ids: jax.Array) -> jax.Array:
    """Rows [ids, channels] of vertices that are known to be there."""
    return vertices.at[ids].get(mode="promise_in_bounds")
