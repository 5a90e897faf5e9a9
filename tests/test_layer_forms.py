"""The forms of the layer's parameters that the paper compares (section 7.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import crf

from crfrnn_jax import CRFParams, InputError, crf_rnn, init_crf_params
from crfrnn_jax.layers import CRFRNN

LABELS = 3
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (1, 5, 6, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(1, 5, 6, LABELS)).astype(np.float32)
THETAS = {"theta_alpha": 4.7, "theta_beta": 60.0, "theta_gamma": 2.3}
SHAPES = {"scalar": (), "per_label": (LABELS,), "full": (LABELS, LABELS)}


def layer_of(**changes):
    return CRFRNN(LABELS, **(THETAS | {"method": "exact"} | changes))


def draw(layer):
    """Parameters of the layer's shapes, without any symmetry."""
    variables = layer.init(jax.random.key(0), IMAGES, LOGITS)
    return jax.tree.map(
        lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), variables
    )


def matrix_of(weights):
    """Weights of any form as a matrix."""
    weights = np.asarray(weights)
    return weights if weights.ndim == 2 else weights * np.eye(LABELS)


@pytest.mark.parametrize("form", SHAPES)
def test_weights_are_one_number_one_per_label_or_a_matrix(form):
    layer = layer_of(weights_form=form)
    variables = draw(layer)
    params = variables["params"]
    for kernel in ("spatial_weights", "bilateral_weights"):
        assert params[kernel].shape == SHAPES[form]
    truth = crf(
        IMAGES[0],
        LOGITS[0],
        CRFParams(
            matrix_of(params["spatial_weights"]),
            matrix_of(params["bilateral_weights"]),
            params["compatibility"],
        ),
        THETAS.values(),
        5,
        "exact",
    )
    refined = layer.apply(variables, IMAGES, LOGITS)[0]
    np.testing.assert_allclose(refined, truth, atol=1e-4)


@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize("compatibility", ["potts", "symmetric", "full"])
@pytest.mark.parametrize("share", [True, False])
def test_every_form_starts_as_the_authors(form, compatibility, share):
    layer = layer_of(
        weights_form=form, compatibility_form=compatibility, share_parameters=share
    )
    refined, _ = layer.init_with_output(jax.random.key(0), IMAGES, LOGITS)
    authors = crf_rnn(
        IMAGES[0], LOGITS[0], init_crf_params(LABELS), **THETAS, method="exact"
    )
    np.testing.assert_allclose(refined[0], authors, atol=1e-5)


def test_potts_has_no_parameter():
    variables = draw(layer_of(compatibility_form="potts"))
    assert set(variables["params"]) == {"spatial_weights", "bilateral_weights"}


def test_a_symmetric_compatibility_is_the_symmetric_part_and_stays_so():
    layer = layer_of(compatibility_form="symmetric")
    variables = draw(layer)
    compatibility = variables["params"]["compatibility"]
    symmetric = {"compatibility": (compatibility + compatibility.T) / 2}
    full = layer_of().apply({"params": variables["params"] | symmetric}, IMAGES, LOGITS)
    np.testing.assert_allclose(layer.apply(variables, IMAGES, LOGITS), full, atol=1e-5)
    weights = RNG.normal(size=LOGITS.shape).astype(np.float32)

    def loss(variables):
        return jnp.sum(weights * layer.apply(variables, IMAGES, LOGITS))

    gradient = jax.grad(loss)(variables)["params"]["compatibility"]
    np.testing.assert_allclose(gradient, gradient.T, atol=1e-6)


def test_unshared_iterations_have_parameters_of_their_own():
    """As one iteration of each, whose unary is always the network's."""
    layer = layer_of(share_parameters=False, num_iterations=3)
    variables = draw(layer)
    stacks = CRFParams(**variables["params"])
    assert {stack.shape for stack in stacks} == {(3, LABELS, LABELS)}
    refined = layer.apply(variables, IMAGES, LOGITS)[0]
    truth = crf(IMAGES[0], LOGITS[0], stacks, THETAS.values(), 3, "exact")
    np.testing.assert_allclose(refined, truth, atol=1e-4)


