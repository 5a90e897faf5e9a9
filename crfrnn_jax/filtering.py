"""Gaussian filtering on a permutohedral lattice: splat, blur, slice.

With S the [vertices, points] matrix of barycentric weights and B_a the blur along axis
a, the filter is (slice gain) S^T B_d ... B_1 B_0 S. Every B_a is symmetric, so the
transpose is the same filter with the axes in reverse order.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from crfrnn_jax.checks import InputError, check_floating, check_shape
from crfrnn_jax.lattice import Lattice, with_weights
from crfrnn_jax.rooms import with_room
from crfrnn_jax.splat_blur_slice import (
    blur,
    in_splat_order,
    mix,
    mix_vertices,
    slice_gain,
    slice_vertices,
    splat,
    take_values,
)

# Work on so few channels, as a normaliser's one, has a choice of fewer rooms.
_NARROW = 2


def filter_lattice(
    lattice: Lattice,
    values: jax.typing.ArrayLike,
    mixing: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """Filters values with the Gaussian kernel of the lattice's features.

    Approximates sum_j exp(-|f_i - f_j|^2 / 2) v_j up to a constant factor and without
    normalisation, in time linear in the points. The blur weights are (1/4, 1/2, 1/4)
    and the slice gain is 1 / (1 + 2^-d), after Adams et al. (2010). Krähenbühl and
    Koltun's C++ blurs with (1/2, 1, 1/2), so it returns 2^(d+1) times as much, which is
    within a third of `exact_filter` for smooth data and d up to 6. The factor cancels
    where the filter is normalised.

    Linear in `values`; its derivative with respect to them is its transpose, the same
    filter with the blur order reversed. Also differentiable, in forward and reverse
    mode, with respect to the features the lattice was built from, through the
    barycentric weights, with the vertices held fixed; once, a second derivative in
    which they take part is an error.

    Args:
      lattice: from `build_lattice`.
      values: float [points, channels].
      mixing: finite float [mixed, channels]; if given, the result is that of values
        @ mixing.T. Faster than to mix before, as it is done among the vertices, of
        which there mostly are fewer than points.

    Returns:
      [points, channels], or [points, mixed], in the dtype of `values`.

    Raises:
      ValueError: `lattice` is none, or `values` or `mixing` has the wrong rank, size or
        dtype.
      NotImplementedError: a second derivative by the features is asked for.

    References:
      Adams, Baek, Davis, "Fast High-Dimensional Filtering Using the Permutohedral
      Lattice", Eurographics 2010. Krähenbühl, Koltun, "Efficient Inference in Fully
      Connected CRFs with Gaussian Edge Potentials", NIPS 2011.

    Examples:
      >>> features = np.array([[0.0], [0.1], [9.0]], np.float32)
      >>> values = np.array([[1.0], [3.0], [5.0]], np.float32)
      >>> lattice = build_lattice(features)
      >>> means = filter_lattice(lattice, values)
      >>> means /= filter_lattice(lattice, np.ones_like(values))
      >>> print(np.asarray(means).round(1).ravel())
      [2. 2. 5.]
    """
    if not isinstance(lattice, Lattice):
        raise InputError(
            f"lattice: expected one from build_lattice, got {type(lattice).__name__}"
        )
    points = lattice.barycentric.shape[1]
    sizes = check_shape("values", values, "points channels", {"points": points})
    check_floating("values", values)
    if mixing is not None:
        sizes = {"channels": sizes["channels"]}
        check_shape("mixing", mixing, "mixed channels", sizes)
        check_floating("mixing", mixing)
    return _filter_lattice(lattice, values, mixing)


@jax.jit
def _filter_lattice(
    lattice: Lattice, values: jax.Array, mixing: jax.Array | None = None
) -> jax.Array:
    # Sums over thousands of points would stop growing in a half-precision mantissa.
    dtype = np.promote_types(values.dtype, np.float32)
    if lattice.barycentric.dtype != dtype:
        lattice = with_weights(lattice, lattice.barycentric.astype(dtype))
    if mixing is None:
        filtered = _filter(lattice, values.astype(dtype))
    else:
        filtered = _filter_and_mix(lattice, values.astype(dtype), mixing.astype(dtype))
    return filtered.astype(values.dtype)


@jax.custom_jvp
def _filter(lattice: Lattice, values: jax.Array) -> jax.Array:
    return _linear(
        partial(_splat_blur_slice, lattice),
        partial(_splat_blur_slice, lattice, reverse=True),
        values,
    )


@partial(_filter.defjvp, symbolic_zeros=True)
def _filter_jvp(primals, tangents):
    """Linear in the values, quadratic in the weights, that splat and that slice.

    Autodiff would keep the vertices of every axis, for every choice of room.
    """
    return _filter(*primals), _tangent_of_filter(*primals, *tangents)


def _tangent_of_filter(lattice, values, of_lattice, of_values):
    """The filter's derivative, where either tangent may be a `SymbolicZero`."""
    of_weights = of_lattice.barycentric
    lattice = lattice._replace(barycentric=_differentiate_once(lattice.barycentric))
    if isinstance(of_weights, SymbolicZero):
        return _filter(lattice, of_values)

    if isinstance(of_values, SymbolicZero):
        of_values = jnp.zeros_like(values)
    values = _differentiate_once(values)
    # Side by side in one array, as `_linear` wants it.
    channels = values.shape[1]
    side_by_side = jnp.concatenate([of_values, of_weights.T], axis=1)

    def tangent_of(side_by_side):
        of_values, of_weights = jnp.split(side_by_side, [channels], axis=1)
        tangent = _tangent(lattice, values, of_values, of_weights.T)
        return jnp.concatenate([tangent, jnp.zeros_like(of_weights)], axis=1)

    def cotangents_of(cotangent):
        of_values, of_weights = _cotangents(lattice, values, cotangent[:, :channels])
        return jnp.concatenate([of_values, of_weights.T], axis=1)

    return _linear(tangent_of, cotangents_of, side_by_side)[:, :channels]


