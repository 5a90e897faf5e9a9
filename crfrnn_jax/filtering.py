"""Gaussian filtering on a permutohedral lattice: splat, blur, slice.

With S the [vertices, points] matrix of barycentric weights and B_a the blur along axis
a, the filter is (slice gain) S^T B_d ... B_1 B_0 S. Every B_a is symmetric, so the
transpose is the same filter with the axes in reverse order.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from crfrnn_jax.checks import InputError, check_floating, check_shape
from crfrnn_jax.lattice import Lattice, with_weights
from crfrnn_jax.room_filters import (
    cotangents,
    divide_and_subtract,
    splat_blur_and_slice,
    tangent,
)
from crfrnn_jax.splat_blur_slice import mix


def filter_lattice(
    lattice: Lattice,
    values: jax.typing.ArrayLike,
    mixing: jax.typing.ArrayLike | None = None,
    *,
    divisor: jax.typing.ArrayLike | None = None,
    minuend: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """Filters values with the Gaussian kernel of the lattice's features.

    Approximates sum_j exp(-|f_i - f_j|^2 / 2) v_j up to a constant factor and without
    normalisation, in time linear in the points. The blur weights are (1/4, 1/2, 1/4)
    and the slice gain is 1 / (1 + 2^-d), after Adams et al. (2010). Krähenbühl and
    Koltun's C++ blurs with (1/2, 1, 1/2), so it returns 2^(d+1) times as much, which is
    within a third of `exact_filter` for smooth data and d up to 6. The factor cancels
    where the filter is normalised.

    Linear in `values`, but for a minuend; its derivative with respect to them is its
    transpose, the same filter with the blur order reversed. Also differentiable, in
    forward and reverse mode, with respect to the mixing, the divisor and the minuend,
    and to the features the lattice was built from: through the barycentric weights,
    with the vertices held fixed; once, a second derivative in which they take part is
    an error.

    Args:
      lattice: from `build_lattice`.
      values: float [points, channels].
      mixing: finite float [mixed, channels]; if given, the result is that of values
        @ mixing.T. Faster than to mix before, as it is done among the vertices, of
        which there mostly are fewer than points.
      divisor: float [points, 1], not 0; if given, by what the result is divided then.
      minuend: float [points, channels], or [points, mixed]; if given, from what the
        result is subtracted then. With `mixing` both are faster than afterwards, as
        each point's result is not stored before. All is computed in the precision of
        `values`, if that is not half, else in float32.

    Returns:
      [points, channels], or [points, mixed], in the dtype of `values`.

    Raises:
      ValueError: `lattice` is none, or one of the arrays has the wrong rank, size or
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
    check_filtered(values, mixing, divisor, minuend, points)
    return _filter_lattice(lattice, values, mixing, divisor, minuend)


def check_filtered(
    values: jax.typing.ArrayLike,
    mixing: jax.typing.ArrayLike | None,
    divisor: jax.typing.ArrayLike | None,
    minuend: jax.typing.ArrayLike | None,
    points: int | None = None,
) -> None:
    """Raises InputError unless these can be `filter_lattice`'s arguments."""
    of_points = {} if points is None else {"points": points}
    sizes = check_shape("values", values, "points channels", of_points)
    check_floating("values", values)
    if mixing is not None:
        of_channels = {"channels": sizes["channels"]}
        sizes |= check_shape("mixing", mixing, "mixed channels", of_channels)
        check_floating("mixing", mixing)
    if divisor is not None:
        of_divisor = {"points": sizes["points"], "one": 1}
        check_shape("divisor", divisor, "points one", of_divisor)
        check_floating("divisor", divisor)
    if minuend is not None:
        axes = "points channels" if mixing is None else "points mixed"
        check_shape("minuend", minuend, axes, {a: sizes[a] for a in axes.split()})
        check_floating("minuend", minuend)


@jax.jit
def _filter_lattice(
    lattice: Lattice,
    values: jax.Array,
    mixing: jax.Array | None = None,
    divisor: jax.Array | None = None,
    minuend: jax.Array | None = None,
) -> jax.Array:
    # Sums over thousands of points would stop growing in a half-precision mantissa.
    dtype = np.promote_types(values.dtype, np.float32)
    if lattice.barycentric.dtype != dtype:
        lattice = with_weights(lattice, lattice.barycentric.astype(dtype))
    arguments = values, mixing, divisor, minuend
    wide = jax.tree.map(lambda argument: argument.astype(dtype), arguments)
    if mixing is None:
        filtered = _filter(lattice, wide[0])
        filtered = divide_and_subtract(filtered, *wide[2:])
    else:
        filtered = _filter_and_mix(lattice, *wide)
    return filtered.astype(values.dtype)


@jax.custom_jvp
def _filter(lattice: Lattice, values: jax.Array) -> jax.Array:
    return _linear(
        partial(splat_blur_and_slice, lattice),
        partial(splat_blur_and_slice, lattice, reverse=True),
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
        moved = tangent(lattice, values, of_values, of_weights.T)
        return jnp.concatenate([moved, jnp.zeros_like(of_weights)], axis=1)

    def cotangents_of(cotangent):
        of_values, of_weights = cotangents(lattice, values, cotangent[:, :channels])
        return jnp.concatenate([of_values, of_weights.T], axis=1)

    return _linear(tangent_of, cotangents_of, side_by_side)[:, :channels]


@jax.custom_jvp
def _filter_and_mix(
    lattice: Lattice,
    values: jax.Array,
    mixing: jax.Array,
    divisor: jax.Array | None,
    minuend: jax.Array | None,
) -> jax.Array:
    # Behind a barrier nothing of it is known before `values` are. Else reverse mode
    # through a loop with a fixed lattice would take what follows from the lattice alone
    # out of the loop: arrays for every room.
    lattice, values, mixing = lax.optimization_barrier((lattice, values, mixing))
    return splat_blur_and_slice(lattice, values, mixing, divisor, minuend)


@partial(_filter_and_mix.defjvp, symbolic_zeros=True)
def _filter_and_mix_jvp(primals, tangents):
    """That of values which are mixed before, so that reverse mode keeps but `values`.

    Were they mixed after, it would have to keep what is filtered. That it keeps if the
    divisor moves: from the result it can't be had where the minuend is infinite.
    """
    lattice, values, mixing, divisor, minuend = primals
    of_lattice, of_values, of_mixing, of_divisor, of_minuend = tangents
    mixed = mix(values, mixing)
    of_mixed = jnp.zeros_like(mixed)
    if not isinstance(of_values, SymbolicZero):
        of_mixed += mix(of_values, mixing)
    if not isinstance(of_mixing, SymbolicZero):
        of_mixed += mix(values, of_mixing)
    filters = of_lattice.barycentric, of_values, of_mixing
    if all(isinstance(tangent, SymbolicZero) for tangent in filters):
        moved = of_mixed
    else:
        moved = _tangent_of_filter(lattice, mixed, of_lattice, of_mixed)
    if divisor is None or isinstance(of_divisor, SymbolicZero):
        result = _filter_and_mix(*primals)
    else:
        quotient = _filter_and_mix(lattice, values, mixing, divisor, None)
        result = divide_and_subtract(quotient, None, minuend)
        moved -= quotient * of_divisor
    if isinstance(of_minuend, SymbolicZero):
        of_minuend = jnp.zeros_like(minuend)
    return result, divide_and_subtract(moved, divisor, of_minuend)


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
