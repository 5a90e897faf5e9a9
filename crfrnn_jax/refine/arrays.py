"""What users hold, as numpy: arrays of NumPy, JAX, PyTorch, PIL and others."""

from typing import Any

import jax
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


def as_readable(name: str, array: Any) -> Any:
    """An array that gives numpy's where it is indexed, if it is not numpy's already.

    Args:
      name: the argument's name, for the message.
      array: as in `as_numpy`; what has a shape and a dtype of NumPy's, such as h5py's
        and zarr's, stays where it is.

    Raises:
      InputError: as `as_numpy` does.
    """
    check_known(name, array)
    is_own = isinstance(array, np.ndarray | np.generic | jax.Array)
    has_dtype = isinstance(getattr(array, "dtype", None), np.dtype)
    if has_dtype and hasattr(array, "shape") and not is_own:
        return array
    return _read(name, array)


def check_picture(name: str, image: Any) -> None:
    """Raises InputError for a picture of Pillow's whose numbers are no intensities."""
    is_array = hasattr(image, "dtype")  # np.memmap, for one, has another kind of mode
    mode = None if is_array else getattr(image, "mode", None)
    if isinstance(mode, str) and mode not in ("L", "RGB", "F") and mode[0] != "I":
        raise InputError(
            f"{name}: expected a picture of RGB or gray, got one of mode {mode}; "
            ".convert('RGB') makes it one"
        )


def stand_in(array: Any) -> np.ndarray:
    """Zeros of an array's shape and dtype that take no memory, for the checks."""
    return np.broadcast_to(np.zeros((), array.dtype.newbyteorder("=")), array.shape)


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