@jax.custom_jvp
def _filter_and_mix(
    lattice: Lattice, values: jax.Array, mixing: jax.Array
) -> jax.Array:
    # Behind a barrier nothing of it is known before `values` are. Else reverse mode
    # through a loop with a fixed lattice would take what follows from the lattice alone
    # out of the loop: arrays for every room.
    barred = lax.optimization_barrier((lattice, values, mixing))
    return _splat_blur_slice(*barred)


@partial(_filter_and_mix.defjvp, symbolic_zeros=True)
def _filter_and_mix_jvp(primals, tangents):
    """That of values which are mixed before, so that reverse mode keeps but `values`.

    Were they mixed after, it would have to keep what is filtered.
    """
    lattice, values, mixing = primals
    of_lattice, of_values, of_mixing = tangents
    mixed = mix(values, mixing)
    of_mixed = jnp.zeros_like(mixed)
    if not isinstance(of_values, SymbolicZero):
        of_mixed += mix(of_values, mixing)
    if not isinstance(of_mixing, SymbolicZero):
        of_mixed += mix(values, of_mixing)
    tangent = _tangent_of_filter(lattice, mixed, of_lattice, of_mixed)
    return _filter_and_mix(*primals), tangent


def _linear(
    function: Callable[[jax.Array], jax.Array],
    transposed: Callable[[jax.Array], jax.Array],
    argument: jax.Array,
) -> jax.Array:
    """Applies a linear function, from a shape to the same, whose transpose is given.

    As the "solution" of the identity: of the ways to give a transpose only this one has
    a batching rule. What the functions close over is not differentiated.
    """
    return lax.custom_linear_solve(
        lambda solution: solution,
        argument,
        solve=lambda _, given: function(given),
        transpose_solve=lambda _, given: transposed(given),
    )


@jax.custom_jvp
def _differentiate_once(array: jax.Array) -> jax.Array:
    """The array, in a derivative that does not pass on its own: lest that be zero."""
    return array


@_differentiate_once.defjvp
def _differentiate_once_jvp(primals, tangents):
    """Called for a tangent that is not zero, and so for a second derivative."""
    raise NotImplementedError(
        "filter_lattice: second derivatives in which the features take part are not "
        "implemented"
    )


def _splat_blur_slice(
    lattice: Lattice,
    values: jax.Array,
    mixing: jax.Array | None = None,
    *,
    reverse: bool = False,
) -> jax.Array:
    """The filter, or in reverse its transpose; mixed if `mixing` is given."""

    def in_room(rows, lattice, in_order, mixing):
        vertices = splat(lattice, rows, in_order)
        channels = in_order.shape[1]
        if mixing is not None:
            vertices = mix_vertices(vertices, mixing)
            channels = len(mixing)
        vertices = blur(lattice, vertices, reverse=reverse)
        return slice_vertices(lattice, vertices, channels)

    return _in_least_room(in_room, lattice, in_splat_order(lattice, values), mixing)


def _tangent(
    lattice: Lattice, values: jax.Array, of_values: jax.Array, of_weights: jax.Array
) -> jax.Array:
    """The filter's derivative along tangents of the values and of the weights."""

    def in_room(rows, lattice, in_order, tangent_in_order, of_weights):
        moved = with_weights(lattice, of_weights)
        vertices = blur(lattice, splat(lattice, rows, in_order))
        by_values = splat(lattice, rows, tangent_in_order)
        of_vertices = blur(lattice, by_values + splat(moved, rows, in_order))
        channels = in_order.shape[1]
        by_weights = slice_vertices(moved, vertices, channels)
        return by_weights + slice_vertices(lattice, of_vertices, channels)

    in_order = in_splat_order(lattice, values)
    tangent_in_order = in_splat_order(lattice, of_values)
    return _in_least_room(in_room, lattice, in_order, tangent_in_order, of_weights)


def _cotangents(
    lattice: Lattice, values: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The transpose of `_tangent`: the cotangents of the values and of the weights."""

    def in_room(rows, lattice, in_order, cotangent_in_order, values, cotangent):
        vertices = blur(lattice, splat(lattice, rows, in_order))
        back = splat(lattice, rows, cotangent_in_order)
        back = blur(lattice, back, reverse=True)
        channels = values.shape[1]

        def of_weight(ids):
            sliced = take_values(vertices, ids, channels)
            back_sliced = take_values(back, ids, channels)
            return jnp.sum(cotangent * sliced + values * back_sliced, axis=1)

        of_weights = jnp.stack([of_weight(ids) for ids in lattice.vertex_ids])
        of_values = slice_vertices(lattice, back, channels)
        return of_values, slice_gain(lattice) * of_weights

    in_order = in_splat_order(lattice, values)
    cotangent_in_order = in_splat_order(lattice, cotangent)
    return _in_least_room(
        in_room, lattice, in_order, cotangent_in_order, values, cotangent
    )


def _in_least_room(
    function: Callable[..., Any],
    lattice: Lattice,
    in_order: jax.Array,
    *arguments: jax.Array | None,
) -> Any:
    """Calls function(rows, lattice, in_order, *arguments) with rows for all vertices.

    Args:
      function: as `with_room` has it.
      lattice: the lattice.
      in_order: values, whose channels say how wide the work is.
      *arguments: more of them.
    """
    rows = lattice.neighbours.shape[2]
    narrow = in_order.shape[1] <= _NARROW
    given = lattice, in_order, *arguments
    return with_room(function, rows, lattice.num_vertices, *given, narrow=narrow)
