"""The optimiser of a stage: its schedule, its rules and the rates of the parts."""

from collections.abc import Hashable
from typing import Any

import jax
import optax

from crfrnn_jax.checks import InputError
from crfrnn_jax.training.configuration import Config


def stage_schedule(stage: Config) -> optax.Schedule:
    """The network's learning rate by step.

    Args:
      stage: one of the config's stages. Its `schedule` is "cosine", a linear warm-up
        and then a cosine to zero, or "constant", after the warm-up.
    """
    if stage.schedule == "constant":
        return optax.warmup_constant_schedule(
            0.0 if stage.warmup_steps else stage.learning_rate,
            stage.learning_rate,
            stage.warmup_steps,
        )
    return optax.warmup_cosine_decay_schedule(
        0.0, stage.learning_rate, stage.warmup_steps, stage.steps
    )


def make_optimizer(stage: Config) -> optax.GradientTransformation:
    """AdamW or SGD with momentum, and rates of their own for the CRF and the biases.

    The paper multiplies the network's rate by 10 000 for the kernel weights and by 1000
    for the compatibility; here the three rates stand side by side. The CRF's parameters
    are not decayed, and do not move in a stage without the CRF. Decay is part of the
    rate: a step moves by the rate times (gradient + decay times parameter), through the
    momentum with "sgd" as in Caffe, beside it with "adamw".

    Args:
      stage: one of the config's stages. Its `frozen` names parts of the parameters that
        do not move: "backbone", "crf", or a layer or parameter of any name in them.

    Raises:
      ValueError, in `init`: a name of `frozen` is none of the parameters'.
    """
    rules: dict[Hashable, optax.GradientTransformation] = {
        "frozen": optax.set_to_zero(),
        "kernels": _rule(stage, 1.0, stage.weight_decay),
        "biases": _rule(stage, stage.bias_multiplier, stage.bias_decay),
        "weights": _rule(stage, stage.weights_learning_rate / stage.learning_rate, 0.0),
        "compatibility": _rule(
            stage, stage.compatibility_learning_rate / stage.learning_rate, 0.0
        ),
    }
    frozen = set(stage.frozen) if stage.use_crf else {*stage.frozen, "crf"}

    def rule_of(path: tuple[Any, ...], _: jax.Array) -> str:
        names = [entry.key for entry in path]
        if frozen.intersection(names):
            return "frozen"
        if names[0] == "crf":
            return "compatibility" if names[-1] == "compatibility" else "weights"
        return "biases" if names[-1] == "bias" else "kernels"

    def rules_of(params: Any) -> Any:
        paths = jax.tree_util.tree_leaves_with_path(params)
        known = {entry.key for path, _ in paths for entry in path}
        for name in stage.frozen:
            if name not in known:
                raise InputError(
                    f"frozen: expected names among the parameters', {sorted(known)}, "
                    f"got {name!r}"
                )
        return jax.tree_util.tree_map_with_path(rule_of, params)

    partitioned = optax.partition(rules, rules_of)
    if not stage.clip_norm:
        return partitioned

    def is_frozen(params: Any) -> Any:
        return jax.tree.map(lambda rule: rule == "frozen", rules_of(params))

    # What does not move must not take part in the norm either.
    return optax.chain(
        optax.masked(optax.set_to_zero(), is_frozen),
        optax.clip_by_global_norm(stage.clip_norm),
        partitioned,
    )


def _rule(
    stage: Config, multiplier: float, decay: float
) -> optax.GradientTransformation:
    schedule = stage_schedule(stage)

    def rate(step):
        return schedule(step) * multiplier

    if stage.optimizer == "sgd":
        return optax.chain(
            optax.add_decayed_weights(decay),
            optax.trace(stage.momentum),
            optax.scale_by_learning_rate(rate),
        )
    return optax.adamw(rate, weight_decay=decay)
