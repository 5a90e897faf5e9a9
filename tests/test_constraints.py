"""constraints.txt pins all that pyproject.toml asks for, within its bounds."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"].items()
# The packages for accelerators follow JAX's own version.
ASKED = PROJECT["dependencies"] + [
    each for extra, asked in EXTRAS if extra not in ("cuda", "tpu") for each in asked
]
LOCK = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize(
    "asked", sorted(each for each in set(ASKED) if not each.startswith(PROJECT["name"]))
)
def test_the_lock_pins_what_is_asked_for(asked):
    asked = Requirement(asked)
    name = canonicalize_name(asked.name)
    pinned = [each.specifier for each in LOCK if canonicalize_name(each.name) == name]
    assert pinned, "make lock"
    for specifier in pinned:
        (only,) = specifier
        assert only.operator == "=="
        assert only.version in asked.specifier, "make lock"
