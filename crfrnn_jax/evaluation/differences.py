"""Where two trees of settings differ, for messages."""

from collections.abc import Callable, Mapping
from typing import Any


def differing(
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    prefix: str,
    is_free: Callable[[str], bool] = lambda key: False,
) -> list[str]:
    """The keys in which two nested dicts differ, as "prefix.key: one -> other".

    Args:
      one: the settings.
      other: the other ones.
      prefix: of all keys.
      is_free: whether a key, with its prefix, does not count.
    """
    found = []
    for key in sorted(one.keys() | other.keys()):
        left, right = one.get(key, "(absent)"), other.get(key, "(absent)")
        path = f"{prefix}.{key}"
        if is_free(path):
            continue
        if isinstance(left, dict) and isinstance(right, dict):
            found += differing(left, right, path, is_free)
        elif left != right:
            found.append(f"{path}: {left!r} -> {right!r}")
    return found
