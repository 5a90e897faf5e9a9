"""The training step: state, optimiser, one update."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from crfrnn_jax.losses import softmax_cross_entropy
from crfrnn_jax.models import Segmenter
from crfrnn_jax.training.configuration import Config


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


def stage_schedule(stage: Config) -> optax.Schedule:
    """The network's learning rate by step: linear warm-up, then a cosine to zero."""
    return optax.warmup_cosine_decay_schedule(
        0.0, stage.learning_rate, stage.warmup_steps, stage.steps
    )


def make_optimizer(stage: Config) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine decay, and rates of their own for the CRF.

    The paper multiplies the network's rate by 10 000 for the kernel weights and by 1000
    for the compatibility; here the three rates stand side by side. The CRF's parameters
    are not decayed, and do not move in a stage without the CRF.

    Args:
      stage: one of the config's stages.
    """
    schedule = stage_schedule(stage)

    def crf(rate: float) -> optax.GradientTransformation:
        if not stage.use_crf:
            return optax.set_to_zero()
        return optax.adam(lambda step: schedule(step) * (rate / stage.learning_rate))

    rules: dict[Hashable, optax.GradientTransformation] = {
        "backbone": optax.adamw(schedule, weight_decay=stage.weight_decay),
        "weights": crf(stage.weights_learning_rate),
        "compatibility": crf(stage.compatibility_learning_rate),
    }

    def rule_of(path: tuple[Any, ...], _: jax.Array) -> str:
        part, name = path[0].key, path[-1].key
        if part == "backbone":
            return "backbone"
        return "compatibility" if name == "compatibility" else "weights"

    return optax.chain(
        optax.clip_by_global_norm(stage.clip_norm),
        optax.partition(
            rules, lambda params: jax.tree_util.tree_map_with_path(rule_of, params)
        ),
    )


def init_params(model: Segmenter, key: jax.Array) -> Any:
    """Parameters of the segmenter, freshly drawn."""
    # Parameters do not depend on the image's size: the smallest traces fastest. As one
    # program, from which the network itself is left out, it takes half the time.
    return jax.jit(model.init)(key, jnp.zeros((1, 32, 32, 3)))["params"]


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
) -> TrainStep:
    """The compiled update of one stage.

    Args:
      model: the segmenter.
      optimizer: from `make_optimizer`.
      use_crf: whether the loss is taken after the CRF or on the network's own logits.
      ignore_label: label of the pixels that do not count.
      class_weights: float [labels] or None, as in `softmax_cross_entropy`.

    Returns:
      A function of the state (which is given up) and a batch {"image", "label"} to the
      next state and {"loss", "gradient_norm"}.
    """
    method = model.__call__ if use_crf else model.unary

    def loss_fn(params, batch, key):
        logits: Any = model.apply(
            {"params": params}, batch["image"], method=method, rngs={"dropout": key}
        )
        return softmax_cross_entropy(
            logits=logits,
            labels=batch["label"],
            ignore_label=ignore_label,
            class_weights=class_weights,
        )

    def train_step(state, batch):
        key = jax.random.fold_in(state.key, state.step)
        loss, grads = jax.value_and_grad(loss_fn)(state.params, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = TrainState(params, opt_state, state.key, state.step + 1)
        return state, {"loss": loss, "gradient_norm": optax.tree.norm(grads)}

    return jax.jit(train_step, donate_argnums=0)
