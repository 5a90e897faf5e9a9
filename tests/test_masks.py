"""Masked pixels change nothing elsewhere: the filters see the valid pixels alone."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crfrnn_jax import CRFParams, InputError, crf_rnn
from crfrnn_jax.layers import CRFRNN

HEIGHT, WIDTH, LABELS = 9, 11, 3
THETAS = {"theta_alpha": 4.7, "theta_beta": 60.0, "theta_gamma": 2.3}
RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(HEIGHT, WIDTH, LABELS)).astype(np.float32)
PARAMS = CRFParams(*RNG.normal(size=(3, LABELS, LABELS)).astype(np.float32))
METHODS = [("lattice", None), ("exact", None), ("lattice", "separable")]
# What is found in padding: far from every valid colour, and no number at all.
PADDINGS = [-4000.0, np.nan]


def padded(array, value):
    """Five rows below and seven columns to the right, with the mask of what was."""
    pads = [(0, 5), (0, 7)]
    mask = np.pad(np.ones(array.shape[:2], bool), pads)
    return np.pad(array, [*pads, (0, 0)], constant_values=value), mask


def loss(image, logits, params, thetas, weights, mask=None, **methods):
    """A weighted sum of the refined logits, and these."""
    refined = crf_rnn(
        image, logits, params, mask=mask, num_iterations=3, **thetas, **methods
    )
    return jnp.sum(weights * refined), refined


VALUE_AND_GRADIENTS = jax.jit(
    jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True),
    static_argnames=("method", "spatial_method"),
)


@pytest.mark.parametrize(("methods", "value"), list(product(METHODS, PADDINGS)))
def test_padding_changes_nothing_on_the_valid_pixels(methods, value):
    """Neither values nor gradients of the image, the logits, parameters and widths."""
    method, spatial_method = methods
    methods = {"method": method, "spatial_method": spatial_method}
    weights = RNG.normal(size=LOGITS.shape).astype(np.float32)
    (_, refined), gradients = VALUE_AND_GRADIENTS(
        IMAGE, LOGITS, PARAMS, THETAS, weights, **methods
    )
    image, mask = padded(IMAGE, value)
    logits, _ = padded(LOGITS, value)
    weights, _ = padded(weights, 0.0)
    weights = np.where(mask[..., None], weights, 0).astype(np.float32)
    (_, ours), (of_image, of_logits, *others) = VALUE_AND_GRADIENTS(
        image, logits, PARAMS, THETAS, weights, mask, **methods
    )
    # Sums over the points are added up in another order: float32 rounding.
    np.testing.assert_allclose(ours[mask].reshape(LOGITS.shape), refined, atol=2e-5)
    np.testing.assert_array_equal(ours[~mask], logits[~mask])
    for gradient, truth in ((of_image, gradients[0]), (of_logits, gradients[1])):
        scale = np.abs(truth).max()
        assert scale > 1e-3
        valid = gradient[mask].reshape(truth.shape)
        np.testing.assert_allclose(valid, truth, atol=1e-4 * scale)
        np.testing.assert_array_equal(gradient[~mask], 0)
    for gradient, truth in zip(
        jax.tree.leaves(others), jax.tree.leaves(gradients[2:]), strict=True
    ):
        scale = np.abs(truth).max()
        assert scale > 1e-3
        np.testing.assert_allclose(gradient, truth, atol=1e-4 * scale)


@pytest.mark.parametrize("spatial_method", [None, "separable"])
def test_holes_neither_send_nor_receive(spatial_method):
    """Whatever is under a mask of any form, the rest is the same."""
    mask = RNG.uniform(size=(HEIGHT, WIDTH)) < 0.7
    other = np.where(mask[..., None], LOGITS, RNG.normal(size=LOGITS.shape) * 9)
    other_image = np.where(mask[..., None], IMAGE, 255 - IMAGE)
    options = THETAS | {"method": "exact", "spatial_method": spatial_method}
    first = crf_rnn(IMAGE, LOGITS, PARAMS, mask=mask, **options)
    second = crf_rnn(
        other_image, other.astype(np.float32), PARAMS, mask=mask, **options
    )
    np.testing.assert_array_equal(first[mask], second[mask])
    whole = crf_rnn(IMAGE, LOGITS, PARAMS, **options)
    assert np.abs(first - whole)[mask].max() > 0.1


@pytest.mark.parametrize("spatial_method", [None, "separable"])
def test_a_mask_of_valid_pixels_alone_is_none(spatial_method):
    options = THETAS | {"method": "exact", "spatial_method": spatial_method}
    mask = np.ones((HEIGHT, WIDTH), bool)
    masked = crf_rnn(IMAGE, LOGITS, PARAMS, mask=mask, **options)
    np.testing.assert_allclose(
        masked, crf_rnn(IMAGE, LOGITS, PARAMS, **options), atol=1e-6
    )


def test_an_image_without_a_valid_pixel_keeps_its_logits():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    refined = crf_rnn(IMAGE, LOGITS, PARAMS, mask=mask, **THETAS)
    np.testing.assert_array_equal(refined, LOGITS)


def test_images_of_two_sizes_fit_into_one_batch():
    small = IMAGE[:4, :6], LOGITS[:4, :6]
    pads = [(0, HEIGHT - 4), (0, WIDTH - 6), (0, 0)]
    images = np.stack([IMAGE, np.pad(small[0], pads)])
    logits = np.stack([LOGITS, np.pad(small[1], pads)])
    mask = np.zeros((2, HEIGHT, WIDTH), bool)
    mask[0], mask[1, :4, :6] = True, True
    layer = CRFRNN(LABELS, **THETAS, method="exact")
    params = {"params": PARAMS._asdict()}
    both = layer.apply(params, images, logits, mask)
    for ours, alone in ((both[0], (IMAGE, LOGITS)), (both[1, :4, :6], small)):
        truth = crf_rnn(*alone, PARAMS, **THETAS, method="exact")
        np.testing.assert_allclose(ours, truth, atol=2e-5)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((HEIGHT, 2), bool), r"mask: expected .*width=11.*got \[9, 2\]"),
        (np.ones((HEIGHT, WIDTH)), "mask: expected True and False, got dtype float"),
        ([True], "mask: expected an array, got list"),
    ],
)
def test_masks_that_do_not_fit_are_named(mask, message):
    with pytest.raises(InputError, match=message):
        crf_rnn(IMAGE, LOGITS, PARAMS, mask=mask)
    layer = CRFRNN(LABELS)
    batched = mask[None] if isinstance(mask, np.ndarray) else mask
    with pytest.raises(InputError, match="mask: expected"):
        layer.apply({"params": PARAMS._asdict()}, IMAGE[None], LOGITS[None], batched)


def test_a_window_with_its_origin_is_the_whole_whose_rest_is_masked():
    """Without it the lattice lies elsewhere, and its errors are others."""
    rows, columns = window = slice(3, 9), slice(4, 11)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[window] = True
    whole = crf_rnn(IMAGE, LOGITS, PARAMS, mask=mask, **THETAS)[window]
    layer = jax.jit(CRFRNN(LABELS, **THETAS).apply)
    inputs = {"params": PARAMS._asdict()}, IMAGE[window][None], LOGITS[window][None]
    origin = np.array([rows.start, columns.start], np.float32)
    refined, moved = layer(*inputs, origin=origin)[0], layer(*inputs, origin=0 * origin)
    np.testing.assert_allclose(refined, whole, atol=1e-4)
    assert np.abs(moved[0] - whole).max() > 1e-2
