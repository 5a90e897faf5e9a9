"""Damage to JSON: keys that are gone or new, values of any other kind."""

import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_JUNK = (None, True, False, 0, 1, -1, 7, 2**31, 2**63, 10**400, 0.0, 0.5, -1.5, 1e308)
_JUNK += (float("nan"), float("inf"), "", "0", "fcn", "end_to_end", "shapes", "../x")
_JUNK += ("package.module:Class", "a.b", [], {}, [[]], [1, 2], ["a"], {"a": 1})
_JUNK += ([0.5, "x", None], {"name": "fcn"}, [[1, 2, 3, 4, 5]], "x" * 3000)
_KEYS = ("name", "dir", "steps", "stepz", "a", "", "a.b", "items", "__class__", "é")


def damaged_trees(trees: Sequence[Any]) -> Callable[[int], Iterator[bytes]]:
    """An endless row of JSON that comes from a few whole trees."""
    texts = [json.dumps(tree) for tree in trees]

    def inputs(seed: int) -> Iterator[bytes]:
        rng = random.Random(seed)
        while True:
            tree = json.loads(rng.choice(texts))
            for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
                _damage(rng, tree)
            yield json.dumps(tree).encode()

    return inputs


def _damage(rng: random.Random, tree: Any) -> None:
    """Changes one place, as often deep within the tree as near its root."""
    where = tree
    while True:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        if not keys:
            break
        key = rng.choice(keys)
        if isinstance(where[key], dict | list) and rng.random() < 0.85:
            where = where[key]
            continue
        kind = rng.randrange(4)
        if kind == 0:
            del where[key]
        elif kind == 1:
            where[key] = _value(rng, tree)
        elif kind == 2 and isinstance(where, dict):
            where[rng.choice((*_KEYS, f"{key}s", str(key)[1:]))] = _value(rng, tree)
        elif isinstance(where[key], int | float):
            where[key] = rng.choice((str(where[key]), -where[key], [where[key]]))
        else:
            where[key] = {"value": where[key]}
        return
    if isinstance(where, dict):
        where[rng.choice(_KEYS)] = _value(rng, tree)
    else:
        where.append(_value(rng, tree))


def _value(rng: random.Random, tree: Any) -> Any:
    if rng.random() < 0.8:
        return copy.deepcopy(rng.choice(_JUNK))
    parts = list(tree.values()) if isinstance(tree, dict) else list(tree)
    return copy.deepcopy(rng.choice(parts or [None]))
