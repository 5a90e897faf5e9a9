"""What users hold, as numpy: arrays of NumPy, JAX, PyTorch, PIL and others."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from crfrnn_jax.checks import InputError


def as_numpy(name: str, array: Any) -> np.ndarray:
    """An array of any library that has `__array__` or `__dlpack__`, as numpy.

    Args:
      name: the argument's name, for the message.
      array: anything of the kind, on whatever device.

    Raises:
      InputError: it is none, such as a list or a path, or can't be read.
    """
    array = _read(name, array)
    # Of the other byte order, as in files of other machines, which JAX refuses.
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def image_as_numpy(name: str, image: Any) -> np.ndarray:
    """The same of an image, which may be a picture of Pillow's, but not any.

    Raises:
      InputError: also if it is a picture whose numbers are no intensities.
    """
    mode = getattr(image, "mode", None)
    if isinstance(mode, str) and mode not in ("L", "RGB", "F") and mode[0] != "I":
        raise InputError(
            f"{name}: expected a picture of RGB or gray, got one of mode {mode}; "
            ".convert('RGB') makes it one"
        )
    return as_numpy(name, image)


def check_known(name: str, value: Any) -> None:
    """Raises InputError for what JAX traces."""
    if isinstance(value, Tracer):
        raise InputError(
            f"{name}: expected a value that is known, got one that JAX traces; what "
            "goes into jit are crf_rnn and mean_field"
        )


def _read(name: str, array: Any) -> np.ndarray:
    check_known(name, array)
    try:
        if hasattr(array, "__array__") or hasattr(array, "__array_interface__"):
            return np.asarray(array)
    except (TypeError, RuntimeError, ValueError, OSError) as error:
        # PyTorch's, on a GPU or in bfloat16: the other way may do.
        if not hasattr(array, "__dlpack__"):
            raise _unreadable(name, array, error) from error
    if not hasattr(array, "__dlpack__"):
        raise InputError(
            f"{name}: expected an array of NumPy, JAX, PyTorch or another library with "
            f"__array__ or __dlpack__, got {type(array).__name__}"
        )
    try:
        return np.asarray(jnp.from_dlpack(array))
    except (TypeError, RuntimeError, BufferError, ValueError) as error:
        raise _unreadable(name, array, error) from error


def _unreadable(name: str, array: Any, error: Exception) -> InputError:
    reason = (str(error).strip().splitlines() or [""])[0]
    kind = f"{type(array).__module__}.{type(array).__name__}"
    return InputError(
        f"{name}: expected an array that can be read, got {kind}: {reason}"
    )
