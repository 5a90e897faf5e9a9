"""The training step: state and one update, on the devices of a mesh."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from crfrnn_jax.losses import Reduction, pixel_weights, softmax_cross_entropy
from crfrnn_jax.models import Segmenter
from crfrnn_jax.training.mesh import AXES, layout_of


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
    mesh: Mesh,
    use_crf: bool,
    ignore_label: int,
    class_weights: jax.typing.ArrayLike | None,
    reduction: Reduction,
    robustness: float,
    micro_batches: int = 1,
    skip_nonfinite: bool = False,
) -> TrainStep:
    """The compiled update of one stage.

    Each device takes the gradient for its own images, in a program that talks to no
    other device: a lattice stays where it was built. The sums over the devices come
    after it, and so the update is that of one device but for rounding, and but for
    dropout, which each device draws for itself.

    Args:
      model: the segmenter.
      optimizer: from `make_optimizer`.
      mesh: the devices, from `make_mesh`.
      use_crf: whether the loss is taken after the CRF or on the network's own logits.
      ignore_label: label of the pixels that do not count.
      class_weights: float [labels] or None, as in `softmax_cross_entropy`.
      reduction: "mean" or "sum", as there.
      robustness: as there.
      micro_batches: in how many parts, one after another, a device takes its images:
        the gradient is the same but for dropout, and the memory that of one part.
      skip_nonfinite: whether a step whose loss or gradient is not finite leaves the
        parameters and the optimiser as they were, but for its count of steps; otherwise
        they are spoilt.

    Returns:
      A function of the state (which is given up) and a batch {"image", "label", "mask"}
      to the next state and {"loss", "gradient_norm"}.
    """
    method = model.__call__ if use_crf else model.unary

    def loss_fn(params, batch, total, key):
        """The share of these images in the loss."""
        logits: Any = model.apply(
            {"params": params},
            batch["image"],
            batch["mask"],
            method=method,
            rngs={"dropout": key},
        )
        loss = softmax_cross_entropy(
            logits=logits,
            labels=batch["label"],
            ignore_label=ignore_label,
            class_weights=class_weights,
            reduction="sum",
            robustness=robustness,
        )
        return loss / total

    def total_weight(labels):
        if reduction == "sum":
            return jnp.float32(1)
        weights = pixel_weights(
            labels=labels, ignore_label=ignore_label, class_weights=class_weights
        )
        total = lax.psum(jnp.sum(weights), AXES)
        return jnp.where(total > 0, total, 1)

    def gradients(params, batch, key):
        """Loss and gradients of the whole batch, given this device's part of it."""
        key = jax.random.fold_in(key, lax.axis_index(AXES))
        total = total_weight(batch["label"])
        of_part = jax.value_and_grad(loss_fn)
        if micro_batches == 1:
            return lax.psum(of_part(params, batch, total, key), AXES)

        def add(sums, part):
            images, part_key = part
            return jax.tree.map(jnp.add, sums, of_part(params, images, total, part_key))

        parts = jax.tree.map(
            lambda x: x.reshape(micro_batches, -1, *x.shape[1:]), batch
        )
        keys = jax.random.split(key, micro_batches)
        zeros = (jnp.float32(0), jax.tree.map(jnp.zeros_like, params))
        sums, _ = lax.scan(lambda s, p: (add(s, p), None), zeros, (parts, keys))
        return lax.psum(sums, AXES)

    everywhere, by_image = PartitionSpec(), PartitionSpec(AXES)
    gradients = jax.shard_map(
        gradients,
        mesh=mesh,
        in_specs=(everywhere, by_image, everywhere),
        out_specs=everywhere,
        check_vma=False,  # which does not know the filters' custom derivatives
    )

    def train_step(state, batch):
        key = jax.random.fold_in(state.key, state.step)
        loss, grads = gradients(state.params, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        scalars = {"loss": loss, "gradient_norm": optax.tree.norm(grads)}
        if skip_nonfinite:
            is_finite = jnp.isfinite(loss) & jnp.isfinite(scalars["gradient_norm"])
            params, opt_state = jax.tree.map(
                # Counts of steps go on, by which rates fall.
                lambda new, old: jnp.where(is_finite | _is_count(new), new, old),
                (params, opt_state),
                (state.params, state.opt_state),
            )
        state = TrainState(params, opt_state, state.key, state.step + 1)
        return lax.with_sharding_constraint(state, layout_of(mesh, state)), scalars

    return jax.jit(train_step, donate_argnums=0)


def _is_count(array: jax.Array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.integer)
