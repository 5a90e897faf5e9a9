"""A run that is killed over and over ends where one that never was ends, bit for bit.

PYTHONPATH=. python tests/training/killing.py --kills=20 --workdir=DIR

Kills train.py with SIGKILL at random moments and starts it again, until it was killed
so often and is done; then compares its parameters with those of a run in one go. Two to
five minutes on two cores.
"""

import argparse
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from crfrnn_jax.training.checkpoints import latest_checkpoint, load_for_evaluation

ROOT = Path(__file__).parents[2]
# Few steps of small scenes, often saved, so that many of the moments are of writing.
_STEPS = 24


def command(workdir, data, *, steps=_STEPS):
    """The command of a run that takes seconds; the same one goes on with it."""
    arguments = [f"--config={ROOT / 'configs/shapes.py'}", f"--workdir={workdir}"]
    arguments += [f"--config.data.dir={data}", "--config.data.num_train=16"]
    arguments += ["--config.data.num_val=2", "--config.data.size=32"]
    arguments += ["--config.model.widths=(8,16)", "--config.model.blocks=(0,1)"]
    arguments += ["--config.crf.method=exact", "--config.crf.num_iterations=2"]
    arguments += ["--config.eval.num_iterations=2", "--config.eval.panels=1"]
    arguments += ["--config.eval.validation_images=1", "--config.log_every=1"]
    arguments += ["--config.stages=('fcn','end_to_end')"]
    for stage in ("fcn", "end_to_end"):
        settings = {"steps": steps, "batch_size": 2, "crop": "(32,32)"}
        settings |= {"warmup_steps": 1, "checkpoint_every": 1, "eval_every": 20}
        arguments += [f"--config.{stage}.{k}={v}" for k, v in settings.items()]
    return [sys.executable, str(ROOT / "train.py"), *arguments]


def start(workdir, data, **options):
    """A process that runs it."""
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "said.txt").open("a") as said:
        return subprocess.Popen(
            command(workdir, data, **options),
            stdout=said,
            stderr=subprocess.STDOUT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )


def run_to_the_end(workdir, data, **options):
    """Runs it in one go."""
    code = start(workdir, data, **options).wait(timeout=1200)
    if code:
        raise RuntimeError(f"status {code}: {(workdir / 'said.txt').read_text()}")


def kill_until_done(workdir, data, kills, rng, **options):
    """Kills it so often, at moments after its first steps; then lets it end.

    Returns:
      The newest checkpoint at each kill, "stage step".
    """
    saved = []
    for _ in range(kills):
        process = start(workdir, data, **options)
        _wait_for_a_step(workdir, process)
        time.sleep(rng.uniform(0, 0.8))
        if process.poll() is not None:
            raise RuntimeError(f"{workdir}: done after {len(saved)} kills; more steps")
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        saved.append(newest(workdir))
    run_to_the_end(workdir, data, **options)
    return saved


def _wait_for_a_step(workdir, process):
    """Until the log, which a start writes anew, grows."""
    log = workdir / "metrics.jsonl"
    before = log.stat().st_mtime_ns if log.exists() else None
    size, deadline = None, time.monotonic() + 600
    while process.poll() is None and time.monotonic() < deadline:
        if size is None and log.exists() and log.stat().st_mtime_ns != before:
            size = log.stat().st_size
        if size is not None and log.stat().st_size > size:
            return
        time.sleep(0.005)
    raise RuntimeError(f"{workdir}: no step: {(workdir / 'said.txt').read_text()}")


def newest(workdir):
    """The newest checkpoint, "stage step"."""
    found = "nothing"
    for stage in ("fcn", "end_to_end"):
        path = latest_checkpoint(workdir, stage)
        found = f"{stage} {path.name}" if path else found
    return found


def final_params(workdir):
    """The parameters at the end of each stage."""
    return {
        stage: jax.device_get(load_for_evaluation(latest_checkpoint(workdir, stage))[0])
        for stage in ("fcn", "end_to_end")
    }


def main():
    """The script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax's, at each reading
    data = options.workdir / "data"
    started = time.monotonic()
    run_to_the_end(options.workdir / "in_one_go", data)
    rng = random.Random(options.seed)
    saved = kill_until_done(options.workdir / "killed", data, options.kills, rng)
    print("killed with these saved:", ", ".join(saved))
    one, other = (final_params(options.workdir / n) for n in ("in_one_go", "killed"))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    seconds = time.monotonic() - started
    print(f"{len(saved)} kills, {seconds:.0f} s: the same parameters, bit for bit")


if __name__ == "__main__":
    main()
