"""The training step: state and one update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from crfrnn_jax.losses import Reduction, softmax_cross_entropy
from crfrnn_jax.models import Segmenter


class TrainState(NamedTuple):
    """What one step carries to the next.

    Attributes:
      params: the segmenter's parameters, {"backbone": ..., "crf": ...}.
      opt_state: the optimiser's state.
      key: random key of the stage; each step folds its number into it.
      step: int32 scalar, steps done in this stage.
    """

    params: Any
    opt_state: Any
    key: jax.Array
    step: jax.Array


# A state and a batch -> the next state and scalars by name.
TrainStep = Callable[
    [TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]
]


def init_state(
    params: Any, optimizer: optax.GradientTransformation, key: jax.Array
) -> TrainState:
    """The state before a stage's first step."""
    return TrainState(params, optimizer.init(params), key, jnp.zeros((), jnp.int32))


def make_train_step(
    model: Segmenter,
    optimizer: optax.GradientTransformation,
    *,
    use_crf: bool,
    ignore_label: int,
    class_weights: jax.typing.ArrayLike | None,
    reduction: Reduction,
    robustness: float,
) -> TrainStep:
    """The compiled update of one stage.

    Args:
      model: the segmenter.
      optimizer: from `make_optimizer`.
      use_crf: whether the loss is taken after the CRF or on the network's own logits.
      ignore_label: label of the pixels that do not count.
      class_weights: float [labels] or None, as in `softmax_cross_entropy`.
      reduction: "mean" or "sum", as there.
      robustness: as there.

    Returns:
      A function of the state (which is given up) and a batch {"image", "label", "mask"}
      to the next state and {"loss", "gradient_norm"}.
    """
    method = model.__call__ if use_crf else model.unary

    def loss_fn(params, batch, key):
        logits: Any = model.apply(
            {"params": params},
            batch["image"],
            batch["mask"],
            method=method,
            rngs={"dropout": key},
        )
        return softmax_cross_entropy(
            logits=logits,
            labels=batch["label"],
            ignore_label=ignore_label,
            class_weights=class_weights,
            reduction=reduction,
            robustness=robustness,
        )

    def train_step(state, batch):
        key = jax.random.fold_in(state.key, state.step)
        loss, grads = jax.value_and_grad(loss_fn)(state.params, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = TrainState(params, opt_state, state.key, state.step + 1)
        return state, {"loss": loss, "gradient_norm": optax.tree.norm(grads)}

    return jax.jit(train_step, donate_argnums=0)
