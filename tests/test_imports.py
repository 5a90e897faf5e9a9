"""Imports point down one list of layers, and Flax starts at its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import crfrnn_jax

PACKAGE = Path(crfrnn_jax.__file__).parent

# Every module imports only from those before it; a folder is one entry.
LAYERS = [
    "checks",
    "sections",
    "attributes",
    "writing",
    "processes",
    "tiles",
    "indexing",
    "in_memory",
    "simplex",
    "codes",
    "searching",
    "sorting",
    "entries",
    "neighbours",
    "rooms",
    "lattice",
    "splat_blur_slice",
    "room_filters",
    "filtering",
    "exact",
    "features",
    "kernels",
    "kernel_filters",
    "crf_model",
    "iterations",
    "inference",
    "marginals",
    "energies",
    "crf",
    "unaries",
    "refine",
    "pydensecrf",
    "losses",
    "layers",
    "fitting",
    "metrics",
    "models",
    "weights",
    "crf_file",
    "data",
    "evaluation",
    "training",
    "predict",
    "__main__",
]
# The numeric core knows no framework: these come no sooner than the layer named.
CORE = {"jax", "numpy"}
FIRST = "layers"


def entry_of(path):
    """A module's entry among the layers: commands may import from all of them."""
    if path.name == "__main__.py":
        return "__main__"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Full names of what a file imports, at its top or inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)
MODULES += sorted(path for path in PACKAGE.glob("[!_]*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in MODULES]


def test_every_module_has_its_layer():
    assert {entry_of(path) for path in MODULES} <= set(LAYERS)
    assert len(set(LAYERS)) == len(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_point_down(path):
    own = LAYERS.index(entry_of(path))
    for name in imports_of(path):
        if name == "crfrnn_jax" or not name.startswith("crfrnn_jax."):
            assert name != "crfrnn_jax", "the table of contents is for users"
            continue
        below = LAYERS.index(name.split(".")[1])
        inside_its_folder = below == own and path.parent != PACKAGE
        assert below < own or inside_its_folder, name


CORE_MODULES = [
    path for path in MODULES if LAYERS.index(entry_of(path)) < LAYERS.index(FIRST)
]


@pytest.mark.parametrize("path", CORE_MODULES, ids=str)
def test_the_core_imports_jax_and_numpy_alone(path):
    others = {name.split(".")[0] for name in imports_of(path)}
    assert others <= CORE | set(sys.stdlib_module_names) | {"crfrnn_jax"}


def test_the_table_of_contents_lists_what_it_imports():
    names = {name.split(".")[-1] for name in imports_of(PACKAGE / "__init__.py")}
    assert names == set(crfrnn_jax.__all__)
    assert len(crfrnn_jax.__all__) == len(names)


def test_importing_the_package_imports_no_framework():
    heavy = ["flax", "optax", "orbax", "grain", "tensorflow", "tensorflow_datasets"]
    program = (
        "import sys, crfrnn_jax\n"
        f"sys.exit(' '.join(sorted(set({heavy}) & set(sys.modules))) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
