"""Runs the tests at the lowest and at the newest versions that pyproject.toml allows.

    python tests/bounds.py --python=3.11 --python=3.13 tests/test_crf.py tests/data

Each Python gets three fresh environments: `bare` has the functions' own requirements at
their lowest, `lowest` those of the scripts and the tests, `newest` the same at the
newest. In the last two run the tests that are named, or all. Needs uv, which
`pip install ".[dev]"` brings; a Python is a version that uv finds, or a path.
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
# Tests of the functions, in files that import nothing else of the project's extras
# than what all of them need.
BARE = ["test_imports", "test_crf", "test_refine", "test_unaries"]
TOOLS = ["pytest", "hypothesis", "pillow"]
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
    within = str(folder / "bin" / "python")
    pip = [*UV, "pip", "install", "--quiet", "--python", within]
    # A release without a wheel for a Python was made before it: a bound below it is
    # meant for older ones. promise has no wheels at all.
    pip += ["--only-binary=:all:", "--no-binary=promise"]
    if resolution == "lowest-direct":
        build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
        pinned = folder / "build.txt"
        pinned.write_text("\n".join(build["requires"]).replace(">=", "=="))
        # What was built before, with a newer backend, is not taken from uv's cache.
        pip += [f"--build-constraints={pinned}", "--refresh-package=crfrnn-jax"]
    project = [f"--resolution={resolution}", "--editable", f".{extras}"]
    subprocess.run([*pip, *project], check=True, cwd=ROOT)
    if not extras:
        subprocess.run([*pip, *TOOLS], check=True)
    return within


def versions(python):
    """What is installed beside a Python: name to version."""
    command = [*UV, "pip", "list", "--format=json", "--python", python]
    listed = subprocess.run(command, check=True, capture_output=True)
    return {each["name"]: each["version"] for each in json.loads(listed.stdout)}


def run_tests(python, tests):
    """Runs pytest, in two processes where it can; returns its status and last line."""
    command = [python, "-m", "pytest", *tests]
    if "pytest-xdist" in versions(python):
        command += ["--numprocesses=2", "--dist=loadfile", "--no-loadscope-reorder"]
    last = ""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    return run.returncode, last


def main():
    """Tests every environment of every Python, and prints a table of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append")
    parser.add_argument("--environment", action="append", choices=ENVIRONMENTS)
    parser.add_argument("tests", nargs="*")
    options = parser.parse_args()
    rows, failed = [LINE.format("Python", "versions", *SHOWN, "tests")], False
    for python in options.python or [sys.executable]:
        for name in options.environment or ENVIRONMENTS:
            extras, resolution, tests = ENVIRONMENTS[name]
            with tempfile.TemporaryDirectory(prefix="crfrnn-jax-bounds-") as folder:
                within = install(Path(folder), python, extras, resolution)
                status, said = run_tests(within, tests or options.tests)
                has = versions(within)
            failed |= status != 0
            shown = [has.get(package, "-") for package in SHOWN]
            rows.append(LINE.format(Path(python).name, name, *shown, said))
    print("\n", *rows, sep="\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
