"""What the benchmarks work on: a photograph or a scene like one, and its noisy copy."""

from pathlib import Path

import numpy as np

from crfrnn_jax import bilateral_features, build_lattice

HEIGHT, WIDTH, LABELS = 366, 500, 21
QUIET_VERTICES, BUSY_VERTICES = 80_000, 300_000


def load_image(path: str | None) -> np.ndarray:
    """The photograph at `path`, or a scene: uint8 [height, width, 3]."""
    if path is None:
        return add_noise(make_scene(HEIGHT, WIDTH), QUIET_VERTICES)
    from PIL import Image

    with Image.open(Path(path)) as photograph:
        return np.asarray(photograph.convert("RGB"))


def make_scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth image with the spectrum of photographs, float [height, width, 3].

    Amplitudes fall with the frequency, as in natural images (Field 1987), and the three
    channels have most of it in common.
    """
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = 1.0 / np.maximum(frequency, 1.0 / max(height, width)) ** 2
    noise = rng.normal(size=(4, 2, *frequency.shape))
    waves = np.fft.irfft2(amplitude * (noise[:, 0] + 1j * noise[:, 1]), (height, width))
    waves /= waves.std(axis=(1, 2), keepdims=True)
    return np.clip(128 + 50 * (waves[:1] + 0.3 * waves[1:]), 0, 255).transpose(1, 2, 0)


def add_noise(image: np.ndarray, num_vertices: int, seed: int = 0) -> np.ndarray:
    """The image with as much noise as gives its lattice at 160/3 so many vertices.

    Args:
      image: [height, width, 3] in 0..255.
      num_vertices: aimed at within 2 per cent; unchanged if the image has more.
      seed: of the noise.

    Returns:
      uint8 [height, width, 3].
    """
    low, high = 0.0, 64.0
    noisy = with_noise(image, 0.0, seed)
    count = count_vertices(noisy, 160.0, 3.0)
    while abs(count - num_vertices) > 0.02 * num_vertices and high - low > 1e-3:
        sigma = (low + high) / 2
        noisy = with_noise(image, sigma, seed)
        count = count_vertices(noisy, 160.0, 3.0)
        low, high = (sigma, high) if count < num_vertices else (low, sigma)
    return noisy


def make_logits(height: int, width: int, labels: int, seed: int = 0) -> np.ndarray:
    """A network's logits, float32 [height, width, labels]: smooth, and sure of much."""
    coarse = np.random.default_rng(seed).normal(
        size=(height // 16 + 2, width // 16 + 2, labels)
    )
    rows = np.linspace(0, coarse.shape[0] - 1.001, height)
    columns = np.linspace(0, coarse.shape[1] - 1.001, width)
    fine = coarse[rows.astype(int)][:, columns.astype(int)]
    return (3 * fine).astype(np.float32)


def count_vertices(image, theta_alpha: float, theta_beta: float) -> int:
    """Vertices of the image's bilateral lattice."""
    features = bilateral_features(image, theta_alpha, theta_beta)
    return int(build_lattice(features).num_vertices)


def with_noise(image: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    """The image [height, width, 3] with noise of a standard deviation, as uint8."""
    noise = np.random.default_rng(seed).normal(size=image.shape)
    return np.clip(np.round(image + sigma * noise), 0, 255).astype(np.uint8)
