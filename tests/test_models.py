from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.models import BACKBONES, FCN, Segmenter, build_segmenter

MODEL = {"name": "fcn", "widths": (8, 8, 16), "blocks": (0, 1, 1), "num_skips": 2}
CRF = {
    "num_iterations": 2,
    "theta_alpha": 8.0,
    "theta_beta": 20.0,
    "theta_gamma": 2.0,
    "spatial_weight": 1.0,
    "bilateral_weight": 2.0,
    "method": "exact",
}


# XLA compiles JAX's default generator for half a second at each use; this one is quick.
KEY = jax.random.key(0, impl="unsafe_rbg")


@pytest.fixture(scope="module")
def segmenter():
    config = ConfigDict({"model": MODEL, "crf": CRF, "canvas": 0})
    model = build_segmenter(config, num_labels=3)
    images = jax.random.uniform(jax.random.key(0), (2, 13, 18, 3), maxval=255.0)
    return model, jax.jit(model.init)(KEY, images), images


def test_fcn_scores_every_pixel_of_any_size():
    fcn = FCN(num_labels=4, widths=(8, 8, 16), blocks=(0, 1, 1), num_skips=2)
    params = jax.eval_shape(fcn.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    for size in ((1, 1), (7, 30), (33, 17)):
        images = np.zeros((2, *size, 3), np.uint8)
        scores = jax.eval_shape(fcn.apply, params, images)
        assert scores.shape == (2, *size, 4)
        assert scores.dtype == jnp.float32


def test_fcn_treats_every_image_alone():
    fcn = FCN(num_labels=4, widths=(8, 8, 16), blocks=(0, 1, 1), num_skips=2)
    images = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3), maxval=255.0)
    params = jax.jit(fcn.init)(KEY, images)
    scores = jax.jit(fcn.apply)
    # Convolutions of another batch size may add up in another order.
    np.testing.assert_allclose(
        scores(params, images[1:]), scores(params, images)[1:], atol=1e-5
    )


def test_segmenter_refines_what_its_backbone_scores(segmenter):
    model, params, images = segmenter
    assert set(params["params"]) == {"backbone", "crf"}
    unary = jax.jit(partial(model.apply, method=model.unary))(params, images)
    refined = jax.jit(model.apply)(params, images)
    layer = CRFRNN(num_labels=3, **CRF)
    expected = layer.apply({"params": params["params"]["crf"]}, images, unary)
    np.testing.assert_allclose(refined, expected, atol=1e-5)
    assert np.abs(refined - unary).max() > 0.1


def test_segmenter_takes_another_number_of_iterations_at_test(segmenter):
    model, params, images = segmenter
    unary = np.zeros((*images.shape[:3], 3), np.float32)
    same = model.apply(params, images, unary, num_iterations=0, method=model.refine)
    np.testing.assert_array_equal(same, unary)


def test_any_backbone_of_logits_plugs_in():
    class Pointwise(nn.Module):
        @nn.compact
        def __call__(self, images):
            return nn.Dense(3)(images / 255.0)

    model = Segmenter(Pointwise(), CRFRNN(num_labels=3, **CRF))
    images = jnp.ones((1, 6, 6, 3))
    params = model.init(jax.random.key(0), images)
    assert model.apply(params, images).shape == (1, 6, 6, 3)


class OwnBackbone(nn.Module):
    """A user's network, named by its import path."""

    num_labels: int
    scale: float

    @nn.compact
    def __call__(self, images):
        return self.scale * nn.Dense(self.num_labels)(images / 255.0)


def test_a_backbone_of_ones_own_is_named_by_its_import_path():
    name = f"{__name__}:OwnBackbone"
    config = ConfigDict(
        {"model": {"name": name, "scale": 2.0}, "crf": CRF, "canvas": 0}
    )
    model = build_segmenter(config, num_labels=3)
    assert model.backbone == OwnBackbone(num_labels=3, scale=2.0)
    images = jnp.ones((1, 6, 6, 3))
    assert model.apply(model.init(KEY, images), images).shape == (1, 6, 6, 3)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "vgg"}, r"config.model.name: .*\['fcn', 'vgg_fcn'\] or .*got 'vgg'"),
        (
            {"name": "nowhere:Net"},
            "config.model.name: .*'nowhere:Net': No module named",
        ),
        ({"name": "math:Net"}, "config.model.name: .* imported, got 'math:Net'"),
        ({"name": "fcn", "width": 3}, "config.model: .* fcn, got: .*'width'"),
    ],
)
def test_backbones_that_cannot_be_built_are_named(model, message):
    config = ConfigDict({"model": model, "crf": CRF, "canvas": 0})
    with pytest.raises(ValueError, match=message):
        build_segmenter(config, 3)


def test_without_a_crf_the_logits_are_the_backbones():
    model = Segmenter(OwnBackbone(3, 1.0), None)
    images = jax.random.uniform(KEY, (1, 6, 6, 3), maxval=255.0)
    params = model.init(KEY, images)
    assert set(params["params"]) == {"backbone"}
    unary = model.apply(params, images, method=model.unary)
    np.testing.assert_array_equal(model.apply(params, images), unary)


