"""Fits the widths and weights of a CRF to a network's scores of labelled images.

python fit.py --config=configs/fit.py --config.data.dir=DIR \
    --config.data.scores_dir=SCORES --out=crf.npz
python -m crfrnn_jax.refine photo.jpg probabilities.npy --crf crf.npz --out labels.png

The network is any: only its scores are read. See docs/recipes/learn.md.
"""

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from crfrnn_jax.training.command_line import parse_flags
from crfrnn_jax.training.console import errors_in_one_line, set_up_console
from crfrnn_jax.training.fit import fit, format_fit

CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.")
OUT = flags.DEFINE_string("out", None, "The file that holds what is found, an .npz.")
FORCE = flags.DEFINE_bool("force", False, "Replace it if it is there.")


def main(arguments: list[str]) -> None:
    """Fits; errors of the user's making end in one line and status 1."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments: {arguments[1:]}")
    set_up_console()
    with errors_in_one_line("fit.py"):
        result = fit(CONFIG.value, Path(OUT.value or ""), force=FORCE.value)
    print(format_fit(result))
    print(f"The CRF: {OUT.value}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "out"])
    app.run(main, flags_parser=parse_flags)
