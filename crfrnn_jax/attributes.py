"""Attributes of a Flax module that come from a file: their names and types."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from crfrnn_jax.checks import InputError, check_keys, check_no_others, shown
from crfrnn_jax.sections import is_row


def attributes_of(module: Any) -> dict[str, Any]:
    """The types of a module's attributes, by name; those of Flax left out."""
    return {
        field.name: field.type
        for field in dataclasses.fields(module)
        if field.name not in ("parent", "name")
    }


def check_attributes(
    name: str,
    module: Any,
    given: Mapping[str, Any],
    *,
    needed: Iterable[str] = (),
    but: Iterable[str] = ("num_labels",),
) -> None:
    """Holds attributes against those that a module's class declares.

    Args:
      name: of the attributes, for messages.
      module: the class.
      given: attributes by name.
      needed: names that have to be there, besides those without a default.
      but: names that are given elsewhere.

    Raises:
      ValueError: naming the attribute that is missing, unknown or of another type.
    """
    kinds = attributes_of(module)
    for key in but:
        kinds.pop(key, None)
    without_default = {
        field.name
        for field in dataclasses.fields(module)
        if field.default is dataclasses.MISSING
    }
    check_no_others(name, given, kinds)
    check_keys(
        name, given, [key for key in kinds if key in {*without_default, *needed}]
    )
    for key, kind in kinds.items():
        if key in given and not fits(given[key], kind):
            raise InputError(
                f"{name}.{key}: expected {_in_words(kind)}, got {shown(given[key])}"
            )


def fits(value: Any, kind: Any) -> bool:
    """Whether a value that a config or JSON holds is of an attribute's type."""
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) is Sequence:
        (inner,) = get_args(kind)
        return is_row(value) and all(fits(item, inner) for item in value)
    if get_args(kind):
        return any(fits(value, part) for part in get_args(kind))
    if kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and abs(value) < 1e30
    if kind is int:
        return type(value) is int and abs(value) < 2**31
    return type(value) is kind


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {get_args(kind)}"
    if get_origin(kind) is Sequence:
        return f"a tuple of {_in_words(*get_args(kind))}s"
    if get_args(kind):
        return " or ".join(_in_words(part) for part in get_args(kind))
    words = {float: "a finite number", int: "an integer of 32 bits", str: "a text"}
    words |= {bool: "True or False", type(None): "None"}
    return words.get(kind, str(kind))
