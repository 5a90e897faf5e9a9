"""The same targets, guided by which lines of a reader an input reaches: needs atheris.

python tests/fuzz/guided.py TARGET [--inputs 100000] [--seed 0] [--out runs/fuzz]

`run.py` runs it for each target, where atheris is installed (pip install atheris).
"""

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

import atheris

_SEEDS = 100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"))
    options = parser.parse_args()
    with atheris.instrument_imports(include=["crfrnn_jax.weights", "crfrnn_jax.data"]):
        from targets import TARGETS
    target = TARGETS[options.target]
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"input{target.suffix}"
        seeds = Path(folder) / "seeds"
        seeds.mkdir()
        first = itertools.islice(target.inputs(options.seed), _SEEDS)
        for i, data in enumerate(first):
            (seeds / str(i)).write_bytes(data)

        def run(data: bytes) -> None:
            path.write_bytes(data)
            try:
                target.run(path)
            except target.errors as error:
                if path.name not in str(error):
                    raise

        flags = [f"-runs={options.inputs}", f"-seed={options.seed + 1}"]
        flags += ["-max_len=8192", "-timeout=5", "-rss_limit_mb=3072", "-verbosity=0"]
        flags += ["-print_final_stats=1"]
        flags += [f"-artifact_prefix={options.out}/{options.target}_guided_"]
        atheris.Setup([sys.argv[0], *flags, str(seeds)], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
