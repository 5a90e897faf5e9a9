"""The segmenter that a config describes."""

import importlib
from typing import Any

from crfrnn_jax.checks import InputError, check_keys
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.models.fcn import FCN
from crfrnn_jax.models.segmenter import Segmenter
from crfrnn_jax.models.vgg import VGGFCN

# What config.model.name may be, besides "package.module:Class". The other keys of
# config.model are the class's attributes.
BACKBONES = {"fcn": FCN, "vgg_fcn": VGGFCN}


def build_segmenter(config: Any, num_labels: int) -> Segmenter:
    """The segmenter that a config describes.

    Args:
      config: with `model`: the backbone's name, one of `BACKBONES` or
        "package.module:Class" of a Flax module, and its attributes but for
        `num_labels`; with `crf`, the attributes of the CRF layer; and with `canvas`,
        the segmenter's.
      num_labels: number of labels.

    Raises:
      ValueError: the backbone can't be found, or has other attributes.
    """
    check_keys("config", config, ("canvas",))
    attributes = _hashable(config.model)
    name = attributes.pop("name")
    backbone_class = BACKBONES.get(name) or _import_class(name)
    try:
        backbone = backbone_class(num_labels=num_labels, **attributes)
    except TypeError as error:
        raise InputError(
            f"config.model: expected num_labels and the other attributes of {name}, "
            f"got: {error}"
        ) from error
    layer = CRFRNN(num_labels=num_labels, **_hashable(config.crf))
    return Segmenter(backbone, layer, config.canvas)


def _hashable(section: Any) -> dict[str, Any]:
    """The section with tuples for lists, as a checkpoint's JSON holds them.

    A module is a static argument of compiled functions and has to be hashable.
    """
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in section.items()
    }


def _import_class(name: str) -> Any:
    """The class that "package.module:Class" names."""
    module, colon, attribute = name.partition(":")
    if not colon:
        raise InputError(
            f"config.model.name: expected one of {sorted(BACKBONES)} or "
            f"'package.module:Class', got {name!r}"
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"config.model.name: expected a class that can be imported, got {name!r}: "
            f"{error}"
        ) from error
