"""Runs the tests at the lowest and at the newest versions that pyproject.toml allows.

    python tests/bounds.py --python=3.11 --python=3.13 tests/test_crf.py tests/data

Each Python gets three fresh environments: `bare` has the functions' own requirements at
their lowest, `lowest` those of the scripts and the tests, `newest` the same at the
newest. In the last two run the tests that are named, or all. A Python is a version that
uv finds, or a path; `make bounds` brings uv itself.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
UV = [sys.executable, "-m", "uv"]
PYTEST = ["-m", "pytest", "--numprocesses=2", "--dist=loadfile"]
PYTEST += ["--no-loadscope-reorder"]
# Where only the functions are installed: their tests, and what those need to run.
BARE = ["test_imports", "test_crf", "test_refine", "test_unaries"]
TOOLS = ["pytest", "pytest-xdist", "hypothesis", "pillow"]
# The extras, uv's name for the versions, and the tests where they are not to be chosen.
ENVIRONMENTS = {
    "bare": ("", "lowest-direct", [f"tests/{name}.py" for name in BARE]),
    "lowest": ("[train,dev]", "lowest-direct", None),
    "newest": ("[train,dev]", "highest", None),
}
SHOWN = ["jax", "numpy", "flax", "grain", "orbax-checkpoint"]
LINE = "{:8} {:8}" + " {:>8}" * 4 + " {:>16}  {}"


def install(folder, python, extras, resolution):
    """Makes an environment in a folder; returns the path of its Python."""
    subprocess.run([*UV, "venv", "--quiet", "--python", python, folder], check=True)
    within = folder / "bin" / "python"
    pip = [*UV, "pip", "install", "--quiet", "--python", within]
    # The lowest that has a wheel: releases before a Python were never meant for it.
    # promise has none at all.
    pip += ["--only-binary=:all:", "--no-binary=promise"]
    project = [f"--resolution={resolution}", "--editable", f".{extras}"]
    if resolution == "lowest-direct":
        build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
        pinned = folder / "build.txt"
        pinned.write_text("\n".join(build["requires"]).replace(">=", "=="))
        # Not out of uv's cache, where a newer backend may have built it.
        project += [f"--build-constraints={pinned}", "--refresh-package=crfrnn-jax"]
    subprocess.run([*pip, *project], check=True, cwd=ROOT)
    if not extras:
        subprocess.run([*pip, *TOOLS], check=True)
    return within


def installed(python):
    """What an environment has: name to version, of Python too."""
    command = [*UV, "pip", "list", "--format=json", "--python", python]
    listed = json.loads(subprocess.check_output(command))
    own = subprocess.check_output([python, "--version"], text=True).split()
    return {each["name"]: each["version"] for each in listed} | {own[0]: own[1]}


def run_tests(python, tests):
    """Runs pytest and shows what it prints; returns its status and its last line."""
    command, said = [python, *PYTEST, *tests], ""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            print(line, end="", flush=True)
            said = line.strip() or said
    return run.returncode, said


def examine(python, name, tests):
    """Tests one environment; returns whether all is well, and its line of the table."""
    extras, resolution, own_tests = ENVIRONMENTS[name]
    with tempfile.TemporaryDirectory(prefix="crfrnn-jax-bounds-") as folder:
        try:
            within = install(Path(folder), python, extras, resolution)
        except subprocess.CalledProcessError:
            shown = [""] * len(SHOWN)
            return False, LINE.format(python, name, *shown, "cannot be installed")
        status, said = run_tests(within, own_tests or tests)
        has = installed(within)
    shown = [has.get(package, "-") for package in SHOWN]
    return status == 0, LINE.format(has["Python"], name, *shown, said)


def main():
    """Tests every environment of every Python, and prints a table of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", help="by default this one")
    parser.add_argument("--environment", action="append", choices=ENVIRONMENTS)
    parser.add_argument("tests", nargs="*")
    options = parser.parse_args()
    done = [
        examine(python, name, options.tests)
        for python in options.python or [sys.executable]
        for name in options.environment or ENVIRONMENTS
    ]
    print("\n" + LINE.format("Python", "versions", *SHOWN, "tests"))
    print(*(line for _, line in done), sep="\n")
    sys.exit(not all(passed for passed, _ in done))


if __name__ == "__main__":
    main()
