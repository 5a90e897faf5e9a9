"""The dense CRF loss against a sum over all pairs of pixels, and its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import central_difference, pixel_features, softmax
from test_kernels import dense_kernel

from crfrnn_jax import InputError
from crfrnn_jax.losses import dense_crf_loss

RNG = np.random.default_rng(0)
BATCH, HEIGHT, WIDTH, LABELS = 2, 4, 5, 3
IMAGES = RNG.uniform(0, 255, (BATCH, HEIGHT, WIDTH, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(BATCH, HEIGHT, WIDTH, LABELS)).astype(np.float32)
WIDTHS = {"theta_alpha": 3.7, "theta_beta": 70.0}


def pairs(image, logits, normalisation):
    """The chance of each pair of pixels to disagree, times its kernel; and the sum."""
    _, features = pixel_features(image, 3.7, 70.0, 1.0)
    marginals = softmax(logits.astype(np.float64)).reshape(-1, LABELS)
    agreement = marginals @ marginals.T
    return (dense_kernel(features, normalisation=normalisation) * (1 - agreement)).sum()


@pytest.mark.parametrize("normalisation", ["none", "before", "after", "symmetric"])
def test_it_is_the_sum_over_all_pairs(normalisation):
    loss = dense_crf_loss(
        images=IMAGES,
        logits=LOGITS,
        **WIDTHS,
        normalisation=normalisation,
        method="exact",
    )
    truth = sum(map(pairs, IMAGES, LOGITS, [normalisation] * BATCH))
    np.testing.assert_allclose(loss, truth / LOGITS[..., 0].size, rtol=1e-5)


def test_agreement_costs_nothing_and_disagreement_all():
    """Of two halves of an image that nothing joins, and of noise within them."""
    image = np.zeros((1, 6, 8, 1), np.float32)
    image[:, :, 4:] = 200
    sure = 40.0 * jax.nn.one_hot((image[..., 0] > 0).astype(int), 2)
    noise = 40.0 * jax.nn.one_hot(RNG.integers(0, 2, (1, 6, 8)), 2)
    options = {"images": image, "theta_alpha": 50.0, "theta_beta": 5.0}
    assert dense_crf_loss(logits=sure, **options) < 1e-5
    assert 0.3 < dense_crf_loss(logits=noise, **options) < 0.7
    even = dense_crf_loss(logits=0 * sure, **options)
    np.testing.assert_allclose(even, 0.5, rtol=1e-5)


@pytest.mark.parametrize("of", ["images", "logits", "theta_alpha", "theta_beta"])
def test_derivatives_are_differences(of):
    arguments = {"images": IMAGES, "logits": LOGITS, **WIDTHS}

    def loss(value):
        return dense_crf_loss(**(arguments | {of: value}), method="exact")

    with jax.enable_x64(True):
        value = jnp.asarray(arguments[of], jnp.float32)
        direction = RNG.normal(size=value.shape).astype(np.float32)
        derivative = jnp.vdot(jax.grad(loss)(value), direction)
    step = 1e-2 * np.abs(value).max()
    truth = central_difference(loss, value, direction, np.float32(step))
    assert abs(truth) > 1e-7
    np.testing.assert_allclose(derivative, truth, rtol=2e-2)


def test_masked_pixels_do_not_count():
    mask = np.zeros((1, HEIGHT, WIDTH), bool)
    mask[:, :3, :4] = True
    images = np.where(mask[..., None], IMAGES[:1], np.nan).astype(np.float32)
    logits = np.where(mask[..., None], LOGITS[:1], np.nan).astype(np.float32)
    function = jax.value_and_grad(
        lambda logits, images, mask=None: dense_crf_loss(
            images=images, logits=logits, mask=mask, **WIDTHS
        )
    )
    loss, gradient = function(logits, images, mask)
    truth, of_valid = function(LOGITS[:1, :3, :4], IMAGES[:1, :3, :4])
    np.testing.assert_allclose(loss, truth, rtol=1e-5)
    np.testing.assert_allclose(gradient[:, :3, :4], of_valid, atol=1e-6)
    np.testing.assert_array_equal(gradient[~mask], 0)
    assert function(logits, images, np.zeros_like(mask))[0] == 0


def test_the_lattice_is_near():
    exact, lattice = (
        dense_crf_loss(images=IMAGES, logits=LOGITS, **WIDTHS, method=method)
        for method in ("exact", "lattice")
    )
    np.testing.assert_allclose(lattice, exact, rtol=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES[0]}, r"images: expected shape \[batch, height, width, chan"),
        ({"logits": LOGITS[:1]}, r"logits: expected shape \[batch=2, .*got \[1, 4"),
        ({"logits": LOGITS.astype(int)}, "logits: expected floating-point values"),
        ({"mask": np.ones((2, 4, 5))}, "mask: expected True and False"),
        ({"theta_alpha": 0.0}, "theta_alpha: expected a positive finite number"),
        ({"normalisation": "mean"}, "normalisation: expected one of"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        dense_crf_loss(**({"images": IMAGES, "logits": LOGITS} | changes))
