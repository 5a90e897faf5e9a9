"""A CRF layer and its parameters in one file: what a fit leaves behind.

The file is one of `crfrnn_jax.weights`, an .npz whose tensors are named as those of a
network, "crf/compatibility", and whose meta holds the layer's attributes. So a network
may start from it as well (`config.init.file`).
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin

import jax
import numpy as np

from crfrnn_jax.checks import InputError, check_keys
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.weights import load_weights, save_weights

_PREFIX = "crf/"
# The layer's attributes and their types.
_ATTRIBUTES: dict[str, Any] = {
    field.name: field.type
    for field in dataclasses.fields(CRFRNN)
    if field.name not in ("parent", "name")
}


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
    if not isinstance(variables, Mapping):
        raise InputError(
            "variables: expected a dictionary, as of `layer.init` or `fit_crf(...)"
            f".variables`, got {type(variables).__name__}"
        )
    check_keys("variables", variables, ("params",))
    params = {
        name: np.asarray(value, np.float32)
        for name, value in variables["params"].items()
    }
    _check_params("variables", layer, params)
    attributes = {name: getattr(layer, name) for name in _ATTRIBUTES}
    tensors = {_PREFIX + name: value for name, value in params.items()}
    save_weights(path, tensors, {"crf": attributes}, force=force)


def load_crf(path: str | os.PathLike[str]) -> SavedCRF:
    """Reads what `save_crf` wrote.

    Args:
      path: the file.

    Raises:
      FileNotFoundError: there is none.
      ValueError: naming the file, if it is damaged or of another kind.

    Examples:
      See `save_crf`.
    """
    tensors, meta = load_weights(path)
    attributes = meta.get("crf")
    if not isinstance(attributes, dict):
        raise InputError(
            f"{path}: expected a CRF that fit.py or save_crf wrote, got the weights of "
            f"a network, {', '.join(list(tensors)[:3])}"
        )
    differing = attributes.keys() ^ _ATTRIBUTES.keys() or {
        name for name, kind in _ATTRIBUTES.items() if not _fits(attributes[name], kind)
    }
    if differing:
        raise InputError(
            f"{path}: expected a CRF of this version, got one that differs in "
            f"{', '.join(sorted(differing))}"
        )
    layer = CRFRNN(**attributes)
    params = {name.removeprefix(_PREFIX): value for name, value in tensors.items()}
    try:
        _check_params("crf", layer, params)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return SavedCRF(layer, {"params": params})


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value that JSON holds is of an attribute's type."""
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_args(kind):
        return any(_fits(value, part) for part in get_args(kind))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def _check_params(name: str, layer: CRFRNN, params: dict[str, np.ndarray]) -> None:
    """Raises InputError unless these are the layer's parameters, and finite."""
    image = jax.ShapeDtypeStruct((1, 2, 2, 1), np.float32)
    logits = jax.ShapeDtypeStruct((1, 2, 2, layer.num_labels), np.float32)
    expected = jax.eval_shape(layer.init, jax.random.key(0), image, logits)["params"]
    shapes = {key: list(value.shape) for key, value in expected.items()}
    got = {key: list(value.shape) for key, value in params.items()}
    if got != shapes:
        raise InputError(f"{name}: expected the layer's parameters {shapes}, got {got}")
    wrong = [key for key, value in params.items() if not np.isfinite(value).all()]
    if wrong:
        raise InputError(
            f"{name}: expected finite numbers, got others in {', '.join(wrong)}"
        )
