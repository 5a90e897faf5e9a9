"""The derivatives of the mean field are central differences, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import central_difference
from test_crf import METHODS, THETAS, random_case

from crfrnn_jax import CRFParams, crf_rnn

ARGUMENTS = ["image", "logits", *CRFParams._fields, *THETAS]


@pytest.fixture(scope="module", params=METHODS)
def float64_case(request):
    """A weighted sum of refined logits in float64, and its gradient in everything."""
    image, logits, params = random_case(2, np.float64)
    arguments = dict(zip(CRFParams._fields, params, strict=True))
    arguments |= {"image": image, "logits": logits}
    arguments |= {name: np.float64(theta) for name, theta in THETAS.items()}
    weights = np.random.default_rng(3).normal(size=logits.shape)

    def loss(arguments):
        arguments = dict(arguments)
        params = CRFParams(*(arguments.pop(name) for name in CRFParams._fields))
        image, logits = arguments.pop("image"), arguments.pop("logits")
        refined = crf_rnn(
            image, logits, params, num_iterations=3, method=request.param, **arguments
        )
        return jnp.sum(weights * refined)

    # For the values too: the loss alone would take as long again to compile.
    value_and_grad = jax.jit(jax.value_and_grad(loss))

    def value_of(arguments):
        with jax.enable_x64(True):
            value, _ = value_and_grad(arguments)
        assert value.dtype == np.float64
        return value

    with jax.enable_x64(True):
        _, gradient = value_and_grad(arguments)
    return value_of, arguments, gradient


@pytest.mark.parametrize("name", ARGUMENTS)
def test_gradients_are_central_differences(float64_case, name):
    """Steps of a ten-millionth of the argument's size stay inside every simplex."""
    loss, arguments, gradient = float64_case
    argument = arguments[name]
    rng = np.random.default_rng(4)
    direction = rng.normal(size=np.shape(argument)) * np.abs(argument).max()

    def of_one(x):
        return loss(arguments | {name: x})

    slope = central_difference(of_one, argument, direction, 1e-7)
    assert abs(slope) > 1e-3
    assert np.shape(gradient[name]) == np.shape(argument)
    np.testing.assert_allclose(np.vdot(gradient[name], direction), slope, rtol=1e-5)
