"""What a config's sections hold: a check of the value for each key, in a table.

A check takes the key's full name and the value, and raises InputError. A section is
such a check as well, so that a table holds tables, and adding a key is one line:

    section({"steps": at_least(1), "optimizer": one_of("adamw", "sgd")})
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from crfrnn_jax.checks import (
    InputError,
    check_at_least,
    check_choice,
    check_keys,
    check_no_others,
    check_number,
    shown,
)

Check = Callable[[str, Any], None]


def section(
    keys: Mapping[str, Check], optional: Mapping[str, Check] | None = None
) -> Check:
    """A mapping of these keys and no others.

    Args:
      keys: the check of each key's value.
      optional: those of keys that may be missing.
    """
    known = {**keys, **(optional or {})}

    def check(name: str, value: Any) -> None:
        check_section(name, value)
        check_keys(name, value, keys)
        check_no_others(name, value, known)
        for key, check_value in known.items():
            if key in value:
                check_value(f"{name}.{key}", value[key])

    return check


def check_section(name: str, value: Any) -> None:
    """Raises InputError unless the value is a mapping, as a ConfigDict."""
    if not hasattr(value, "items") or not hasattr(value, "__getitem__"):
        raise InputError(f"{name}: expected a section of keys, got {shown(value)}")


def at_least(lowest: int) -> Check:
    """An integer of at least so much."""
    return lambda name, value: check_at_least(name, value, lowest)


def number(expected: str, holds: Callable[[float], bool]) -> Check:
    """A finite number for which a condition holds, which `expected` puts in words."""

    def is_so(value: float) -> bool:
        return math.isfinite(value) and holds(value)

    return lambda name, value: check_number(name, value, expected, is_so)


positive = number("above 0", lambda value: value > 0)
not_negative = number("of at least 0", lambda value: value >= 0)


def one_of(*choices: str) -> Check:
    """One of some texts."""
    return lambda name, value: check_choice(name, value, choices)


def flag(name: str, value: Any) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{name}: expected True or False, got {shown(value)}")


def text(name: str, value: Any) -> None:
    """A text, which may be empty."""
    if not isinstance(value, str):
        raise InputError(f"{name}: expected a text, got {shown(value)}")


def texts(name: str, value: Any) -> None:
    """Texts in a tuple, none at all being right."""
    if not is_row(value) or not all(isinstance(part, str) for part in value):
        raise InputError(
            f"{name}: expected names in a tuple, ('one', 'two'), got {shown(value)}"
        )


def is_row(value: Any) -> bool:
    """Whether it is a tuple, or the list that JSON makes of one."""
    return isinstance(value, tuple | list)
