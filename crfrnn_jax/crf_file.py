"""A CRF layer and its parameters in one file: what a fit leaves behind.

The file is one of `crfrnn_jax.weights`, an .npz whose tensors are named as those of a
network, "crf/compatibility", and whose meta holds the layer's attributes. So a network
may start from it as well (`config.init.file`).
"""

import os
from typing import Any, NamedTuple

import numpy as np

from crfrnn_jax.attributes import attributes_of, fits
from crfrnn_jax.checks import InputError, naming, shown
from crfrnn_jax.layers import CRFRNN, check_variables
from crfrnn_jax.weights import load_weights, save_weights
from crfrnn_jax.weights.limits import reading

_PREFIX = "crf/"
_ATTRIBUTES = attributes_of(CRFRNN)


class SavedCRF(NamedTuple):
    """What a file holds: refined logits are `layer.apply(variables, images, logits)`.

    Attributes:
      layer: the CRF.
      variables: its parameters, as `layer.init` gives them.
    """

    layer: CRFRNN
    variables: dict[str, Any]


def save_crf(
    path: str | os.PathLike[str],
    layer: CRFRNN,
    variables: dict[str, Any],
    *,
    force: bool = False,
) -> None:
    """Writes a layer and its parameters; the file is there whole or not at all.

    Args:
      path: the file, ending in .npz.
      layer: the CRF.
      variables: its parameters, as `layer.init` and `fit_crf` give them.
      force: whether an existing file may be replaced.

    Raises:
      ValueError: the parameters are not the layer's, or naming the file, if it has
        another ending or is there already.

    Examples:
      >>> import tempfile
      >>> layer = CRFRNN(2, weights_form="scalar", compatibility_form="potts")
      >>> scene = np.zeros((1, 4, 6, 3)), np.zeros((1, 4, 6, 2), np.float32)
      >>> variables = layer.init(jax.random.key(0), *scene)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_crf(f"{folder}/crf.npz", layer, variables)
      ...     saved = load_crf(f"{folder}/crf.npz")
      >>> saved.layer == layer
      True
      >>> saved.layer.apply(saved.variables, *scene).shape
      (1, 4, 6, 2)
    """
    if not isinstance(layer, CRFRNN):
        raise InputError(f"layer: expected CRFRNN, got {type(layer).__name__}")
    check_variables("variables", layer, variables)
    attributes = {name: _plain(getattr(layer, name)) for name in _ATTRIBUTES}
    for name, value in attributes.items():
        if not fits(value, _ATTRIBUTES[name]):
            raise InputError(
                f"layer.{name}: expected {_ATTRIBUTES[name]}, got {shown(value)}"
            )
    tensors = {
        _PREFIX + name: np.asarray(value, np.float32)
        for name, value in variables["params"].items()
    }
    save_weights(path, tensors, {"crf": attributes}, force=force)


def _plain(value: Any) -> Any:
    """A number of NumPy's or JAX's as Python's."""
    return value.item() if hasattr(value, "item") else value


def load_crf(path: str | os.PathLike[str]) -> SavedCRF:
    """Reads what `save_crf` wrote.

    Args:
      path: the file.

    Raises:
      FileNotFoundError: there is none.
      ValueError: naming the file, if it is damaged or of another kind.

    Examples:
      >>> import tempfile
      >>> layer = CRFRNN(2, learn_widths=True)
      >>> scene = np.zeros((1, 4, 6, 3)), np.zeros((1, 4, 6, 2), np.float32)
      >>> variables = layer.init(jax.random.key(0), *scene)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_crf(f"{folder}/crf.npz", layer, variables)
      ...     layer, variables = load_crf(f"{folder}/crf.npz")
      >>> layer.learn_widths
      True
    """
    tensors, meta = load_weights(path)
    attributes = meta.get("crf")
    if not isinstance(attributes, dict):
        raise InputError(
            f"{path}: expected a CRF that fit.py or save_crf wrote, got the weights of "
            f"a network, {', '.join(list(tensors)[:3])}"
        )
    differing = attributes.keys() ^ _ATTRIBUTES.keys() or {
        name for name, kind in _ATTRIBUTES.items() if not fits(attributes[name], kind)
    }
    if differing:
        raise InputError(
            f"{path}: expected a CRF of this version, got one that differs in "
            f"{', '.join(sorted(differing))}"
        )
    misnamed = [name for name in tensors if not name.startswith(_PREFIX)]
    if misnamed:
        raise InputError(
            f"{path}: expected tensors of a CRF alone, got {', '.join(misnamed[:3])}"
        )
    params = {name.removeprefix(_PREFIX): value for name, value in tensors.items()}
    saved = SavedCRF(CRFRNN(**attributes), {"params": params})
    with reading(path, "a CRF"), naming(path):  # errors may be of an attribute's name
        check_variables("its tensors", *saved)
    return saved