def test_unshared_iterations_cannot_be_more_at_test():
    layer = layer_of(share_parameters=False, num_iterations=3)
    with pytest.raises(InputError, match=r"num_iterations: .* parameters, 3, got 10"):
        layer.apply(draw(layer), IMAGES, LOGITS, num_iterations=10)


def test_relu_normalises_the_positive_parts():
    layer = layer_of(normalisation="relu", num_iterations=3)
    variables = draw(layer)
    logits = LOGITS.copy()
    logits[0, 2, 3] = -1.0  # a pixel without a positive part sends nothing

    def positive_parts(x):
        positive = np.maximum(x, 0)
        total = positive.sum(-1, keepdims=True)
        return np.divide(positive, total, where=total > 0, out=np.zeros_like(x))

    truth = crf(
        IMAGES[0],
        logits[0],
        CRFParams(**variables["params"]),
        THETAS.values(),
        3,
        "exact",
        normalise=positive_parts,
    )
    refined = layer.apply(variables, IMAGES, logits)[0]
    np.testing.assert_allclose(refined, truth, atol=1e-4)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("weights_form", "diagonal"),
        ("compatibility_form", "free"),
        ("normalisation", "sigmoid"),
    ],
)
def test_unknown_forms_are_named(attribute, value):
    with pytest.raises(InputError, match=f"{attribute}: expected .* got '{value}'"):
        layer_of(**{attribute: value}).init(jax.random.key(0), IMAGES, LOGITS)


def test_learned_widths_are_parameters_by_their_logarithms():
    layer = layer_of(learn_widths=True)
    variables = layer.init(jax.random.key(0), IMAGES, LOGITS)
    fixed = layer_of()
    same = fixed.apply(fixed.init(jax.random.key(0), IMAGES, LOGITS), IMAGES, LOGITS)
    np.testing.assert_allclose(layer.apply(variables, IMAGES, LOGITS), same, atol=1e-5)
    widths = {name: np.exp(variables["params"][f"log_{name}"]) for name in THETAS}
    np.testing.assert_allclose([*widths.values()], [*THETAS.values()], rtol=1e-6)


def test_derivatives_by_the_log_widths_are_the_widths_times_those_by_them():
    """Of `crf_rnn` with the exact filter, in float64, by differences."""
    layer = layer_of(learn_widths=True)
    variables = layer.init(jax.random.key(0), IMAGES, LOGITS)

    def loss(variables):
        return jnp.sum(jnp.sin(layer.apply(variables, IMAGES, LOGITS)))

    gradients = jax.grad(loss)(variables)["params"]
    params = init_crf_params(LABELS)
    for name, theta in THETAS.items():

        def loss_of(value, name=name):
            widths = THETAS | {name: float(value)}
            with jax.enable_x64(True):
                refined = crf_rnn(
                    IMAGES[0].astype(np.float64),
                    LOGITS[0].astype(np.float64),
                    params,
                    **widths,
                    method="exact",
                )
                return np.sin(np.asarray(refined)).sum()

        step = 1e-5 * theta
        by_width = (loss_of(theta + step) - loss_of(theta - step)) / (2 * step)
        assert abs(by_width) > 1e-4
        np.testing.assert_allclose(
            gradients[f"log_{name}"], theta * by_width, rtol=2e-3
        )


def test_widths_can_be_found_again():
    """Logits made by other widths lead from a wrong start back to those."""
    truth = layer_of(theta_beta=90.0)
    start = layer_of(learn_widths=True)
    variables = start.init(jax.random.key(0), IMAGES, LOGITS)
    target = jax.nn.softmax(
        truth.apply(truth.init(jax.random.key(0), IMAGES, LOGITS), IMAGES, LOGITS)
    )

    @jax.jit
    def update(log_theta_beta):
        def loss(log_theta_beta):
            params = variables["params"] | {"log_theta_beta": log_theta_beta}
            refined = start.apply({"params": params}, IMAGES, LOGITS)
            return -jnp.mean(target * jax.nn.log_softmax(refined))

        return log_theta_beta - 0.3 * jax.grad(loss)(log_theta_beta)

    log_theta_beta = jnp.log(60.0)
    for _ in range(100):
        log_theta_beta = update(log_theta_beta)
    np.testing.assert_allclose(np.exp(log_theta_beta), 90.0, rtol=0.02)
