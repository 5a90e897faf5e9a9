"""The iterations of the mean field."""

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from crfrnn_jax.checks import InputError, check_choice, check_floating, check_shape
from crfrnn_jax.crf_model import Model
from crfrnn_jax.kernel_filters import Filter

Normalisation = Literal["softmax", "relu"]
NORMALISATIONS = get_args(Normalisation)


def mean_field_step(
    current: jax.Array,
    unary: jax.Array,
    filters: Sequence[Filter],
    mixings: Sequence[jax.Array],
    *,
    normalisation: Normalisation = "softmax",
) -> jax.Array:
    """One mean-field iteration, the function f of the recurrent network (section 4).

    Softmax, message passing, weighting, compatibility transform and the addition of the
    unary (algorithm 1), in the order that takes logits to logits.

    Args:
      current: float [points, labels], logits of the current marginals.
      unary: float [points, labels], the network's logits U.
      filters: of each kernel, as from `normalised_filter`.
      mixings: for each, float [labels, labels]: compatibility @ weights.
      normalisation: what makes marginals of logits: "softmax", or "relu", which divides
        their positive parts by the sum of these (the paper's section 5 finds it worse).

    Returns:
      float [points, labels], logits of the updated marginals: float64 if one of the
      logits is, else float32.

    Raises:
      ValueError: naming the argument whose rank, size, dtype or value is wrong.

    Examples:
      >>> unary = jnp.array([[1.0, 0.0], [0.0, 0.1]])
      >>> kernel = GaussianKernel(jnp.zeros((2, 1)), method="exact")
      >>> mixing = -3 * jnp.eye(2)
      >>> step = mean_field_step(unary, unary, [normalised_filter(kernel)], [mixing])
      >>> step.argmax(-1).tolist()
      [0, 0]
    """
    sizes = check_shape("unary", unary, "points labels")
    check_shape("current", current, "points labels", sizes)
    check_floating("unary", unary)
    check_floating("current", current)
    for name, given in (("filters", filters), ("mixings", mixings)):
        if not isinstance(given, list | tuple):
            raise InputError(f"{name}: expected a list, got {type(given).__name__}")
    for i, filter_values in enumerate(filters):
        if not callable(filter_values):
            raise InputError(
                f"filters[{i}]: expected one from normalised_filter, got "
                f"{type(filter_values).__name__}"
            )
    if len(filters) != len(mixings):
        raise InputError(
            f"mixings: expected one for each filter, {len(filters)}, got {len(mixings)}"
        )
    sides = {"labels": sizes["labels"], "labels'": sizes["labels"]}
    for i, mixing in enumerate(mixings):
        check_shape(f"mixings[{i}]", mixing, "labels labels'", sides)
        check_floating(f"mixings[{i}]", mixing)
    check_choice("normalisation", normalisation, NORMALISATIONS)
    # Messages of half precision would be rounded on their way.
    wide = (np.promote_types(logits.dtype, np.float32) for logits in (current, unary))
    dtype = np.promote_types(*wide)
    current, updated = current.astype(dtype), unary.astype(dtype)
    marginals = _softmax(current) if normalisation == "softmax" else _relu(current)
    # The filters act on each label alone, so labels may be mixed within them, by the
    # weights and the compatibility at once.
    for filter_values, mixing in zip(filters, mixings, strict=True):
        updated = filter_values(marginals, mixing, updated)
    return updated


@jax.custom_jvp
def _softmax(logits: jax.Array) -> jax.Array:
    return jax.nn.softmax(logits, axis=-1)


@_softmax.defjvp
def _softmax_jvp(primals, tangents):
    """Reverse mode keeps the marginals; by itself it would keep the exponentials, too.

    The one label map that is kept for each iteration.
    """
    marginals = _softmax(*primals)
    (tangent,) = tangents
    mean = jnp.sum(marginals * tangent, axis=-1, keepdims=True)
    return marginals, marginals * (tangent - mean)


def _relu(logits: jax.Array) -> jax.Array:
    positive = jax.nn.relu(logits)
    total = jnp.sum(positive, axis=-1, keepdims=True)
    # A point without a positive logit has no marginals and sends nothing.
    return positive / jnp.where(total > 0, total, 1)


def step(
    model: Model,
    current: jax.Array,
    mixings: Sequence[jax.Array],
    damping: jax.Array | None,
    normalisation: Normalisation = "softmax",
) -> jax.Array:
    """`mean_field_step` of a model, damped if that is given."""
    updated = mean_field_step(
        current, model.unary, model.filters, mixings, normalisation=normalisation
    )
    if damping is None:
        return updated
    damping = jnp.asarray(damping).astype(updated.dtype)
    # A logit of -inf stays, whatever the damping; 0 times it would be no number.
    moves = jnp.isfinite(updated)
    towards = jnp.where(moves, updated, 0)
    damped = damping * jnp.where(moves, current, 0) + (1 - damping) * towards
    return jnp.where(moves, damped, updated)


def iterate(
    model: Model,
    num_iterations: int,
    damping: jax.Array | None = None,
    normalisation: Normalisation = "softmax",
    *,
    keep_all: bool = False,
) -> tuple[jax.Array, jax.Array | None]:
    """The last logits [points, labels], and with `keep_all` those of each iteration."""
    shared = model.mixings[0].ndim == 2

    def scanned(current, mixings):
        mixings = model.mixings if shared else mixings
        updated = step(model, current, mixings, damping, normalisation)
        return updated, updated if keep_all else None

    return lax.scan(
        scanned, model.unary, None if shared else model.mixings, length=num_iterations
    )
