"""The Flax layer is `crf_rnn` with its own parameters, image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from oracles import crf

from crfrnn_jax import CRFParams, crf_rnn, init_crf_params
from crfrnn_jax.layers import CRFRNN

LABELS = 3
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (2, 5, 6, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(2, 5, 6, LABELS)).astype(np.float32)
THETAS = {"theta_alpha": 4.7, "theta_beta": 60.0, "theta_gamma": 2.3}
RANDOM = CRFParams(*RNG.normal(size=(3, LABELS, LABELS)).astype(np.float32))


def layer_of(method="exact", **changes):
    return CRFRNN(LABELS, **(THETAS | changes), method=method)


@pytest.fixture(scope="module")
def variables():
    return layer_of().init(jax.random.key(0), IMAGES, LOGITS)


def test_parameters_are_crf_params_with_the_authors_values(variables):
    assert set(variables) == {"params"}
    assert set(variables["params"]) == set(CRFParams._fields)
    for name, value in init_crf_params(LABELS)._asdict().items():
        np.testing.assert_array_equal(variables["params"][name], value)
        assert variables["params"][name].dtype == jnp.float32


@pytest.mark.parametrize(
    ("method", "spatial_method"),
    [("lattice", None), ("exact", None), ("exact", "separable")],
)
def test_layer_is_the_references_mean_field_of_each_image(method, spatial_method):
    """With parameters and widths of no symmetry, so that none is left unused."""
    layer = layer_of(method, num_iterations=3, spatial_method=spatial_method)
    refined = layer.apply({"params": RANDOM._asdict()}, IMAGES, LOGITS)
    assert refined.dtype == jnp.float32
    for ours, image, logits in zip(refined, IMAGES, LOGITS, strict=True):
        truth = crf(image, logits, RANDOM, THETAS.values(), 3, method)
        np.testing.assert_allclose(ours, truth, atol=1e-4)


def test_defaults_are_those_of_crf_rnn(variables):
    """Five iterations and the authors' widths."""
    refined = CRFRNN(LABELS, method="exact").apply(variables, IMAGES, LOGITS)
    alone = crf_rnn(IMAGES[0], LOGITS[0], init_crf_params(LABELS), method="exact")
    np.testing.assert_allclose(refined[0], alone, rtol=1e-5, atol=1e-5)
    assert CRFRNN(LABELS).method == "lattice"


@pytest.mark.parametrize("num_iterations", [0, 2])
def test_a_call_may_name_another_number_of_iterations(variables, num_iterations):
    ours = layer_of(num_iterations=5).apply(
        variables, IMAGES, LOGITS, num_iterations=num_iterations
    )
    other = layer_of(num_iterations=num_iterations).apply(variables, IMAGES, LOGITS)
    np.testing.assert_array_equal(ours, other)
    five = layer_of(num_iterations=5).apply(variables, IMAGES, LOGITS)
    assert np.abs(ours - five).max() > 1e-3


def test_gradients_reach_the_parameters_the_images_and_the_logits():
    weights = np.random.default_rng(1).normal(size=LOGITS.shape).astype(np.float32)

    def layers_loss(params, images, logits):
        refined = layer_of().apply({"params": params._asdict()}, images, logits)
        return jnp.sum(weights * refined)

    def functions_loss(params, images, logits):
        refined = [
            crf_rnn(image, unary, params, **THETAS, method="exact")
            for image, unary in zip(images, logits, strict=True)
        ]
        return jnp.sum(weights * jnp.stack(refined))

    ours, truth = (
        jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(RANDOM, IMAGES, LOGITS)
        for loss in (layers_loss, functions_loss)
    )
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(truth), strict=True):
        scale = np.abs(other).max()
        assert scale > 0
        np.testing.assert_allclose(one, other, atol=1e-5 * scale)


def test_layer_runs_in_nnx():
    bridged = nnx.bridge.ToNNX(layer_of(), rngs=nnx.Rngs(0))
    bridged = nnx.bridge.lazy_init(bridged, IMAGES, LOGITS)
    for name, value in init_crf_params(LABELS)._asdict().items():
        np.testing.assert_array_equal(getattr(bridged, name)[...], value)
    linen = layer_of().init_with_output(jax.random.key(0), IMAGES, LOGITS)[0]
    np.testing.assert_allclose(bridged(IMAGES, LOGITS), linen, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "logits", "message"),
    [
        (IMAGES[0], LOGITS, r"images: expected shape \[batch, .*got \[5, 6, 3\]"),
        (IMAGES, LOGITS[0], r"logits: expected shape \[batch=2, .*got \[5, 6, 3\]"),
        (IMAGES, LOGITS[:1], r"logits: expected .*batch=2.*got \[1, 5, 6, 3\]"),
        (IMAGES[:, :4], LOGITS, r"logits: expected .*height=4.*got \[2, 5, 6, 3\]"),
        (IMAGES, LOGITS[..., :2], r"logits: expected .*num_labels=3.*got .*6, 2\]"),
        (
            IMAGES,
            LOGITS.astype(int),
            r"logits: expected floating-point .*got dtype int",
        ),
    ],
)
def test_bad_batches_raise(variables, images, logits, message):
    with pytest.raises(ValueError, match=message):
        layer_of().apply(variables, images, logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"theta_alpha": 0.0}, r"theta_alpha: expected a positive finite .*got 0\.0"),
        ({"num_iterations": -1}, "num_iterations: expected at least 0, got -1"),
        ({"method": "dense"}, "method: expected one of .*got 'dense'"),
    ],
)
def test_bad_attributes_raise(variables, changes, message):
    layer = CRFRNN(**({"num_labels": LABELS, "method": "exact"} | changes))
    with pytest.raises(ValueError, match=message):
        layer.apply(variables, IMAGES, LOGITS)


def test_bad_numbers_of_labels_raise():
    with pytest.raises(ValueError, match="num_labels"):
        CRFRNN(0).init(jax.random.key(0), IMAGES, LOGITS)
