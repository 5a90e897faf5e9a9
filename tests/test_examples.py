"""Every public name has an example, and what the examples say is what comes out."""

import doctest
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import crfrnn_jax
from crfrnn_jax.pydensecrf.densecrf import DenseCRF, DenseCRF2D

EXAMPLES = {name: getattr(crfrnn_jax, name) for name in crfrnn_jax.__all__}
EXAMPLES |= {"DenseCRF": DenseCRF, "DenseCRF2D": DenseCRF2D}
NAMES = {name: getattr(crfrnn_jax, name) for name in crfrnn_jax.__all__}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name):
    thing = EXAMPLES[name]
    module = importlib.import_module(thing.__module__)
    known = vars(module) | NAMES | {"np": np, "jnp": jnp, "jax": jax}
    text = inspect.getdoc(thing) or ""
    example = doctest.DocTestParser().get_doctest(text, known, name, None, 0)
    assert example.examples, f"{name}: no example"
    runner = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF)
    said = []
    result = runner.run(example, out=said.append)
    assert result.failed == 0, "".join(said)
