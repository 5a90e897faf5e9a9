"""Energies of labellings and of marginals.

The energy is that of `crfrnn_jax.inference`. Each pair of points counts once; a point
with itself, which the filters keep as all implementations do, counts by half. With the
lattice, whose blurs along the axes do not commute, both hold nearly.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from crfrnn_jax.checks import (
    InputError,
    check_floating,
    check_integers,
    check_same_shape,
)
from crfrnn_jax.crf_model import Model, check_model, set_up
from crfrnn_jax.kernel_filters import Kernel
from crfrnn_jax.marginals import q_log_q


def labelling_energy(
    labels: jax.typing.ArrayLike,
    logits: jax.typing.ArrayLike,
    kernels: Sequence[Kernel],
    *,
    compatibility: jax.typing.ArrayLike = -1.0,
    mask: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """The energy E(x) of a labelling; less is likelier.

    -sum_i U_i(x_i) + 1/2 sum_ij sum_m M_m(x_i, x_j) k_m(i, j), of matrices M_m =
    compatibility @ weights.

    Args:
      labels: int [*shape], each in 0..labels - 1 where the mask is True.
      logits: as in `mean_field`, U.
      kernels: as in `mean_field`, with a normalisation that leaves them symmetric,
        "none" or "symmetric".
      compatibility: as in `mean_field`; as the weights, shared by all iterations, and
        of the product the symmetric part counts.
      mask: as in `mean_field`; points where it is False do not count.

    Returns:
      Scalar; NaN if a label is out of range.

    Raises:
      ValueError: naming the argument that is wrong, or a kernel that is not symmetric.

    Examples:
      >>> kernel = spatial_kernel((3,), 1.0, weights=1.0, normalisation="symmetric")
      >>> logits = np.array([[1, 0], [0, 0], [1, 0]], np.float32)
      >>> same, other = (
      ...     labelling_energy(np.array([0, label, 0]), logits, [kernel])
      ...     for label in (0, 1)
      ... )
      >>> bool(same < other)
      True
    """
    check_model(logits, kernels, compatibility, mask)
    _check_symmetric(kernels)
    check_integers("labels", labels)
    check_same_shape("labels", labels, jnp.shape(logits)[:-1], "the points'")
    return _labelling_energy(labels, logits, tuple(kernels), compatibility, mask)


def free_energy(
    marginal_logits: jax.typing.ArrayLike,
    logits: jax.typing.ArrayLike,
    kernels: Sequence[Kernel],
    *,
    compatibility: jax.typing.ArrayLike = -1.0,
    mask: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """The mean-field free energy of marginals Q = softmax(marginal_logits).

    The expected energy less the entropy, E_Q[E(x)] - H(Q): the Kullback-Leibler
    divergence of Q from the CRF's distribution, up to the constant log Z, which no
    inference can change. Inference with enough damping lowers it in every iteration, if
    the matrices are symmetric, too.

    Args:
      marginal_logits: float [*shape, labels], as `mean_field` returns them.
      logits: as in `mean_field`, U.
      kernels: as in `labelling_energy`, and so are the others.
      compatibility: see there.
      mask: see there.

    Returns:
      Scalar, in nats.

    Raises:
      ValueError: naming the argument that is wrong, or a kernel that is not symmetric.

    References:
      Krähenbühl, Koltun, "Parameter Learning and Convergent Inference for Dense Random
      Fields", ICML 2013.

    Examples:
      >>> kernel = spatial_kernel((3,), 1.0, weights=1.0, normalisation="symmetric")
      >>> logits = np.array([[1, 0], [0, 0], [1, 0]], np.float32)
      >>> steps = mean_field_trajectory(logits, [kernel], damping=0.5)
      >>> energies = [free_energy(step, logits, [kernel]) for step in steps]
      >>> bool(energies[-1] < energies[0])
      True
    """
    check_model(logits, kernels, compatibility, mask)
    _check_symmetric(kernels)
    check_floating("marginal_logits", marginal_logits)
    check_same_shape(
        "marginal_logits", marginal_logits, jnp.shape(logits), "the logits'"
    )
    return _free_energy(marginal_logits, logits, tuple(kernels), compatibility, mask)


@jax.jit
def _labelling_energy(labels, logits, kernels, compatibility, mask):
    model = set_up(logits, kernels, compatibility, mask)
    # Of 8 bits, one-hot labels would wrap.
    labels = labels.reshape(-1).astype(jnp.int32)
    num_labels = model.unary.shape[1]
    one_hot = jax.nn.one_hot(labels, num_labels, dtype=model.unary.dtype)
    wrong = (labels < 0) | (labels >= num_labels)
    energy = _expected_energy(model, model.valid(one_hot))
    if mask is not None:
        wrong &= mask.reshape(-1)
    return jnp.where(jnp.any(wrong), jnp.nan, energy)


@jax.jit
def _free_energy(marginal_logits, logits, kernels, compatibility, mask):
    model = set_up(logits, kernels, compatibility, mask)
    current = marginal_logits.astype(model.unary.dtype).reshape(model.unary.shape)
    current = model.valid(current)
    marginals = model.valid(jax.nn.softmax(current))
    negentropy = model.valid(q_log_q(current))
    return _expected_energy(model, marginals) + jnp.sum(negentropy)


def _expected_energy(model: Model, marginals: jax.Array) -> jax.Array:
    # Nothing where a logit is -inf, unless the label is taken.
    taken = jnp.where(marginals == 0, 0, model.unary)
    energy = -jnp.sum(marginals * taken)
    for filter_values, mixing in zip(model.filters, model.mixings, strict=True):
        energy += jnp.sum(marginals * filter_values(marginals, mixing)) / 2
    return energy


def _check_symmetric(kernels: Sequence[Kernel]) -> None:
    for i, kernel in enumerate(kernels):
        if kernel.normalisation not in ("none", "symmetric"):
            raise InputError(
                f"kernels[{i}].normalisation: expected 'none' or 'symmetric', without "
                f"which there is no energy, got {kernel.normalisation!r}"
            )
