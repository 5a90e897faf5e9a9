"""Prepares and checks the data of a config ahead of training, which does so otherwise.

python prepare.py --config=configs/paper_data.py --config.data.dir=FOLDER

The same command goes on where one that was stopped left off. Of the config, it reads
`data` alone.
"""

from absl import app, flags
from ml_collections import config_flags

from crfrnn_jax.data import load_dataset
from crfrnn_jax.training.command_line import parse_flags
from crfrnn_jax.training.console import errors_in_one_line, set_up_console

CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.")


def main(arguments: list[str]) -> None:
    """Prepares; errors of the user's making end in one line and status 1."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments: {arguments[1:]}")
    set_up_console()
    with errors_in_one_line("prepare.py"):
        data = load_dataset(CONFIG.value.data)
    print(f"Classes: {data.num_labels}, ignored: label {data.ignore_label}")
    for split, source in data.splits.items():
        print(f"{split}: {len(source)} images")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config"])
    app.run(main, flags_parser=parse_flags)
