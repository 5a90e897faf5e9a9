"""Mean-field inference of a dense CRF with any Gaussian kernels.

The energy is E(x) = -sum_i U_i(x_i) + sum_{i<j} sum_m M_m(x_i, x_j) k_m(i, j), with
logits U, kernels k_m and matrices M_m = compatibility @ weights of the kernel. Points
lie in any shape: a signal's, an image's, a volume's, or none.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from crfrnn_jax.checks import (
    InputError,
    check_at_least,
    check_positive,
    check_scalar,
)
from crfrnn_jax.crf_model import check_model, restore, set_up
from crfrnn_jax.iterations import iterate, step
from crfrnn_jax.kernel_filters import Kernel


def mean_field(
    logits: jax.typing.ArrayLike,
    kernels: Sequence[Kernel],
    *,
    compatibility: jax.typing.ArrayLike = -1.0,
    mask: jax.typing.ArrayLike | None = None,
    num_iterations: int = 5,
    damping: jax.typing.ArrayLike = 0.0,
) -> jax.Array:
    """Refines logits with mean-field inference of a dense CRF.

    `crf_rnn` is the case of a spatial and a bilateral kernel of an image.
    Differentiable with respect to the logits and all arrays of the kernels and the
    compatibility. For a batch, `jax.lax.map` over its items.

    Args:
      logits: float [*shape, labels], log-probabilities up to a constant per point;
        [points, labels] for a cloud of points, [height, width, labels] for an image.
      kernels: one or more, of as many points as the logits, in row-major order; or, for
        kernels that are used again, what `prepare_kernel` made of them.
      compatibility: applied to the sum of the kernels' weighted messages, and
        subtracted from the logits: one number times the identity, [labels] on a
        diagonal, or [labels, labels], row = label that receives; or [num_iterations,
        labels, labels]. What is positive is a cost: -1, which rewards a label for
        meeting itself, is the Potts model.
      mask: bool [*shape], False at points that neither send nor receive, count in no
        normaliser, and keep their logits, whatever they hold.
      num_iterations: at least 0; 0 returns the logits.
      damping: at least 0 and below 1, the share of the logits so far that an iteration
        keeps. With kernels whose filter is symmetric, and symmetric matrices
        compatibility @ weights, enough of it makes every iteration lower `free_energy`.

    Returns:
      Logits [*shape, labels] of the last iteration, not normalised; float32, or in
      JAX's 64-bit mode float64 if the logits are.

    Raises:
      ValueError: naming the argument whose rank, size, dtype or value is wrong.

    References:
      Krähenbühl, Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian
      Edge Potentials", NIPS 2011. Zheng et al., "Conditional Random Fields as Recurrent
      Neural Networks", ICCV 2015.

    Examples:
      A signal of five samples, of which one is mistaken:

      >>> signal = np.array([[0.0], [0.1], [0.0], [5.0], [5.1]], np.float32)
      >>> logits = np.array([[1, 0], [0, 0.5], [1, 0], [0, 1], [0, 1]], np.float32)
      >>> kernel = bilateral_kernel(signal, 3.0, 1.0, dims=1, weights=2.0)
      >>> mean_field(logits, [kernel]).argmax(-1).tolist()
      [0, 0, 0, 1, 1]
    """
    model = logits, kernels, compatibility, mask
    return _run(model, num_iterations, damping, keep_all=False)


def mean_field_trajectory(
    logits: jax.typing.ArrayLike,
    kernels: Sequence[Kernel],
    *,
    compatibility: jax.typing.ArrayLike = -1.0,
    mask: jax.typing.ArrayLike | None = None,
    num_iterations: int = 5,
    damping: jax.typing.ArrayLike = 0.0,
) -> jax.Array:
    """As `mean_field`, with the logits of every iteration: for plots and diagnosis.

    Args:
      logits: as in `mean_field`, and so are the others.
      kernels: see there.
      compatibility: see there.
      mask: see there.
      num_iterations: see there.
      damping: see there.

    Returns:
      Logits [num_iterations + 1, *shape, labels]; the first are those given.

    Raises:
      ValueError: as `mean_field` does.

    Examples:
      >>> kernel = spatial_kernel((4,), 1.0)
      >>> logits = np.array([[1, 0], [0, 0.1], [1, 0], [1, 0]], np.float32)
      >>> mean_field_trajectory(logits, [kernel]).argmax(-1)[:2].tolist()
      [[0, 1, 0, 0], [0, 0, 0, 0]]
    """
    model = logits, kernels, compatibility, mask
    return _run(model, num_iterations, damping, keep_all=True)


class Converged(NamedTuple):
    """What `mean_field_until` ended with.

    Attributes:
      logits: float [*shape, labels], of the last iteration.
      num_iterations: int32 scalar, how many there were.
      change: float scalar, the largest change of a marginal by the last of them;
        infinite before the first.

    Examples:
      >>> result = mean_field_until(np.eye(2, dtype=np.float32), [spatial_kernel((2,))])
      >>> bool(result.change <= 1e-3)
      True
    """

    logits: jax.Array
    num_iterations: jax.Array
    change: jax.Array


def mean_field_until(
    logits: jax.typing.ArrayLike,
    kernels: Sequence[Kernel],
    *,
    tolerance: jax.typing.ArrayLike = 1e-3,
    max_iterations: int = 100,
    compatibility: jax.typing.ArrayLike = -1.0,
    mask: jax.typing.ArrayLike | None = None,
    damping: jax.typing.ArrayLike = 0.0,
) -> Converged:
    """As `mean_field`, until no marginal changes by more than a tolerance.

    A loop of unknown length: differentiable in forward mode alone.

    Args:
      logits: as in `mean_field`, and so are those not described here.
      kernels: see there.
      tolerance: positive, of the largest change of a marginal of a valid point.
      max_iterations: at least 0, the most iterations.
      compatibility: see there; iterations share it, and the kernels' weights.
      mask: see there.
      damping: see there.

    Returns:
      The last logits, the number of iterations, and the last change: above the
      tolerance if the iterations were used up.

    Raises:
      ValueError: naming the argument whose rank, size, dtype or value is wrong.

    Examples:
      >>> logits = np.array([[1, 0], [0, 0.1], [1, 0], [1, 0]], np.float32)
      >>> result = mean_field_until(logits, [spatial_kernel((4,))], tolerance=1e-4)
      >>> result.logits.argmax(-1).tolist(), bool(result.num_iterations < 100)
      ([0, 0, 0, 0], True)
    """
    check_positive("tolerance", tolerance)
    check_at_least("max_iterations", max_iterations, 0)
    check_model(logits, kernels, compatibility, mask)
    _check_damping(damping)
    return _until(
        logits,
        tuple(kernels),
        compatibility,
        mask,
        _or_none(damping),
        tolerance,
        min(int(max_iterations), 2**31 - 1),
    )


def _run(
    model: tuple[Any, ...],
    num_iterations: int,
    damping: jax.typing.ArrayLike,
    *,
    keep_all: bool,
) -> jax.Array:
    """Checks all arguments, and iterates."""
    check_at_least("num_iterations", num_iterations, 0)
    logits, kernels, compatibility, mask = model
    check_model(logits, kernels, compatibility, mask, num_iterations)
    _check_damping(damping)
    return _scanned(
        logits,
        tuple(kernels),
        compatibility,
        mask,
        _or_none(damping),
        num_iterations=int(num_iterations),
        keep_all=keep_all,
    )


@partial(jax.jit, static_argnames=("num_iterations", "keep_all"))
def _scanned(
    logits, kernels, compatibility, mask, damping, *, num_iterations, keep_all
):
    model = set_up(logits, kernels, compatibility, mask)
    last, kept = iterate(model, num_iterations, damping, keep_all=keep_all)
    if kept is not None:
        last = jnp.concatenate([model.unary[None], kept])
    return restore(model, last, logits)


@jax.jit
def _until(
    logits, kernels, compatibility, mask, damping, tolerance, max_iterations
) -> Converged:
    model = set_up(logits, kernels, compatibility, mask)

    def goes_on(state):
        return (state.num_iterations < max_iterations) & (state.change > tolerance)

    def go_on(state):
        updated = step(model, state.logits, model.mixings, damping)
        changes = jnp.abs(jax.nn.softmax(updated) - jax.nn.softmax(state.logits))
        change = jnp.max(model.valid(changes))
        return Converged(updated, state.num_iterations + 1, change)

    first = jnp.asarray(jnp.inf, model.unary.dtype)
    last = lax.while_loop(goes_on, go_on, Converged(model.unary, jnp.int32(0), first))
    return last._replace(logits=restore(model, last.logits, logits))


def _or_none(damping: jax.typing.ArrayLike) -> jax.typing.ArrayLike | None:
    """None for a zero that is known: no damping is to cost nothing."""
    return None if isinstance(damping, int | float) and damping == 0 else damping


def _check_damping(damping: jax.typing.ArrayLike) -> None:
    check_scalar("damping", damping)
    if not isinstance(damping, Tracer) and not 0 <= np.asarray(damping) < 1:
        raise InputError(f"damping: expected at least 0 and below 1, got {damping}")
