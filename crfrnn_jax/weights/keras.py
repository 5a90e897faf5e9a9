"""Keras's .h5 files of weights, read without Keras and without h5py.

`save_weights` writes one group a layer, in it the layer's arrays, and the names of both
in attributes (`layer_names`, `weight_names`); `save` puts the same under
`model_weights`, beside the optimiser's state, which is not read.

An array was called `conv1_1_W_1:0` by Keras 1 and is called `conv1_1/kernel:0` since;
here both are "conv1_1/kernel".
"""

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crfrnn_jax.weights.hdf5 import Hdf5, Object
from crfrnn_jax.weights.limits import reading

_MOST_ARRAYS = 10_000
_DEEPEST = 8
_ROLES = {"W": "kernel", "b": "bias"}


def read_keras(path: Path) -> dict[str, NDArray[Any]]:
    """Reads the arrays of a Keras model.

    Args:
      path: an HDF5 file of Keras 1 or 2.

    Returns:
      The arrays as "LAYER/kernel", "LAYER/bias" and so on, as stored.

    Raises:
      InputError: naming the file, if it is damaged, not Keras's, or refers to other
        files.
    """
    with reading(path, "a Keras file of weights"):
        top = Hdf5(path.read_bytes()).root
        if "model_weights" in top.names:
            top = top.child("model_weights")
        listed, found = _listed(top), {}
        for place, array in _arrays(top):
            found[place] = array
            if len(found) > _MOST_ARRAYS:
                raise ValueError(f"more than {_MOST_ARRAYS} arrays")
        faults = {
            "arrays of no layer": found.keys() - listed.keys(),
            "layers without their arrays": listed.keys() - found.keys(),
        }
        for fault, names in faults.items():
            if names:
                raise ValueError(f"{fault}: {', '.join(sorted(names)[:10])}")
        return {name: found[place] for place, name in listed.items()}


def _listed(top: Object) -> dict[str, str]:
    """Our name of every array that Keras lists, by its place in the file."""
    names: dict[str, str] = {}
    for layer in _names(top, "layer_names"):
        group = top
        for part in layer.split("/"):
            group = group.child(part)
        for weight in _names(group, "weight_names"):
            names[f"{layer}/{weight}"] = f"{layer}/{_role(layer, weight)}"
    if not names or len(set(names.values())) < len(names):
        raise ValueError("two weights of one name" if names else "no weights")
    return names


def _names(group: Object, attribute: str) -> list[str]:
    """A list of names; Keras splits one over 64 kB into attribute0, attribute1, ..."""
    whole = group.attribute(attribute)
    parts = [whole] if whole is not None else []
    for index in count() if whole is None else ():
        part = group.attribute(f"{attribute}{index}")
        if part is None:
            break
        parts.append(part)
    if not parts:
        raise ValueError(f"no attribute {attribute}, which Keras 1 and 2 write")
    names = [name for part in parts for name in np.ravel(part)]
    if any(not isinstance(name, bytes) for name in names):
        raise ValueError(f"the attribute {attribute} that holds no names")
    return [name.decode("utf-8") for name in names]


def _role(layer: str, weight: str) -> str:
    """What an array is to its layer: "kernel", "bias" or a name of its own."""
    name = weight.rpartition("/")[2].partition(":")[0].removeprefix(f"{layer}_")
    name = re.sub(r"_\d+$", "", name)
    return _ROLES.get(name, name)


def _arrays(group: Object, above: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """All arrays below a group, each with its place."""
    if above.count("/") > _DEEPEST:
        raise ValueError("groups within groups without end")
    for name in group.names:
        child = group.child(name)
        if child.is_dataset:
            yield f"{above}{name}", child.array()
        else:
            yield from _arrays(child, f"{above}{name}/")
