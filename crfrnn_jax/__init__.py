"""Conditional random fields as recurrent neural networks, in JAX.

The numeric core: pure functions of arrays. The Flax layer on top of them is
`crfrnn_jax.layers.CRFRNN`.
"""

# What every function raises, a ValueError, where an argument is wrong
from crfrnn_jax.checks import InputError

# CRF-RNN: an image, two kernels, the authors' parameters
from crfrnn_jax.crf import CRFParams, crf_rnn, init_crf_params

# What inference lowers
from crfrnn_jax.energies import free_energy, labelling_energy

# Gaussian filtering
from crfrnn_jax.exact import exact_filter, separable_filter
from crfrnn_jax.features import (
    bilateral_features,
    image_features,
    position_features,
    spatial_features,
)
from crfrnn_jax.filtering import filter_lattice

# Dense CRFs of any points, with any kernels
from crfrnn_jax.inference import (
    Converged,
    mean_field,
    mean_field_trajectory,
    mean_field_until,
)
from crfrnn_jax.iterations import mean_field_step
from crfrnn_jax.kernel_filters import (
    PreparedKernel,
    normalised_filter,
    prepare_kernel,
)
from crfrnn_jax.kernels import GaussianKernel, bilateral_kernel, spatial_kernel
from crfrnn_jax.lattice import Lattice, build_lattice

# What comes out of inference
from crfrnn_jax.marginals import map_labels, marginal_entropy

# Post-processing in one call, and what goes into it
from crfrnn_jax.refine import refine
from crfrnn_jax.unaries import logits_from_probabilities, unary_from_labels

__all__ = [
    "CRFParams",
    "Converged",
    "GaussianKernel",
    "InputError",
    "Lattice",
    "PreparedKernel",
    "bilateral_features",
    "bilateral_kernel",
    "build_lattice",
    "crf_rnn",
    "exact_filter",
    "filter_lattice",
    "free_energy",
    "image_features",
    "init_crf_params",
    "labelling_energy",
    "logits_from_probabilities",
    "map_labels",
    "marginal_entropy",
    "mean_field",
    "mean_field_step",
    "mean_field_trajectory",
    "mean_field_until",
    "normalised_filter",
    "position_features",
    "prepare_kernel",
    "refine",
    "separable_filter",
    "spatial_features",
    "spatial_kernel",
    "unary_from_labels",
]
