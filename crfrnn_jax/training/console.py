"""What the scripts say on the console."""

import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from absl import logging as absl_logging

_PACKAGE = Path(__file__).parents[1]  # crfrnn_jax/


def set_up_console() -> None:
    """Plain lines of our own; of the libraries' logs, which are long, errors only."""
    absl_logging.set_verbosity(absl_logging.ERROR)
    absl_logging.get_absl_handler().setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("crfrnn_jax").setLevel(logging.INFO)


@contextlib.contextmanager
def errors_in_one_line(program: str) -> Iterator[None]:
    """Ends the program with status 1 and one line, where that says all.

    It does for the errors that this package words itself, which name what is wrong, and
    for those of the file system. Any other is a bug and keeps its traceback.
    """
    try:
        yield
    except Exception as error:
        if not (isinstance(error, OSError) or _is_worded_here(error)):
            raise
        sys.exit(f"{program}: {error}")


def _is_worded_here(error: Exception) -> bool:
    if type(error).__module__.startswith(f"{_PACKAGE.name}."):
        return True
    *_, raised = traceback.extract_tb(error.__traceback__)
    return Path(raised.filename).is_relative_to(_PACKAGE)
