"""The layer lowers for every platform from a machine that has but a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from crfrnn_jax import CRFParams, crf_rnn

LABELS = 3
RNG = np.random.default_rng(0)
ARGUMENTS = (
    RNG.uniform(0, 255, (5, 6, 3)).astype(np.float32),
    RNG.normal(size=(5, 6, LABELS)).astype(np.float32),
    *RNG.normal(size=(3, LABELS, LABELS)).astype(np.float32),
)
PLATFORMS = ["cpu", "cuda", "tpu"]


def refine(image, logits, *params):
    return crf_rnn(image, logits, CRFParams(*params), theta_beta=60.0)


def gradient(*arguments):
    def loss(*arguments):
        return jnp.sum(refine(*arguments) ** 2)

    return jax.grad(loss, argnums=tuple(range(len(ARGUMENTS))))(*arguments)


@pytest.mark.parametrize("function", [refine, gradient])
def test_layer_and_gradient_lower_for_cpu_cuda_and_tpu(function):
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(*ARGUMENTS)
    assert list(exported.platforms) == PLATFORMS
    assert all(aval.dtype == jnp.float32 for aval in exported.out_avals)


def test_an_exported_layer_survives_serialisation():
    exported = export.export(jax.jit(refine), platforms=PLATFORMS)(*ARGUMENTS)
    loaded = export.deserialize(exported.serialize())
    np.testing.assert_allclose(
        loaded.call(*ARGUMENTS), refine(*ARGUMENTS), rtol=1e-5, atol=1e-5
    )
