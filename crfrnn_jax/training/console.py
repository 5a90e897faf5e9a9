"""What the scripts say on the console."""

import contextlib
import logging
import signal
import sys
from collections.abc import Iterator

from absl import logging as absl_logging

from crfrnn_jax.checks import InputError
from crfrnn_jax.training.checkpoints import CheckpointError
from crfrnn_jax.training.recording import NonFiniteLossError
from crfrnn_jax.training.stopping import StoppedError
from crfrnn_jax.writing import print_any_name


def set_up_console() -> None:
    """Plain lines of our own; of the libraries' logs, which are long, errors only."""
    print_any_name()
    absl_logging.set_verbosity(absl_logging.ERROR)
    absl_logging.get_absl_handler().setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("crfrnn_jax").setLevel(logging.INFO)


@contextlib.contextmanager
def errors_in_one_line(program: str) -> Iterator[None]:
    """Ends the program with one line, where that says all.

    The status is 1, or what a shell gives a program that a signal ended: 130 of Ctrl-C,
    143 of SIGTERM.

    It does for the errors that this package words for its users, and for those of the
    file system. Any other is a bug and keeps its traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except StoppedError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except (InputError, CheckpointError, NonFiniteLossError, OSError) as error:
        sys.exit(f"{program}: {error}")
