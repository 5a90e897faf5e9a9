"""Argument checks that say which argument is wrong, what was expected and what came.

Only facts that are known while tracing are checked: ranks, sizes, dtypes, and the
values of arguments that are not traced. They cost nothing at run time.
"""

import contextlib
import difflib
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


class InputError(ValueError):
    """An argument, a key of a config or a file is wrong.

    The message names it, says what was expected and what came.

    Examples:
      >>> try:
      ...     init_crf_params(0)
      ... except InputError as error:
      ...     print(error)
      num_labels: expected at least 1, got 0
    """


@contextlib.contextmanager
def naming(path: object) -> Iterator[None]:
    """Puts a file's name before the message of an InputError that is raised inside."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def check_shape(
    name: str,
    array: jax.typing.ArrayLike,
    axes: str,
    sizes: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Checks an array's rank, its sizes against known ones, and that none is zero.

    Args:
      name: the argument's name, for the message.
      array: the argument.
      axes: the axes' names, separated by spaces, for example "height width labels".
      sizes: sizes already known of some of these axes.

    Returns:
      The sizes of all axes seen so far, by name.

    Raises:
      InputError: naming the argument, the expected and the given shape.
    """
    _check_array(name, array)
    names = axes.split()
    shape = jnp.shape(array)
    sizes = dict(sizes or {})
    wanted = ", ".join(f"{n}={sizes[n]}" if n in sizes else n for n in names)
    if len(shape) != len(names):
        raise InputError(f"{name}: expected shape [{wanted}], got {list(shape)}")
    for axis, size in zip(names, shape, strict=True):
        if sizes.setdefault(axis, size) != size:
            raise InputError(f"{name}: expected shape [{wanted}], got {list(shape)}")
        if size == 0:
            raise InputError(f"{name}: axis '{axis}' is empty, got shape {list(shape)}")
    return sizes


def check_floating(name: str, array: jax.typing.ArrayLike) -> None:
    """Raises InputError unless the array holds floating-point numbers."""
    dtype = _dtype_of(name, array)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"{name}: expected floating-point values, got dtype {dtype}")


def check_real(name: str, array: jax.typing.ArrayLike) -> None:
    """Raises InputError if the array holds complex numbers or no numbers."""
    dtype = _dtype_of(name, array)
    if not jnp.issubdtype(dtype, jnp.number) or jnp.iscomplexobj(array):
        raise InputError(f"{name}: expected real numbers, got dtype {dtype}")
    _check_32_bits(name, array)


def check_mask(
    name: str, mask: jax.typing.ArrayLike, axes: str, sizes: Mapping[str, int]
) -> None:
    """Raises InputError unless the mask is boolean and of this shape."""
    check_shape(name, mask, axes, sizes)
    dtype = _dtype_of(name, mask)
    if dtype != jnp.bool_:
        raise InputError(f"{name}: expected True and False, got dtype {dtype}")


def check_integers(name: str, array: jax.typing.ArrayLike) -> None:
    """Raises InputError unless the array holds integers, which booleans are not."""
    dtype = _dtype_of(name, array)
    if not jnp.issubdtype(dtype, jnp.integer):
        raise InputError(f"{name}: expected integers, got dtype {dtype}")
    _check_32_bits(name, array)


def _check_32_bits(name: str, array: jax.typing.ArrayLike) -> None:
    """Raises InputError for integers of which JAX would drop the upper bits."""
    if isinstance(array, jax.Array | float) or jnp.size(array) == 0:
        return  # of JAX's own, which may be on a device, none is left to be dropped
    values = np.asarray(array)
    if values.dtype not in (np.int64, np.uint64) or jax.config.read("jax_enable_x64"):
        return
    lowest, highest = int(values.min()), int(values.max())
    if not -(2**31) <= lowest <= highest < 2**31:
        raise InputError(
            f"{name}: expected integers of 32 bits, got {lowest}..{highest}; larger "
            "ones are to be floats"
        )


def check_same_shape(
    name: str, array: jax.typing.ArrayLike, shape: tuple[int, ...], whose: str
) -> None:
    """Raises InputError unless the array has this shape, which is `whose`."""
    _check_array(name, array)
    if jnp.shape(array) != tuple(shape):
        raise InputError(
            f"{name}: expected {whose} shape {list(shape)}, got "
            f"{list(jnp.shape(array))}"
        )


def check_intensities(
    name: str, image: np.ndarray, max_intensity: float = 255.0
) -> None:
    """Raises InputError unless an image's numbers lie in 0..max_intensity, not 0..1."""
    lowest, highest = float(image.min()), float(image.max())
    if not 0 <= lowest <= highest <= max_intensity:
        raise InputError(
            f"{name}: expected intensities in 0..{max_intensity:g}, got {lowest:g}.."
            f"{highest:g}; no mean is to be subtracted, and another range is told by "
            "max_intensity, where there is that"
        )
    is_float = jnp.issubdtype(image.dtype, jnp.floating)
    if is_float and max_intensity == 255 and 0 < highest <= 1:
        raise InputError(
            f"{name}: expected intensities in 0..255, got {lowest:g}..{highest:g}; if "
            "they are in 0..1 multiply by 255, or say max_intensity=1 to refine"
        )


def check_positive(name: str, value: jax.typing.ArrayLike) -> None:
    """Raises InputError unless the scalar is positive and finite, if that is known."""
    check_scalar(name, value)
    if not isinstance(value, Tracer) and not 0 < _float32(value) < np.inf:
        raise InputError(f"{name}: expected a positive finite number, got {value}")


