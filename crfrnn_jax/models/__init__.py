"""Networks: backbones that score pixels, and their composition with the CRF."""

from typing import Any

from crfrnn_jax.checks import InputError
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.models.fcn import FCN
from crfrnn_jax.models.segmenter import Segmenter

__all__ = ["BACKBONES", "FCN", "Segmenter", "build_segmenter"]

# What config.model.name may be, and the class it stands for. The other keys of
# config.model are the class's attributes.
BACKBONES = {"fcn": FCN}


def build_segmenter(config: Any, num_labels: int) -> Segmenter:
    """The segmenter that a config describes.

    Args:
      config: with `model` (the backbone's name and attributes) and `crf` (the
        attributes of the CRF layer).
      num_labels: number of labels.

    Raises:
      ValueError: the backbone is unknown.
    """
    # Lists, as a checkpoint's JSON holds them, become tuples: a module is a static
    # argument of compiled functions and has to be hashable.
    attributes: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config.model.items()
    }
    name = attributes.pop("name")
    if name not in BACKBONES:
        raise InputError(
            f"config.model.name: expected one of {sorted(BACKBONES)}, got {name!r}"
        )
    backbone = BACKBONES[name](num_labels=num_labels, **attributes)
    return Segmenter(backbone, CRFRNN(num_labels=num_labels, **config.crf))
