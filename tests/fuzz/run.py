"""Fuzzes the readers of files that may be anybody's: `make fuzz`.

python tests/fuzz/run.py [TARGET...] [--inputs 100000] [--seed 0] [--out runs/fuzz]

Prints a line for each target, and one for each finding with the file that shows it.
Exits with 1 if there was any. A finding that is mended is moved to tests/fuzz/corpus,
whose files tests/test_corpus.py reads ever after. Where atheris is installed, as many
inputs again are made by it, for the readers that it sees into.
"""

import argparse
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

from harness import fuzz
from targets import GUIDED, TARGETS


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all, if none")
    parser.add_argument("--inputs", type=int, default=100_000, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/fuzz"), help="for findings"
    )
    options = parser.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"expected targets of {sorted(TARGETS)}, got {sorted(unknown)}")
    failed = 0
    for name in options.targets or TARGETS:
        failed |= fuzz(name, TARGETS[name], options.inputs, options.seed, options.out)
        if name in GUIDED and importlib.util.find_spec("atheris"):
            failed |= _guided(name, options)
    return failed


def _guided(name: str, options: argparse.Namespace) -> int:
    started = time.monotonic()
    command = [sys.executable, str(Path(__file__).with_name("guided.py")), name]
    command += [f"--inputs={options.inputs}", f"--seed={options.seed}"]
    done = subprocess.run([*command, f"--out={options.out}"], capture_output=True)
    seconds = time.monotonic() - started
    result = "0 findings" if done.returncode == 0 else done.stderr.decode()[-2000:]
    print(f"{name}, guided: {options.inputs} inputs in {seconds:.0f} s, {result}")
    return int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
