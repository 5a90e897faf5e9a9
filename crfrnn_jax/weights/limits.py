"""What keeps a damaged or hostile file from doing harm: one error, bounded memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

from crfrnn_jax.checks import InputError

# Weights hardly compress: arrays that claim to unpack to more than this are a bomb.
_MOST_UNPACKED = 16
_ALWAYS_FINE = 16 * 2**20  # bytes


@contextmanager
def reading(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Turns whatever goes wrong inside into one InputError that names the file.

    Args:
      path: the file that is read.
      kind: what was expected of it, for the message.

    Raises:
      InputError: anything was raised inside.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the parsers below raise a dozen unrelated types
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{path}: expected {kind}, got: {reason}") from error


class Budget:
    """The bytes that may still be unpacked from so many that are stored."""

    def __init__(self, stored: int):
        self._left = _MOST_UNPACKED * stored + _ALWAYS_FINE

    def take(self, name: str, nbytes: int) -> None:
        """Takes an array's bytes off, or raises ValueError if the file is too small."""
        self._left -= nbytes
        if self._left < 0:
            raise ValueError(f"{name} claims more bytes than such a file can hold")


def check_dims(name: str, shape: tuple[int, ...]) -> int:
    """The number of elements of a shape that a file declares.

    Raises:
      ValueError: the shape is not one of at most 8 non-negative sizes.
    """
    # Sizes are compared before they are printed: a huge integer has no short text.
    if len(shape) > 8 or not all(0 <= size < 2**48 for size in shape):
        raise ValueError(f"{name} has no possible shape")
    return prod(shape)