def check_scalar(name: str, value: jax.typing.ArrayLike) -> None:
    """Raises InputError unless the value is one real number, traced or not."""
    is_number = not isinstance(value, str | list | tuple | None)
    if is_number:
        check_real(name, value)
    if not is_number or jnp.shape(value) != ():
        raise InputError(f"{name}: expected one number, got {shown(value)}")


def check_positives(name: str, values: jax.typing.ArrayLike, count: int) -> None:
    """Raises InputError unless it is a positive number, or `count` of them."""
    check_real(name, values)
    if jnp.ndim(values) == 0:
        check_positive(name, values)
        return
    if jnp.shape(values) != (count,):
        raise InputError(
            f"{name}: expected one number or {count}, got shape {jnp.shape(values)}"
        )
    known = not isinstance(values, Tracer)
    if known and not np.all((_float32(values) > 0) & (_float32(values) < np.inf)):
        raise InputError(f"{name}: expected positive finite numbers, got {values}")


def _float32(values: jax.typing.ArrayLike) -> np.ndarray:
    """As it is computed with: what is too small is 0, what is too large infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32)


def _dtype_of(name: str, array: jax.typing.ArrayLike) -> np.dtype:
    """The dtype as it came; InputError for one that JAX does not know, as of text."""
    _check_array(name, array)
    try:
        known = jnp.result_type(array)
        return getattr(array, "dtype", known)
    except TypeError as error:
        dtype = getattr(array, "dtype", type(array).__name__)
        raise InputError(f"{name}: expected numbers, got dtype {dtype}") from error


def _check_array(name: str, array: jax.typing.ArrayLike) -> None:
    """Raises InputError for what is neither an array nor a number, such as a list."""
    is_array = hasattr(array, "shape") and hasattr(array, "dtype")
    if not is_array and not isinstance(array, int | float | complex):
        raise InputError(f"{name}: expected an array, got {type(array).__name__}")


def check_integer(name: str, value: object) -> None:
    """Raises InputError unless the value is an integer, which a boolean is not."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{name}: expected an integer, got {shown(value)}")


def check_number(
    name: str, value: object, expected: str, holds: Callable[[float], bool]
) -> None:
    """Raises InputError unless the value is a number for which the condition holds.

    Args:
      name: the argument's name, for the message.
      value: the argument; no array, not traced.
      expected: the condition in words.
      holds: the condition, False for NaN.
    """
    is_number = isinstance(value, int | float | np.integer | np.floating)
    try:
        is_so = is_number and not isinstance(value, bool) and holds(float(value))
    except OverflowError:  # an integer beyond all floats
        is_so = False
    if not is_so:
        raise InputError(f"{name}: expected a number {expected}, got {shown(value)}")


def as_numbers(name: str, values: object) -> jax.typing.ArrayLike:
    """Real numbers in a list or a tuple as a float32 array, what is an array as it is.

    Raises:
      InputError: it is neither, or holds something else.
    """
    if not isinstance(values, list | tuple):
        check_real(name, values)  # pyright: ignore[reportArgumentType]
        return values  # pyright: ignore[reportReturnType]
    if any(isinstance(value, Tracer) for value in values):
        for value in values:
            check_scalar(name, value)
        return jnp.stack([jnp.asarray(value).astype(jnp.float32) for value in values])
    try:
        array = np.asarray(values)
    except ValueError:  # lists of other lengths within it
        array = np.array(None)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name}: expected real numbers, got {shown(values)}")
    return array.astype(np.float32)


def shown(value: object) -> str:
    """A value as it is shown in a message: not longer than a line."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape and dtype is not None:
        return f"an array of shape {list(shape)} and dtype {dtype}"
    return reprlib.repr(value)


def check_at_least(name: str, value: int, lowest: int) -> None:
    """Raises InputError unless the value is an integer of at least `lowest`."""
    check_integer(name, value)
    if value < lowest:
        raise InputError(f"{name}: expected at least {lowest}, got {value}")


def check_keys(name: str, mapping: Mapping, keys: Iterable[str]) -> None:
    """Raises InputError unless the mapping, of that name, has all the keys."""
    for key in keys:
        if key not in mapping:
            raise InputError(f"{name}.{key}: expected a value, got none")


def check_no_others(name: str, mapping: Mapping, keys: Iterable[str]) -> None:
    """Raises InputError if the mapping, of that name, has keys besides these."""
    known = sorted(keys)
    for key in mapping:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key), known, n=1)
        way_out = f"did you mean {near[0]!r}?" if near else f"there are {known}"
        raise InputError(f"{name}.{key}: expected a key that is known; {way_out}")


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raises InputError unless the value is one of the choices."""
    # An array would be compared element by element.
    if not isinstance(value, str | int) or value not in choices:
        raise InputError(f"{name}: expected one of {choices}, got {shown(value)}")


def check_grid(name: str, shape: object) -> None:
    """Raises InputError unless `shape` is one or more positive integers."""
    if not _sides_of(shape):
        raise InputError(
            f"{name}: expected the sides of a grid, one or more integers of at least "
            f"1, got {shown(shape)}"
        )


def check_sides(name: str, shape: object) -> None:
    """Raises InputError unless `shape` is (height, width)."""
    if len(_sides_of(shape)) != 2:
        raise InputError(
            f"{name}: expected (height, width), integers of at least 1, got "
            f"{shown(shape)}"
        )


def _sides_of(shape: object) -> Sequence[int]:
    """The sides of a grid, none if they are not positive integers."""
    sides = shape if isinstance(shape, tuple | list) else ()
    integers = all(
        isinstance(side, int | np.integer) and not isinstance(side, bool)
        for side in sides
    )
    return sides if sides and integers and min(sides) >= 1 else ()
