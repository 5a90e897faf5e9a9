"""Keras's .h5 files of weights, read by h5py alone.

`save_weights` writes one group a layer, in it the layer's arrays, and the names of both
in attributes (`layer_names`, `weight_names`); `save` puts the same under
`model_weights`, beside the optimiser's state, which is not read.

An array was called `conv1_1_W_1:0` by Keras 1 and is called `conv1_1/kernel:0` since;
here both are "conv1_1/kernel".
"""

import re
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crfrnn_jax.checks import InputError
from crfrnn_jax.weights.limits import Budget, check_dims, reading

_MOST_OBJECTS = 10_000
_ROLES = {"W": "kernel", "b": "bias"}


def read_keras(path: Path) -> dict[str, NDArray[Any]]:
    """Reads the arrays of a Keras model.

    Args:
      path: an HDF5 file of Keras 1 or 2.

    Returns:
      The arrays as "LAYER/kernel", "LAYER/bias" and so on, as stored.

    Raises:
      InputError: naming the file, if it is damaged, not Keras's, or refers to other
        files; or if h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError(
            f"{path}: expected h5py to read a Keras file with, got none; "
            "pip install 'crfrnn-jax[weights]'"
        ) from error
    with reading(path, "a Keras file of weights"), h5py.File(path, "r") as file:
        top = _child(file, "model_weights") if "model_weights" in file else file
        listed = _listed(top)
        found = set(_datasets(top, ""))
        if found - set(listed):
            unlisted = ", ".join(sorted(found - set(listed))[:10])
            raise ValueError(f"arrays of no layer: {unlisted}")
        budget = Budget(path)
        return {
            name: _read_array(name, _find(top, place), budget)
            for place, name in listed.items()
        }


def _listed(top: Any) -> dict[str, str]:
    """Our name of every array that Keras lists, by its place in the file."""
    names: dict[str, str] = {}
    for layer in _names(top, "layer_names"):
        for weight in _names(_find(top, layer), "weight_names"):
            names[f"{layer}/{weight}"] = f"{layer}/{_role(layer, weight)}"
    if not names or len(set(names.values())) < len(names):
        raise ValueError("no weights" if not names else "two weights of one name")
    return names


def _names(group: Any, attribute: str) -> list[str]:
    """A list of names; Keras splits one over 64 kB into attribute0, attribute1, ..."""
    numbered = (f"{attribute}{index}" for index in count())
    parts = [attribute] if attribute in group.attrs else []
    parts = parts or list(takewhile(lambda part: part in group.attrs, numbered))
    if not parts:
        raise ValueError(f"no attribute {attribute}, which Keras 1 and 2 write")
    names = [name for part in parts for name in np.ravel(group.attrs[part])]
    return [n.decode("utf-8") if isinstance(n, bytes) else str(n) for n in names]


def _role(layer: str, weight: str) -> str:
    """What an array is to its layer: "kernel", "bias" or a name of its own."""
    name = weight.rpartition("/")[2].partition(":")[0].removeprefix(f"{layer}_")
    name = re.sub(r"_\d+$", "", name)
    return _ROLES.get(name, name)


def _datasets(group: Any, place: str) -> list[str]:
    """The places of all arrays below a group."""
    places: list[str] = []
    for name in group:
        child = _child(group, name)
        path = f"{place}{name}"
        if hasattr(child, "shape"):
            places.append(path)
        elif path.count("/") < 8:
            places += _datasets(child, f"{path}/")
        if len(places) > _MOST_OBJECTS:
            raise ValueError(f"more than {_MOST_OBJECTS} arrays")
    return places


def _find(group: Any, place: str) -> Any:
    for name in place.split("/"):
        group = _child(group, name)
    return group


def _child(group: Any, name: str) -> Any:
    """An entry of a group, if it lies in this very file."""
    import h5py

    # Soft links can run in circles, external ones into other files.
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name!r} missing, or a link")
    return group[name]


def _read_array(name: str, dataset: Any, budget: Budget) -> NDArray[Any]:
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
        raise ValueError(f"{name} is no array of numbers")
    if dataset.external is not None or dataset.is_virtual:
        raise ValueError(f"{name} lies in another file")
    budget.take(name, check_dims(name, dataset.shape) * dataset.dtype.itemsize)
    return dataset[...]
