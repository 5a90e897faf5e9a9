"""Published weights: readers of other programs' files, and our own file.

`python -m crfrnn_jax.weights convert FILE OUT` does all of it.
"""

from crfrnn_jax.weights.arrays import Weights, load_weights, save_weights
from crfrnn_jax.weights.convert import (
    Conversion,
    convert_file,
    convert_tensors,
    read_tensors,
)
from crfrnn_jax.weights.layouts import LAYOUTS, Layout

__all__ = [
    "LAYOUTS",
    "Conversion",
    "Layout",
    "Weights",
    "convert_file",
    "convert_tensors",
    "load_weights",
    "read_tensors",
    "save_weights",
]
