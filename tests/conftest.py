"""Strict promotion in the tests of the numeric core, where every dtype is meant."""

import jax
import pytest

_STRICT = {
    "test_checks",
    "test_codes",
    "test_crf",
    "test_crf_gradients",
    "test_exact",
    "test_export",
    "test_features",
    "test_filtering",
    "test_lattice",
    "test_layers",
    "test_simplex",
}


def pytest_configure(config):
    """JAX only warns where 64-bit code is traced in 32-bit mode, and truncates."""
    config.addinivalue_line("filterwarnings", "error:Explicitly requested dtype")


@pytest.fixture(autouse=True, scope="module")
def strict_promotion(request):
    """No silent broadcasting to a higher rank and no silent change of dtype."""
    if request.module.__name__.rpartition(".")[2] not in _STRICT:
        yield
        return
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield
