"""One update: in parts, on many devices, and where it is not finite."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from step_on_eight_devices import LABELS, batch
from tiny import make_tiny_config

from crfrnn_jax.losses import softmax_cross_entropy
from crfrnn_jax.models import build_segmenter
from crfrnn_jax.training.initial import fresh_params
from crfrnn_jax.training.mesh import make_mesh, put_batch
from crfrnn_jax.training.optimizers import make_optimizer
from crfrnn_jax.training.steps import init_state, make_train_step

HERE = Path(__file__).parent
WEIGHTS = np.linspace(0.5, 2.0, LABELS, dtype=np.float32)


@pytest.fixture(scope="module")
def on_eight():
    """What the program beside prints."""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)]),
    }
    done = subprocess.run(
        [sys.executable, HERE / "step_on_eight_devices.py"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("mesh", ["8 x 1", "2 x 4"])
def test_many_devices_step_as_one(on_eight, mesh):
    """One of the devices has an image without a label: it must not count as a mean."""
    one, many = on_eight["1 x 1"], on_eight[mesh]
    np.testing.assert_allclose(many["loss"], one["loss"], rtol=1e-5)
    np.testing.assert_allclose(many["gradient_norm"], one["gradient_norm"], rtol=1e-5)
    for expected, leaf in zip(one["params"], many["params"], strict=True):
        np.testing.assert_allclose(leaf, expected, atol=1e-5)


def test_parameters_are_divided_over_their_axis_alone(on_eight):
    """All that four divide; a single number can't be."""
    assert set(on_eight["8 x 1"]["pieces"]) == {1}
    assert set(on_eight["2 x 4"]["pieces"]) == {1, 4}
    assert on_eight["2 x 4"]["pieces"].count(4) > 20


def test_no_device_talks_to_another_inside_the_crf(on_eight):
    """A step sums the gradients, and gathers the parameters if they are divided."""
    assert all(run["has_crf"] for run in on_eight.values())  # else nothing is shown
    for mesh, allowed in (
        ("8 x 1", {"all-reduce"}),
        ("2 x 4", {"all-reduce", "all-gather", "reduce-scatter"}),
    ):
        between = on_eight[mesh]["collectives"]
        assert {operation for operation, _, _ in between} <= allowed
        assert between
        for _, computation, source in between:
            assert computation == "ENTRY"  # in no loop, of images or iterations
            assert "/crf" not in source


def _step(**options):
    config = make_tiny_config("")
    config.end_to_end.optimizer = "sgd"
    mesh = make_mesh(ConfigDict(dict(data=1, parameters=1)))
    model = build_segmenter(config, LABELS)
    optimizer = make_optimizer(config.end_to_end)
    settings = {
        "mesh": mesh,
        "use_crf": True,
        "ignore_label": 255,
        "class_weights": WEIGHTS,
        "reduction": "mean",
        "robustness": 0.0,
    }
    step = make_train_step(model, optimizer, **settings | options)
    params = fresh_params(model, jax.random.key(0))
    state = init_state(params, optimizer, jax.random.key(1))
    return step, state, model, lambda given: put_batch(mesh, given)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_is_that_of_the_whole_batch(reduction):
    step, state, model, put = _step(reduction=reduction, micro_batches=8)
    given = batch()
    logits = model.apply({"params": state.params}, given["image"], given["mask"])
    expected = softmax_cross_entropy(
        logits=logits,
        labels=given["label"],
        ignore_label=255,
        class_weights=WEIGHTS,
        reduction=reduction,
    )
    _, scalars = step(state, put(given))
    np.testing.assert_allclose(scalars["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_parts_of_a_batch_add_up_to_it(reduction):
    after = {}
    for parts in (1, 4):
        step, state, _, put = _step(reduction=reduction, micro_batches=parts)
        after[parts] = step(state, put(batch()))
    (state, scalars), (of_parts, scalars_of_parts) = after[1], after[4]
    for name, value in scalars.items():
        np.testing.assert_allclose(scalars_of_parts[name], value, rtol=1e-5)
    for expected, leaf in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(of_parts.params), strict=True
    ):
        np.testing.assert_allclose(leaf, expected, atol=1e-5)


def test_a_step_that_is_not_finite_is_left_out_and_the_next_is_not():
    step, state, _, put = _step(skip_nonfinite=True)
    before = jax.device_get((state.params, state.opt_state))
    broken = batch() | {"label": np.full((16, 16, 16), LABELS, np.int32)}  # no label
    state, scalars = step(state, put(broken))
    assert np.isnan(scalars["loss"])
    for old, new in zip(
        jax.tree.leaves(before),
        jax.tree.leaves((state.params, state.opt_state)),
        strict=True,
    ):
        # Steps are counted, for the rates; all else is as it was.
        is_count = np.issubdtype(np.asarray(old).dtype, np.integer)
        np.testing.assert_array_equal(new, old + 1 if is_count else old)
    assert int(state.step) == 1
    state, scalars = step(state, put(batch()))
    assert np.isfinite(scalars["loss"])
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before[0], state.params)
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        ({"data": 2, "parameters": 1}, "at most the 1 devices there are, got data=2"),
        ({"data": 0, "parameters": 2}, "a number that divides the 1 devices"),
    ],
)
def test_a_mesh_of_more_devices_than_there_are_is_refused(mesh, message):
    with pytest.raises(ValueError, match=f"config.mesh.*: expected {message}"):
        make_mesh(ConfigDict(mesh))
