"""Strict promotion in the tests of the numeric core; programs shared and let go."""

import os
import shutil
import tempfile

import jax
import pytest
from hypothesis import settings

# No test is timed: an example that compiles, or a busy machine, takes its time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_STRICT = {
    "test_capacity",
    "test_checks",
    "test_codes",
    "test_crf",
    "test_crf_errors",
    "test_crf_gradients",
    "test_energies",
    "test_exact",
    "test_export",
    "test_features",
    "test_filtering",
    "test_filtering_gradients",
    "test_hashed_codes",
    "test_in_memory",
    "test_inference",
    "test_kernels",
    "test_lattice",
    "test_layer_forms",
    "test_layers",
    "test_masks",
    "test_mixing",
    "test_rooms",
    "test_searching",
    "test_simplex",
    "test_sorting",
}


# Where the workers of a test run, and the scripts that they start, share what they
# compile; fresh for each run, so that no test passes on an earlier one's program.
_CACHE = "JAX_COMPILATION_CACHE_DIR"


def pytest_configure(config):
    """Sets up JAX for the tests: half of their time would go into compiling again."""
    # JAX only warns where 64-bit code is traced in 32-bit mode, and truncates.
    config.addinivalue_line("filterwarnings", "error:Explicitly requested dtype")
    if not hasattr(config, "workerinput"):
        directory = tempfile.mkdtemp(prefix="crfrnn-jax-tests-")
        config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
        os.environ[_CACHE] = directory
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    jax.config.update("jax_compilation_cache_dir", os.environ[_CACHE])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture(autouse=True, scope="module")
def programs_of_a_module():
    """Lets go of a module's compiled programs at its end.

    Each holds some of the memory maps that Linux allows a process, 65530; with those of
    all modules a worker ran out of them, and crashed.
    """
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True, scope="module")
def strict_promotion(request):
    """No silent broadcasting to a higher rank and no silent change of dtype."""
    if request.module.__name__.rpartition(".")[2] not in _STRICT:
        yield
        return
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield
