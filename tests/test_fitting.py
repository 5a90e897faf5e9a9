"""The CRF fitted by L-BFGS: to what made the labels, and no further than it may."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crfrnn_jax import InputError
from crfrnn_jax.fitting import Fitted, _minimise, fit_crf
from crfrnn_jax.layers import CRFRNN, fresh_variables

RNG = np.random.default_rng(0)
BATCH, HEIGHT, WIDTH, LABELS = 2, 8, 9, 3
# Three stripes, and scores that know little of them.
LABELS_OF = np.broadcast_to(np.arange(WIDTH) // 3, (BATCH, HEIGHT, WIDTH)).astype(int)
IMAGES = (
    LABELS_OF[..., None] * 90 + RNG.uniform(0, 9, (BATCH, HEIGHT, WIDTH, 1))
).astype(np.float32)
LOGITS = (RNG.normal(size=(BATCH, HEIGHT, WIDTH, LABELS)) * 1.5).astype(np.float32)
LOGITS += np.eye(LABELS, dtype=np.float32)[LABELS_OF]
LAYER = CRFRNN(
    LABELS,
    num_iterations=2,
    theta_alpha=3.0,
    theta_beta=60.0,
    theta_gamma=1.5,
    spatial_weight=0.5,
    bilateral_weight=0.5,
    method="exact",
    learn_widths=True,
)
DATA = (IMAGES, LOGITS, LABELS_OF)
PROBABILITIES = np.asarray(jax.nn.softmax(LOGITS))


def accuracy(variables):
    return (LAYER.apply(variables, IMAGES, LOGITS).argmax(-1) == LABELS_OF).mean()


@pytest.mark.parametrize("objective", ["log_likelihood", "expected_iou"])
def test_the_loss_falls_and_the_labels_are_found(objective):
    fitted = fit_crf(LAYER, *DATA, objective=objective, steps=8)
    start = LAYER.init(jax.random.key(0), IMAGES, LOGITS)
    assert fitted.losses.shape == (9,)
    assert fitted.losses[-1] < 0.5 * fitted.losses[0]
    assert (np.diff(fitted.losses) <= 1e-6).all()
    assert accuracy(fitted.variables) > 0.9 > 0.75 > accuracy(start)
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), start["params"], fitted.variables["params"]
    )
    assert min(moved.values()) > 0


def rosenbrock(params, data):
    x, y = params["x"], params["y"]
    return (data - x) ** 2 + 100 * (y - x**2) ** 2


def barrier(params, data):
    """NaN from 0 down, which full steps from 5 would cross; least at `data`."""
    return params["x"] - data * jnp.log(params["x"]) + 0 * params["y"]


@pytest.mark.parametrize(
    ("loss_of", "start", "least"),
    [(rosenbrock, (-1.2, 1.0), (1.0, 1.0)), (barrier, (5.0, 0.0), (1.0, 0.0))],
)
def test_the_minimum_is_found_and_the_loss_never_rises(loss_of, start, least):
    params = {"x": jnp.float32(start[0]), "y": jnp.float32(start[1])}
    found, losses = _minimise(loss_of, params, jnp.float32(1), 60)
    # In float32 the loss is flat this near to its minimum.
    np.testing.assert_allclose([found["x"], found["y"]], least, atol=2e-3)
    assert (np.diff(losses) <= 0).all()


def test_the_first_loss_is_the_mean_negative_log_likelihood():
    fitted = fit_crf(LAYER, *DATA, steps=1)
    refined = LAYER.apply(LAYER.init(jax.random.key(0), IMAGES, LOGITS), IMAGES, LOGITS)
    log_q = np.asarray(jax.nn.log_softmax(refined))
    truth = -np.take_along_axis(log_q, LABELS_OF[..., None], -1).mean()
    np.testing.assert_allclose(fitted.losses[0], truth, rtol=1e-5)


def test_frozen_parameters_stay():
    frozen = ("compatibility", "log_theta_alpha")
    fitted = fit_crf(LAYER, *DATA, frozen=frozen, steps=2)
    start = LAYER.init(jax.random.key(0), IMAGES, LOGITS)["params"]
    same = {
        name
        for name, value in fitted.variables["params"].items()
        if (value == start[name]).all()
    }
    assert same == set(frozen)


def test_it_goes_on_from_what_was_fitted():
    first = fit_crf(LAYER, *DATA, steps=2)
    second = fit_crf(LAYER, *DATA, steps=1, variables=first.variables)
    np.testing.assert_allclose(second.losses[0], first.losses[-1], rtol=1e-5)


def test_padding_and_ignored_pixels_do_not_count():
    pads = [(0, 0), (0, 2), (0, 3)]
    mask = np.pad(np.ones((BATCH, HEIGHT, WIDTH), bool), pads)
    images, logits = (np.pad(a, [*pads, (0, 0)]) for a in (IMAGES, LOGITS))
    labels = np.pad(LABELS_OF, pads, constant_values=1)
    padded = fit_crf(LAYER, images, logits, labels, mask=mask, steps=1)
    alone = fit_crf(LAYER, *DATA, steps=1)
    np.testing.assert_allclose(padded.losses, alone.losses, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "iou"}, "objective: expected one of .*got 'iou'"),
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        (
            {"labels": LABELS_OF[:1]},
            r"images: expected shape \[batch=1, height=8, .*got \[2, 8",
        ),
        ({"labels": LABELS_OF * 1.0}, "labels: expected integers"),
        ({"labels": LABELS_OF + 1}, r"labels: .*0..2 or 255 .*, got \[3\] in 48 pix"),
        ({"labels": LABELS_OF * 0 + 255}, "labels: expected some that count, got 255"),
        ({"images": IMAGES / 255}, r"images: expected intensities in 0..255"),
        ({"logits": LOGITS * np.nan}, "logits: expected finite numbers"),
        ({"logits": LOGITS[..., :2]}, r"logits: expected shape .*labels=3\], got"),
        ({"logits": PROBABILITIES}, "logits: .*are they probabilities"),
        ({"frozen": "weights"}, "frozen: expected one of .*got 'weights'"),
        ({"frozen": ("weights",)}, "frozen: expected one of .*got 'weights'"),
        ({"images": IMAGES[0]}, "images: expected shape"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    arguments = {"images": IMAGES, "logits": LOGITS, "labels": LABELS_OF} | changes
    with pytest.raises(InputError, match=message):
        fit_crf(LAYER, **arguments)


def test_variables_start_as_the_layers_own():
    ours, truth = fresh_variables(LAYER, 1), LAYER.init(jax.random.key(0), *DATA[:2])
    jax.tree.map(np.testing.assert_array_equal, ours, dict(truth))


def test_the_layer_is_one():
    with pytest.raises(InputError, match="layer: expected CRFRNN, got Fitted"):
        fit_crf(Fitted({}, np.zeros(1)), *DATA)


def test_something_has_to_be_learned():
    names = LAYER.init(jax.random.key(0), IMAGES, LOGITS)["params"]
    with pytest.raises(InputError, match="frozen: expected a parameter to be left"):
        fit_crf(LAYER, *DATA, frozen=tuple(names))
