from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.models import FCN, Segmenter, build_segmenter

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
    config = ConfigDict({"model": MODEL, "crf": CRF})
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
    same = model.apply(params, images, unary, 0, method=model.refine)
    np.testing.assert_array_equal(same, unary)


def test_any_backbone_of_logits_plugs_in():
    import flax.linen as nn

    class Pointwise(nn.Module):
        @nn.compact
        def __call__(self, images):
            return nn.Dense(3)(images / 255.0)

    model = Segmenter(Pointwise(), CRFRNN(num_labels=3, **CRF))
    images = jnp.ones((1, 6, 6, 3))
    params = model.init(jax.random.key(0), images)
    assert model.apply(params, images).shape == (1, 6, 6, 3)


def test_unknown_backbone_is_named():
    config = ConfigDict({"model": MODEL | {"name": "vgg"}, "crf": CRF})
    with pytest.raises(ValueError, match=r"config.model.name: .*\['fcn'\], got 'vgg'"):
        build_segmenter(config, 3)


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
