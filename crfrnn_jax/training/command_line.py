"""The scripts' flags: whatever is wrong in them is told in one line."""

import logging
import re
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from crfrnn_jax.checks import InputError
from crfrnn_jax.processes import is_first, join_processes
from crfrnn_jax.training.console import errors_in_one_line


def parse_flags(
    arguments: Sequence[str], values: flags.FlagValues = flags.FLAGS
) -> list[str]:
    """Parses a script's flags, of which `config` is one, for absl's `app.run`.

    An error in a config's own code keeps its traceback, unless it is an InputError.

    Args:
      arguments: the program's name and what follows it.
      values: where the flags are defined.

    Returns:
      The program's name and the arguments that are no flags.

    Raises:
      SystemExit: with a line that says what is wrong.
    """
    with errors_in_one_line(Path(arguments[0]).name):
        try:
            _check_configs(values.read_flags_from_files(arguments[1:], force_gnu=False))
            return values(arguments)
        except flags.Error as error:
            raise InputError(_reason(error)) from error
        except (AttributeError, KeyError, TypeError) as error:
            if not _is_of_a_flag(error):
                raise
            raise InputError(_reason_of_key(error)) from error


def define_process_flags(*, heeds_sigterm: bool = False) -> Callable[[], None]:
    """Defines the flags of a run of several processes.

    Args:
      heeds_sigterm: as in `join_processes`.

    Returns:
      What joins this process to the others, if the flags say that there are any; to be
      called before anything else of JAX's.
    """
    coordinator = flags.DEFINE_string(
        "coordinator",
        None,
        "Of a run of several processes: HOST:PORT of the first, or auto on Slurm, MPI "
        "or a TPU slice.",
    )
    number = flags.DEFINE_integer("num_processes", None, "How many, unless auto.")
    index = flags.DEFINE_integer("process_id", None, "Which this is, unless auto.")

    def join() -> None:
        is_auto = coordinator.value == "auto"
        given = [flag.value is not None for flag in (number, index)]
        if given != [bool(coordinator.value) and not is_auto] * 2:
            raise InputError(
                "--coordinator: expected --num_processes and --process_id with "
                f"HOST:PORT, and neither with auto, got {coordinator.value}, "
                f"{number.value} and {index.value}"
            )
        count, own = number.value, index.value
        if count is not None and own is not None and not 0 <= own < count:
            raise InputError(
                f"--process_id: expected 0 to {count - 1}, of {count} processes, got "
                f"{own}"
            )
        if coordinator.value:
            address = None if is_auto else coordinator.value
            try:
                join_processes(
                    address, number.value, index.value, heeds_sigterm=heeds_sigterm
                )
            except ValueError as error:  # of JAX's, which finds no cluster
                raise InputError(
                    "--coordinator: expected HOST:PORT, or auto on Slurm, MPI or a TPU "
                    f"slice, got {coordinator.value}: {error}"
                ) from error
        if not is_first():  # what it would say, the first one says
            logging.getLogger("crfrnn_jax").setLevel(logging.WARNING)

    return join


def _check_configs(arguments: Sequence[str]) -> None:
    """Raises InputError unless --config names a file, ahead of what changes that."""
    is_named = False
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if re.match(r"--?(no)?config\.", argument) and not is_named:
            raise InputError(f"{argument}: expected --config=FILE before it, got none")
        found = re.fullmatch(r"--?config(?:=(.*))?", argument)
        if found:
            is_named = True
            _check_file(following if found[1] is None else found[1])


def _check_file(value: str) -> None:
    path = value.partition(":")[0]  # a variant follows
    if not Path(path).is_file():
        known = f"; there is {path}.py" if Path(f"{path}.py").is_file() else ""
        raise InputError(f"--config: expected a file, got none at {path!r}{known}")


def _reason(error: BaseException) -> str:
    """What a config's InputError says, if that is at the bottom of it."""
    text = str(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            text = str(cause)
        elif str(cause).startswith("get_config() takes 0 positional arguments"):
            flag = str(error).partition(": ")[0]
            text = f"{flag}: expected a file alone, as its config has no variants"
        cause = cause.__context__
    return text


def _is_of_a_flag(error: BaseException) -> bool:
    """Whether the error is of a flag's key, and not one in the config's own code."""
    modules = [
        frame.f_globals["__name__"]
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    return "ml_collections.config_flags.config_path" in modules


def _reason_of_key(error: BaseException) -> str:
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    got = "; ".join(str(error.args[0] if error.args else error).splitlines())
    return f"--config: expected keys of the config, as flags can't add any, got {got}"
