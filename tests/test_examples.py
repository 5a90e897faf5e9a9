"""Every public name has an example, and what the examples say is what comes out."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import crfrnn_jax

PAGE = Path(__file__).parent.parent / "docs" / "api.md"


def names_of_the_page():
    """What the documentation has, by its full name."""
    for module, name in re.findall(r"^::: ([\w.]+)\.(\w+)$", PAGE.read_text(), re.M):
        yield f"{module}.{name}", getattr(importlib.import_module(module), name)


EXAMPLES = {name: getattr(crfrnn_jax, name) for name in crfrnn_jax.__all__}
EXAMPLES |= {
    name: thing for name, thing in names_of_the_page() if thing not in EXAMPLES.values()
}
NAMES = {name: getattr(crfrnn_jax, name) for name in crfrnn_jax.__all__}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name):
    thing = EXAMPLES[name]
    module = importlib.import_module(thing.__module__)
    known = NAMES | vars(module) | {"np": np, "jnp": jnp, "jax": jax}
    text = inspect.getdoc(thing) or ""
    example = doctest.DocTestParser().get_doctest(text, known, name, None, 0)
    assert example.examples, f"{name}: no example"
    runner = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF)
    said = []
    result = runner.run(example, out=said.append)
    assert result.failed == 0, "".join(said)
