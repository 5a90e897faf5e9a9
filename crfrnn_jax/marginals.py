"""What marginals say: the likeliest labels, and how sure they are."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from crfrnn_jax.checks import (
    InputError,
    check_floating,
)


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
    return jnp.where(is_impossible, jnp.nan, -jnp.sum(q_log_q(logits), axis=-1))


def q_log_q(logits: jax.Array) -> jax.Array:
    """Q log Q of a softmax, 0 where Q is."""
    logits = logits.astype(np.promote_types(logits.dtype, np.float32))
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
