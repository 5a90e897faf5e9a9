"""Fuzzes the readers of files that may be anybody's: `make fuzz`.

python tests/fuzz/run.py [TARGET...] [--inputs 100000] [--seed 0] [--out fuzz]

Prints a line for each target, and one for each finding with the file that shows it.
Exits with 1 if there was any. A finding that is mended is moved to tests/fuzz/corpus,
whose files tests/test_corpus.py reads ever after.
"""

import argparse
import sys
from pathlib import Path

from harness import fuzz
from targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all, if none")
    parser.add_argument("--inputs", type=int, default=100_000, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help="for findings")
    options = parser.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"expected targets of {sorted(TARGETS)}, got {sorted(unknown)}")
    failed = 0
    for name in options.targets or TARGETS:
        failed |= fuzz(name, TARGETS[name], options.inputs, options.seed, options.out)
    return failed


if __name__ == "__main__":
    sys.exit(main())
