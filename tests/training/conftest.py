import pytest
from tiny import make_tiny_config


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Where the scenes are kept: drawn once for all tests of a module."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def tiny_config(data_dir):
    return make_tiny_config(data_dir)
