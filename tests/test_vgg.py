"""FCN-32s, FCN-16s and FCN-8s against a NumPy reference written layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_fcn import fcn, random_layers

from crfrnn_jax.models import VGGFCN

LABELS, WIDTHS, HIDDEN = 3, (4, 4, 6, 6, 8), 10
SMALL = {"num_labels": LABELS, "widths": WIDTHS, "hidden": HIDDEN}
# XLA compiles JAX's default generator for half a second at each use; this one is quick.
KEY = jax.random.key(0, impl="unsafe_rbg")


def as_params(layers):
    """The reference's layers as the module's parameters."""
    params = {}
    for name, (kernel, bias) in layers.items():
        # Both ways the kernel is [height, width, ...]; a transposed one ends in
        # [out, in], as Flax has it with `transpose_kernel`.
        params[name] = {"kernel": kernel.transpose(2, 3, 1, 0)}
        if bias is not None:
            params[name]["bias"] = bias
    return {"params": params}


@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("scale_skips", [False, True])
def test_scores_are_the_references(stride, scale_skips):
    rng = np.random.default_rng(stride)
    layers = random_layers(rng, LABELS, WIDTHS, HIDDEN, stride)
    image = rng.integers(0, 256, (37, 44, 3), np.uint8)
    network = VGGFCN(**SMALL, stride=stride, scale_skips=scale_skips)
    scores = jax.jit(network.apply)(as_params(layers), image[None])[0]
    scales = (0.01, 0.0001) if scale_skips else (1.0, 1.0)
    truth = fcn(image, layers, stride, *scales)
    assert scores.dtype == jnp.float32
    # A millionth of the scores, some rounding steps of float32 per layer.
    np.testing.assert_allclose(scores, truth, atol=2e-5 * np.abs(truth).max())
    assert np.ptp(truth, axis=(0, 1)).min() > 0.1 * np.abs(truth).max()


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_every_size_of_image_is_scored_whole(stride):
    network = VGGFCN(**SMALL, stride=stride)
    params = jax.eval_shape(network.init, KEY, np.zeros((1, 8, 8, 3)))
    for side in (*range(1, 70), 375, 500, 501):
        images = jax.ShapeDtypeStruct((2, side, 2 * side - 1, 3), np.uint8)
        scores = jax.eval_shape(network.apply, params, images)
        assert scores.shape == (2, side, 2 * side - 1, LABELS)


def test_scores_start_at_zero_and_upscaling_as_bilinear_interpolation():
    network = VGGFCN(**SMALL)
    params = jax.jit(network.init)(KEY, np.zeros((1, 8, 8, 3)))["params"]
    for name in ("score_fr", "score_pool4", "score_pool3"):
        assert not np.any(params[name]["kernel"])
        assert not np.any(params[name]["bias"])
    for name, factor in (("upscore2", 2), ("upscore_pool4", 2), ("upscore8", 8)):
        kernel = np.asarray(params[name]["kernel"])
        assert kernel.shape == (2 * factor, 2 * factor, LABELS, LABELS)
        # Between two points at a distance of `factor`, weights fall from one to the
        # other linearly and always add up to one.
        for label in range(LABELS):
            own = kernel[..., label, label]
            folded = own.reshape(2, factor, 2, factor).sum((0, 2))
            np.testing.assert_allclose(folded, 1, rtol=1e-6)
            np.testing.assert_allclose(
                np.diff(own, 2, axis=0)[: factor - 2], 0, atol=1e-6
            )
        assert not np.any(kernel * (1 - np.eye(LABELS)))


def test_dropout_is_active_with_a_key_alone():
    network = VGGFCN(**SMALL, stride=32)
    rng = np.random.default_rng(0)
    params = as_params(random_layers(rng, LABELS, WIDTHS, HIDDEN, 32))
    image = rng.integers(0, 256, (1, 9, 9, 3), np.uint8)
    score = jax.jit(network.apply)
    dropped = [
        score(params, image, rngs={"dropout": jax.random.key(i)}) for i in (0, 1)
    ]
    whole = score(params, image)
    np.testing.assert_array_equal(whole, score(params, image))
    assert np.abs(dropped[0] - dropped[1]).max() > 0.01
    assert np.abs(dropped[0] - whole).max() > 0.01


def test_half_precision_is_that_of_the_layers_alone():
    rng = np.random.default_rng(0)
    params = as_params(random_layers(rng, LABELS, WIDTHS, HIDDEN, 8))
    image = rng.integers(0, 256, (1, 20, 24, 3), np.uint8)
    half, single = (
        jax.jit(VGGFCN(**SMALL, dtype=dtype).apply)(params, image)
        for dtype in ("bfloat16", "float32")
    )
    assert half.dtype == jnp.float32
    # bfloat16 keeps 8 bits, and twenty layers follow each other.
    error = np.abs(half - single).max() / np.abs(single).max()
    assert 1e-5 < error < 0.1


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ({"stride": 4}, "stride: expected 32, 16 or 8, got 4"),
        ({"widths": (4, 4)}, r"widths: expected 5 numbers, got \(4, 4\)"),
        ({"dropout": 1.0}, r"dropout: expected 0 to below 1, got 1\.0"),
        ({"dtype": "float16"}, "dtype: expected one of .* got 'float16'"),
    ],
)
def test_attributes_out_of_range_are_named(attribute, message):
    network = VGGFCN(**(SMALL | attribute))
    with pytest.raises(ValueError, match=message):
        network.init(KEY, np.zeros((1, 8, 8, 3)))


def test_images_without_colour_are_refused():
    with pytest.raises(ValueError, match=r"images: expected .*channels=3.*got .*, 1\]"):
        VGGFCN(**SMALL).init(KEY, np.zeros((1, 8, 8, 1)))
