"""The rules of a stage, against their formulas step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import published, shapes
from crfrnn_jax.training.optimizers import make_optimizer, stage_schedule

PARAMS = {
    "backbone": {
        "conv": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([0.5])},
        "upscore8": {"kernel": jnp.array([3.0])},
    },
    "crf": {
        "spatial_weights": jnp.array([3.0]),
        "bilateral_weights": jnp.array([5.0]),
        "compatibility": jnp.array([-1.0]),
    },
}


def run(stage, gradients):
    """The parameters after the gradients, one step each."""
    optimizer = make_optimizer(stage)
    params, state = PARAMS, optimizer.init(PARAMS)
    ones = jax.tree.map(jnp.ones_like, params)
    for gradient in gradients:
        of_all = optax.tree.scale(gradient, ones)
        updates, state = optimizer.update(of_all, state, params)
        params = optax.apply_updates(params, updates)
    return params


def caffe(value, rate, decay, gradients, momentum=0.99):
    """Caffe's SGD: V = momentum V + rate (gradient + decay W); W = W - V."""
    value, velocity = np.array(value, np.float64), 0.0
    for gradient in gradients:
        velocity = momentum * velocity + rate * (gradient + decay * value)
        value = value - velocity
    return value


def test_published_stages_are_caffes_sgd_with_a_rate_for_each_part():
    stage = published.get_stage(
        use_crf=True,
        learning_rate=1e-3,
        weights_learning_rate=1e-1,
        compatibility_learning_rate=1e-2,
        weight_decay=0.5,
    )
    gradients = (1.0, -3.0, 2.0)
    params = run(stage, gradients)
    truth = {
        ("backbone", "conv", "kernel"): caffe([1.0, -2.0], 1e-3, 0.5, gradients),
        ("backbone", "conv", "bias"): caffe([0.5], 2e-3, 0.0, gradients),
        ("backbone", "upscore8", "kernel"): [3.0],
        ("crf", "spatial_weights"): caffe([3.0], 1e-1, 0.0, gradients),
        ("crf", "bilateral_weights"): caffe([5.0], 1e-1, 0.0, gradients),
        ("crf", "compatibility"): caffe([-1.0], 1e-2, 0.0, gradients),
    }
    for path, expected in truth.items():
        value = params
        for name in path:
            value = value[name]
        np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("frozen", [("backbone",), ("conv",), ("bias",), ("crf",)])
def test_frozen_parts_do_not_move_and_the_others_do(frozen):
    stage = shapes.get_config().end_to_end
    stage.update(frozen=frozen, warmup_steps=0)
    moved = run(stage, (1.0, 1.0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(PARAMS):
        names = [entry.key for entry in path]
        value = moved
        for name in names:
            value = value[name]
        assert np.array_equal(value, leaf) == bool(set(frozen) & set(names)), names


def test_without_the_crf_its_parameters_do_not_move():
    stage = shapes.get_config().fcn
    stage.update(warmup_steps=0)
    moved = run(stage, (1.0,))
    for name, value in moved["crf"].items():
        np.testing.assert_array_equal(value, PARAMS["crf"][name])


def test_a_frozen_part_of_no_name_is_an_error():
    stage = shapes.get_config().end_to_end
    stage.frozen = ("backbon",)
    with pytest.raises(ValueError, match=r"frozen: .*'backbone'.*, got 'backbon'"):
        make_optimizer(stage).init(PARAMS)


@pytest.mark.parametrize("warmup", [0, 4])
def test_a_constant_schedule_is_constant_after_its_warmup(warmup):
    stage = shapes.get_config().fcn
    stage.update(schedule="constant", warmup_steps=warmup, learning_rate=0.5)
    rates = np.array([stage_schedule(stage)(step) for step in range(10)])
    np.testing.assert_allclose(rates[warmup:], 0.5)
    np.testing.assert_allclose(rates[:warmup], 0.5 * np.arange(warmup) / 4)


def test_frozen_gradients_do_not_count_in_the_clip():
    stage = shapes.get_config().end_to_end
    stage.update(
        frozen=("backbone",),
        warmup_steps=0,
        optimizer="sgd",
        schedule="constant",
        learning_rate=1.0,
        weights_learning_rate=1.0,
        compatibility_learning_rate=1.0,
        clip_norm=1.0,
    )
    optimizer = make_optimizer(stage)
    gradients = {
        "backbone": jax.tree.map(lambda leaf: leaf * 1e4, PARAMS["backbone"]),
        "crf": jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.1), PARAMS["crf"]),
    }
    updates, _ = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    for update in updates["crf"].values():
        np.testing.assert_allclose(update, -0.1, rtol=1e-6)
