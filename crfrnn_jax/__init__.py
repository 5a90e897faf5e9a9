"""Conditional random fields as recurrent neural networks, in JAX.

The numeric core: pure functions of arrays. The Flax layer on top of them is
`crfrnn_jax.layers.CRFRNN`.
"""

# What every function raises, a ValueError, where an argument is wrong
from crfrnn_jax.checks import InputError

# Dense CRF inference
from crfrnn_jax.crf import (
    CRFParams,
    Filters,
    crf_rnn,
    init_crf_params,
    mean_field_step,
    normalised_filter,
)

# Gaussian filtering
from crfrnn_jax.exact import exact_filter, separable_filter
from crfrnn_jax.features import bilateral_features, spatial_features
from crfrnn_jax.filtering import filter_lattice
from crfrnn_jax.lattice import Lattice, build_lattice

__all__ = [
    "CRFParams",
    "Filters",
    "InputError",
    "Lattice",
    "bilateral_features",
    "build_lattice",
    "crf_rnn",
    "exact_filter",
    "filter_lattice",
    "init_crf_params",
    "mean_field_step",
    "normalised_filter",
    "separable_filter",
    "spatial_features",
]
