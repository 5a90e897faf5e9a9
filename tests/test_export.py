"""The layer lowers for every platform from a machine that has but a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from oracles import crf

from crfrnn_jax import CRFParams, crf_rnn

LABELS = 3
RNG = np.random.default_rng(0)
ARGUMENTS = (
    RNG.uniform(0, 255, (5, 6, 3)).astype(np.float32),
    RNG.normal(size=(5, 6, LABELS)).astype(np.float32),
    *RNG.normal(size=(3, LABELS, LABELS)).astype(np.float32),
)
THETAS = (160.0, 60.0, 2.3)
PLATFORMS = ["cpu", "cuda", "tpu"]


def refine(image, logits, *params):
    theta_alpha, theta_beta, theta_gamma = THETAS
    return crf_rnn(
        image,
        logits,
        CRFParams(*params),
        theta_alpha=theta_alpha,
        theta_beta=theta_beta,
        theta_gamma=theta_gamma,
    )


def gradient(*arguments):
    def loss(*arguments):
        return jnp.sum(refine(*arguments) ** 2)

    return jax.grad(loss, argnums=tuple(range(len(ARGUMENTS))))(*arguments)


def exported(function):
    return export.export(jax.jit(function), platforms=PLATFORMS)(*ARGUMENTS)


@pytest.fixture(scope="module")
def layer():
    return exported(refine)


def test_layer_lowers_for_cpu_cuda_and_tpu(layer):
    assert list(layer.platforms) == PLATFORMS
    assert [aval.dtype for aval in layer.out_avals] == [jnp.float32]


def test_gradient_lowers_for_cpu_cuda_and_tpu():
    lowered = exported(gradient)
    assert list(lowered.platforms) == PLATFORMS
    assert [aval.shape for aval in lowered.out_avals] == [x.shape for x in ARGUMENTS]


def test_an_exported_layer_survives_serialisation(layer):
    loaded = export.deserialize(layer.serialize())
    image, logits, *params = ARGUMENTS
    truth = crf(image, logits, params, THETAS, 5, "lattice")
    np.testing.assert_allclose(loaded.call(*ARGUMENTS), truth, atol=1e-4)
