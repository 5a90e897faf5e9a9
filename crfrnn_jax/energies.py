"""Energies of labellings and marginals, and what marginals say.

The energy is that of `crfrnn_jax.inference`. Each pair of points counts once; a point
with itself, which the filters keep as all implementations do, counts by half. With the
lattice, whose blurs along the axes do not commute, both hold nearly.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.core import Tracer

from crfrnn_jax.checks import (
    InputError,
    check_floating,
    check_integers,
    check_same_shape,
)
from crfrnn_jax.inference import check_model
from crfrnn_jax.iterations import Model, set_up
from crfrnn_jax.kernels import Kernel


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


def map_labels(marginal_logits: jax.typing.ArrayLike) -> jax.Array:
    """The likeliest label of each point's marginal, int32 [*shape]; of a tie the first.

    Raises:
      ValueError: not floating, without an axis of labels, or NaN, if that is known: it
        would pass for a label.

    Examples:
      >>> map_labels(np.array([[0.1, 2.0], [3.0, 1.0]], np.float32)).tolist()
      [1, 0]
    """
    _check_marginal_logits(marginal_logits)
    known = not isinstance(marginal_logits, Tracer)
    if known and jnp.isnan(jnp.asarray(marginal_logits)).any():
        raise InputError("marginal_logits: expected numbers, got NaN in some points")
    return jnp.argmax(jnp.asarray(marginal_logits), axis=-1).astype(jnp.int32)


def marginal_entropy(marginal_logits: jax.typing.ArrayLike) -> jax.Array:
    """The entropy of each point's marginal, [*shape] in 0..log(labels) nats.

    How unsure the result is of a point.

    Raises:
      ValueError: not floating, or without an axis of labels.

    Examples:
      >>> logits = np.array([[0.0, 0.0], [50.0, 0.0]], np.float32)
      >>> print(np.asarray(marginal_entropy(logits)).round(3))
      [0.693 0.   ]
    """
    _check_marginal_logits(marginal_logits)
    logits = jnp.asarray(marginal_logits)
    is_impossible = jnp.all(logits == -jnp.inf, axis=-1)  # no marginal at all
    return jnp.where(is_impossible, jnp.nan, -jnp.sum(_q_log_q(logits), axis=-1))


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
    negentropy = model.valid(_q_log_q(current))
    return _expected_energy(model, marginals) + jnp.sum(negentropy)


def _expected_energy(model: Model, marginals: jax.Array) -> jax.Array:
    # Nothing where a logit is -inf, unless the label is taken.
    taken = jnp.where(marginals == 0, 0, model.unary)
    energy = -jnp.sum(marginals * taken)
    for filter_values, mixing in zip(model.filters, model.mixings, strict=True):
        energy += jnp.sum(marginals * filter_values(marginals, mixing)) / 2
    return energy


def _q_log_q(logits: jax.Array) -> jax.Array:
    """Q log Q of a softmax, 0 where Q is."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    log_q = jax.nn.log_softmax(logits)
    # Where a logit is -inf, as of a probability of 0: in the derivative, too.
    log_q = jnp.where(log_q == -jnp.inf, 0, log_q)
    return jnp.where(logits == -jnp.inf, 0, jnp.exp(log_q) * log_q)


def _check_marginal_logits(marginal_logits: jax.typing.ArrayLike) -> None:
    check_floating("marginal_logits", marginal_logits)
    if jnp.ndim(marginal_logits) == 0 or jnp.shape(marginal_logits)[-1] == 0:
        raise InputError(
            "marginal_logits: expected shape [*shape, labels], got "
            f"{list(jnp.shape(marginal_logits))}"
        )


def _check_symmetric(kernels: Sequence[Kernel]) -> None:
    for i, kernel in enumerate(kernels):
        if kernel.normalisation not in ("none", "symmetric"):
            raise InputError(
                f"kernels[{i}].normalisation: expected 'none' or 'symmetric', without "
                f"which there is no energy, got {kernel.normalisation!r}"
            )
