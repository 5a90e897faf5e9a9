"""How far the lattice is from the exact dense kernel, and what that does to labels.

python benchmarks/accuracy.py [--image FILE] [--out FILE.json]

One filter: the error of K v / K 1, root mean square, as a part of the exact result's
deviation from its mean; for white noise, a ramp along the rows and the image's own
first channel. The CRF: the share of pixels whose label after 5 iterations is another
one, and the largest difference of a marginal on average over the pixels.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from inputs import LABELS, load_image, make_logits
from measuring import report

from crfrnn_jax import (
    GaussianKernel,
    bilateral_features,
    crf_rnn,
    init_crf_params,
    normalised_filter,
    spatial_features,
)
from crfrnn_jax.kernels import Method, SpatialMethod

HEADER = ("kernel", "d", "noise", "ramp", "channel", "labels changed", "marginals")
HEIGHT, WIDTH = 96, 120
WIDTHS = ((160.0, 3.0), (160.0, 10.0), (80.0, 13.0), (40.0, 30.0))
CHANNELS = (1, 3, 4)
# Of the bilateral and of the spatial kernel: the lattice, and the truth.
PAIRS: tuple[tuple[Method, SpatialMethod], ...] = (
    ("lattice", "lattice"),
    ("exact", "separable"),
)


def main() -> None:
    """One row for each kernel."""
    parser = argparse.ArgumentParser(description="The lattice against exact kernels.")
    parser.add_argument("--image", help="a photograph, instead of a made-up scene")
    parser.add_argument("--out", help="where to write the figures as JSON")
    options = parser.parse_args()

    image = centre_of(load_image(options.image)).astype(np.float32)
    logits = make_logits(HEIGHT, WIDTH, LABELS)
    rows = []
    for theta in (1.0, 3.0, 10.0):
        features = spatial_features(image.shape[:2], theta)
        rows.append((f"spatial {theta:g}", 2, *filter_errors(features, image), "", ""))
    for alpha, beta in WIDTHS:
        for channels in CHANNELS if (alpha, beta) == WIDTHS[0] else (3,):
            # A fourth channel: the mean of the others, a little to the right.
            extra = np.roll(image, 7, axis=1).mean(axis=-1, keepdims=True)
            of_kernel = np.concatenate([image, extra], axis=-1)[..., :channels]
            features = bilateral_features(of_kernel, alpha, beta)
            errors = filter_errors(features, image)
            changes = crf_changes(of_kernel, logits, alpha, beta)
            rows.append((f"{alpha:g}/{beta:g}", 2 + channels, *errors, *changes))
    report("accuracy", HEADER, rows, options.out)


def centre_of(image: np.ndarray) -> np.ndarray:
    """A crop that the exact kernel can bear."""
    top, left = (image.shape[0] - HEIGHT) // 2, (image.shape[1] - WIDTH) // 2
    return image[top : top + HEIGHT, left : left + WIDTH]


def filter_errors(features: jax.Array, image: np.ndarray) -> tuple[float, ...]:
    """Relative errors for the three signals."""
    points = len(features)
    noise = np.random.default_rng(0).normal(size=points)
    ramp = np.repeat(np.linspace(0, 1, HEIGHT), WIDTH)
    signals = np.stack([noise, ramp, image[..., 0].ravel()], axis=1)
    values = jnp.asarray(signals - signals.mean(axis=0), jnp.float32)
    lattice, exact = (
        np.asarray(
            normalised_filter(GaussianKernel(features, method=method))(values),
            np.float64,
        )
        for method, _ in PAIRS
    )
    error = np.sqrt(np.mean((lattice - exact) ** 2, axis=0))
    signal = np.sqrt(np.mean((exact - exact.mean(axis=0)) ** 2, axis=0))
    return tuple(float(x) for x in error / signal)


def crf_changes(
    image: np.ndarray, logits: np.ndarray, theta_alpha: float, theta_beta: float
) -> tuple[float, float]:
    """Share of labels that change, and the mean over pixels of the largest change."""
    marginals = [
        jax.nn.softmax(
            crf_rnn(
                image,
                logits,
                init_crf_params(LABELS),
                theta_alpha=theta_alpha,
                theta_beta=theta_beta,
                method=method,
                spatial_method=spatial_method,
            )
        )
        for method, spatial_method in PAIRS
    ]
    labels = [jnp.argmax(q, axis=-1) for q in marginals]
    changed = jnp.mean(labels[0] != labels[1])
    largest = jnp.max(jnp.abs(marginals[0] - marginals[1]), axis=-1)
    return float(changed), float(jnp.mean(largest))


if __name__ == "__main__":
    main()
