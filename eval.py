"""Evaluates a trained run: plain FCN, CRF as post-processing, end to end.

python eval.py --workdir=runs/shapes
python eval.py --checkpoint=runs/shapes/checkpoints/end_to_end/600
"""

import logging
import sys
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging

from crfrnn_jax.evaluation.report import evaluate
from crfrnn_jax.training.checkpoints import CheckpointError, latest_checkpoint

WORKDIR = flags.DEFINE_string("workdir", None, "The work directory of a run.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "One checkpoint of a run.")


def main(_: list[str]) -> None:
    """Evaluates; errors of the user's making end in one line and status 1."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("crfrnn_jax").setLevel(logging.INFO)
    try:
        if CHECKPOINT.value:
            checkpoint = Path(CHECKPOINT.value).absolute()
            paths = {"plain": None, "end_to_end": None}
            with_crf = checkpoint.parent.name == "end_to_end"
            paths["end_to_end" if with_crf else "plain"] = checkpoint
            directory = checkpoint.parents[2] / "evaluation" / checkpoint.parent.name
        else:
            stages = ("plain", "end_to_end")
            paths = {row: latest_checkpoint(Path(WORKDIR.value), row) for row in stages}
            directory = Path(WORKDIR.value) / "evaluation"
        tables = evaluate(paths["plain"], paths["end_to_end"], directory)
    except (CheckpointError, ValueError, OSError) as error:
        sys.exit(f"eval.py: {error}")
    print(tables)
    print(f"Panels: {directory / 'panels.png'}")
    print(f"Results: {directory / 'results.json'}, trimaps: {directory / 'trimap.png'}")


if __name__ == "__main__":
    flags.mark_flags_as_mutual_exclusive(["workdir", "checkpoint"], required=True)
    app.run(main)
