"""A CRF that is checked and set up: what inference iterates on, and energies are of."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from crfrnn_jax.checks import (
    InputError,
    check_floating,
    check_mask,
    check_real,
)
from crfrnn_jax.kernel_filters import Filter, Kernel, PreparedKernel, normalised_filter
from crfrnn_jax.kernels import check_kernel


class Model(NamedTuple):
    """A CRF that is set up: what its iterations and its energies take.

    Attributes:
      unary: float [points, labels], logits; 0 where the mask is False.
      mask: bool [points] or None.
      filters: of each kernel.
      mixings: of each kernel [labels, labels], or all [iterations, labels, labels].
    """

    unary: jax.Array
    mask: jax.Array | None
    filters: list[Filter]
    mixings: list[jax.Array]

    def valid(self, values: jax.Array) -> jax.Array:
        """Values [points, channels], 0 where the mask is False."""
        return values if self.mask is None else jnp.where(self.mask[:, None], values, 0)


def check_model(
    logits: jax.typing.ArrayLike,
    kernels: Sequence[Kernel],
    compatibility: jax.typing.ArrayLike,
    mask: jax.typing.ArrayLike | None,
    num_iterations: int | None = None,
) -> None:
    """Checks what makes a model; matrices of each iteration need their number.

    Raises:
      InputError: naming the argument.
    """
    check_floating("logits", logits)
    shape = jnp.shape(logits)
    if len(shape) < 2 or 0 in shape:
        raise InputError(
            "logits: expected shape [*shape, labels], at least [points, labels], none "
            f"of them 0, got {list(shape)}"
        )
    points, labels = math.prod(shape[:-1]), shape[-1]
    is_sequence = isinstance(kernels, list | tuple)
    if not is_sequence or not kernels:
        raise InputError(
            "kernels: expected a list of one or more GaussianKernel, got "
            f"{kernels if is_sequence else type(kernels).__name__}"
        )
    for i, kernel in enumerate(kernels):
        name = f"kernels[{i}]"
        if isinstance(kernel, PreparedKernel):
            of_kernel = kernel.points
            _check_same_mask(name, kernel.mask, mask)
        else:
            of_kernel = check_kernel(name, kernel)
        if of_kernel != points:
            raise InputError(
                f"{name}.features: expected as many points as the logits "
                f"{list(shape)} have, {points}, got {of_kernel}"
            )
        # Logits of points in a row may be a grid's as well.
        if (
            kernel.grid is not None
            and len(shape) > 2
            and tuple(kernel.grid) != shape[:-1]
        ):
            raise InputError(
                f"{name}.grid: expected the logits' {list(shape[:-1])}, got "
                f"{list(kernel.grid)}"
            )
        _check_form(f"{name}.weights", kernel.weights, labels, num_iterations)
    _check_form("compatibility", compatibility, labels, num_iterations)
    if mask is not None:
        sizes = {f"axis{i}": side for i, side in enumerate(shape[:-1])}
        check_mask("mask", mask, " ".join(sizes), sizes)


def _check_same_mask(name, prepared, mask) -> None:
    """Raises InputError if a kernel is known to be prepared with another mask."""
    if prepared is not None and mask is not None:
        if isinstance(prepared, Tracer) or isinstance(mask, Tracer):
            return
        if np.array_equal(prepared, np.reshape(mask, -1)):
            return
    elif prepared is mask:
        return
    raise InputError(
        f"mask: expected the one with which {name} was prepared, "
        f"{'none' if prepared is None else 'one'}, got "
        f"{'none' if mask is None else 'another'}"
    )


def _check_form(name, form, labels, num_iterations) -> None:
    """A number, a vector or a matrix of the labels, or one for each iteration."""
    check_real(name, form)
    shapes = [(), (labels,), (labels, labels)]
    if num_iterations is not None:
        shapes.append((num_iterations, labels, labels))
    if jnp.shape(form) not in shapes:
        raise InputError(
            f"{name}: expected one of the shapes {shapes}, of {labels} labels, got "
            f"{jnp.shape(form)}"
        )


def set_up(
    logits: jax.Array,
    kernels: Sequence[Kernel],
    compatibility: jax.typing.ArrayLike,
    mask: jax.Array | None,
) -> Model:
    """The model of arguments that are checked, as those of `mean_field`."""
    dtype = np.promote_types(logits.dtype, np.float32)
    labels = logits.shape[-1]
    unary = logits.astype(dtype).reshape(-1, labels)
    if mask is not None:
        # Padding may hold anything, NaN too, which no later product would make zero.
        mask = mask.reshape(-1)
        unary = jnp.where(mask[:, None], unary, 0)
    weights = [_as_matrix(kernel.weights, labels, dtype) for kernel in kernels]
    compatibility, *weights = _with_iterations(
        [_as_matrix(compatibility, labels, dtype), *weights]
    )
    return Model(
        unary,
        mask,
        [_filter_of(kernel, dtype, mask) for kernel in kernels],
        [jnp.matmul(compatibility, w, precision="highest") for w in weights],
    )


def _filter_of(kernel, dtype, mask) -> Filter:
    if isinstance(kernel, PreparedKernel):
        return kernel.filter_values
    return normalised_filter(kernel, dtype, mask)


def _as_matrix(form: jax.typing.ArrayLike, labels: int, dtype) -> jax.Array:
    """A number as a multiple of the identity, a vector as a diagonal."""
    form = jnp.asarray(form).astype(dtype)
    if form.ndim > 1:
        return form
    identity = jnp.eye(labels, dtype=dtype)
    return identity * (form if form.ndim == 0 else form[:, None])


def _with_iterations(matrices: list[jax.Array]) -> list[jax.Array]:
    """All with the leading axis of iterations, if one has it."""
    stacked = [len(matrix) for matrix in matrices if matrix.ndim == 3]
    if not stacked:
        return matrices
    shape = (stacked[0], *matrices[0].shape[-2:])
    return [jnp.broadcast_to(matrix, shape) for matrix in matrices]


def restore(model: Model, refined: jax.Array, given: jax.Array) -> jax.Array:
    """Logits [..., points, labels] in the given ones' shape, kept where masked."""
    leading = refined.shape[: refined.ndim - 2]
    if model.mask is not None:
        kept = given.astype(refined.dtype).reshape(refined.shape[-2:])
        mask = jnp.broadcast_to(model.mask[:, None], refined.shape)
        refined = jnp.where(mask, refined, jnp.broadcast_to(kept, refined.shape))
    return refined.reshape(leading + given.shape)
