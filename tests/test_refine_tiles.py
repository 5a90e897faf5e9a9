"""Tiles of an image: the whole's marginals, read and written part by part."""

import numpy as np
import pytest
from oracles import softmax

from crfrnn_jax import refine

RNG = np.random.default_rng(0)
HEIGHT, WIDTH, LABELS = 37, 150, 3
IMAGE = RNG.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
LOGITS = 2 * RNG.normal(size=(HEIGHT, WIDTH, LABELS)).astype(np.float32)
PROBABILITIES = softmax(LOGITS).astype(np.float32)
# Narrow, so that an overlap can hold all that reaches a pixel.
OPTIONS = {
    "theta_alpha": 2.0,
    "theta_beta": 60.0,
    "theta_gamma": 1.7,
    "bilateral_weight": 2.0,
    "spatial_weight": 1.5,
    "num_iterations": 1,
}
# A filter of the lattice ends after 6 widths: at most 1.5 from a point to a vertex of
# its simplex, and as much from one to a point; between them one step along each of 6
# axes, which come furthest, 3, if three go against the other three. The Gaussian is
# below float32's rounding there. One iteration reaches two filters far: that of the
# messages, and that of the sums by which they are divided.
REACH = 2 * 6 * 2
TILED = OPTIONS | {"tile": 2 * REACH + 11, "overlap": REACH}


@pytest.mark.parametrize(
    "methods",
    [("lattice", "lattice"), ("exact", "exact"), ("lattice", "separable")],
    ids="/".join,
)
@pytest.mark.parametrize("normalisation", ["symmetric", "after", "none"])
def test_with_all_context_tiles_are_the_whole(methods, normalisation):
    method, spatial_method = methods
    options = {"method": method, "spatial_method": spatial_method}
    options["normalisation"] = normalisation
    whole = refine(IMAGE, logits=LOGITS, **OPTIONS, **options)
    tiled = refine(IMAGE, logits=LOGITS, **TILED, **options)
    assert np.abs(whole - PROBABILITIES).max() > 0.1
    # Where a tile starts moves float32's rounding of x / theta, up to 75, by 4e-6.
    np.testing.assert_allclose(tiled, whole, atol=3e-5)


def test_without_context_they_are_not():
    whole = refine(IMAGE, logits=LOGITS, **OPTIONS)
    tiled = refine(IMAGE, logits=LOGITS, **OPTIONS, tile=40, overlap=0)
    assert np.abs(tiled - whole).max() > 0.05