def test_a_mask_keeps_padding_out_of_the_crf():
    model = Segmenter(OwnBackbone(3, 1.0), CRFRNN(num_labels=3, **CRF))
    images = jax.random.uniform(KEY, (1, 6, 8, 3), maxval=255.0)
    params = model.init(KEY, images)
    padded = jnp.pad(images, ((0, 0), (0, 3), (0, 2), (0, 0)), constant_values=90.0)
    mask = jnp.pad(jnp.ones((1, 6, 8), bool), ((0, 0), (0, 3), (0, 2)))
    refined = model.apply(params, padded, mask)
    np.testing.assert_allclose(
        refined[:, :6, :8], model.apply(params, images), atol=2e-5
    )
    assert np.abs(model.apply(params, padded) - refined).max() > 1e-3


def test_on_a_canvas_padding_has_the_mean_colour_and_takes_part():
    """The CRF of BGR less the mean, which is zero where the image is padded."""
    model = Segmenter(OwnBackbone(3, 1.0), CRFRNN(num_labels=3, **CRF), canvas=9)
    images = jax.random.uniform(KEY, (1, 9, 9, 3), maxval=255.0)
    mask = jnp.zeros((1, 9, 9), bool).at[:, :6, :8].set(True)
    params = model.init(KEY, images)
    mean = np.array([123.68, 116.779, 103.939], np.float32)
    padded = np.where(mask[..., None], images, mean)
    unary = model.apply(params, images, mask, method=model.unary)
    backbone = OwnBackbone(3, 1.0)
    own = {"params": params["params"]["backbone"]}
    np.testing.assert_allclose(unary, backbone.apply(own, padded), atol=1e-5)
    refined = model.apply(params, images, mask)
    expected = CRFRNN(num_labels=3, **CRF).apply(
        {"params": params["params"]["crf"]}, padded[..., ::-1] - mean[::-1], unary
    )
    np.testing.assert_allclose(refined, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ({"widths": (8, 12, 8)}, r"widths: expected multiples of 8, got \(8, 12, 8\)"),
        ({"blocks": (0, 0)}, r"blocks: expected 3 numbers, as widths, got \(0, 0\)"),
    ],
)
def test_attributes_that_do_not_fit_are_named(attribute, message):
    stages = {"widths": (8, 8, 8), "blocks": (0, 0, 0)}
    fcn = FCN(num_labels=2, num_skips=1, **(stages | attribute))
    with pytest.raises(ValueError, match=message):
        fcn.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


@pytest.mark.parametrize("num_skips", [0, 4])
def test_skips_that_the_stages_do_not_have_are_named(num_skips):
    fcn = FCN(num_labels=2, widths=(8, 8, 8), blocks=(0, 0, 0), num_skips=num_skips)
    with pytest.raises(ValueError, match=rf"num_skips: expected 1 .* got {num_skips}"):
        fcn.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


@pytest.mark.parametrize("name", ["fcn", "vgg_fcn"])
def test_remat_changes_neither_parameters_nor_gradients(name):
    """The same operations, some of them twice: it differs by no more than rounding."""
    attributes = {
        "fcn": {"widths": (8, 16), "blocks": (1, 2), "num_skips": 2},
        "vgg_fcn": {"widths": (4, 4, 4, 4, 4), "hidden": 8},
    }
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), np.uint8)
    kept, anew = (
        BACKBONES[name](num_labels=3, remat=remat, **attributes[name])
        for remat in (False, True)
    )
    params = jax.jit(kept.init)(jax.random.key(0), image)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        jnp.shape, jax.eval_shape(anew.init, jax.random.key(0), image)
    )

    def gradients(network):
        def loss(params):
            key = {"dropout": jax.random.key(1)}
            return jnp.mean(network.apply(params, image, rngs=key) ** 2)

        assert ("remat" in str(jax.make_jaxpr(loss)(params))) == network.remat
        return jax.jit(jax.grad(loss))(params)

    for expected, leaf in zip(
        jax.tree.leaves(gradients(kept)), jax.tree.leaves(gradients(anew)), strict=True
    ):
        np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-7)


def test_half_precision_is_that_of_the_features_alone():
    """Eight bits of a mantissa: a few per cent after some layers, and float32 out."""
    image = np.random.default_rng(0).integers(0, 256, (1, 24, 24, 3), np.uint8)
    full, half = (
        BACKBONES["fcn"](3, (8, 16), (1, 1), 2, dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    params = jax.jit(full.init)(jax.random.key(0), image)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    expected, logits = (net.apply(params, image) for net in (full, half))
    assert logits.dtype == jnp.float32
    scale = float(jnp.abs(expected).max())
    assert 0 < float(jnp.abs(logits - expected).max()) < 0.05 * scale
