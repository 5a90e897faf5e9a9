"""Changes of an image and its labels: at random for training, and to a given size.

Images are uint8 [height, width, 3], labels int32 [height, width]. Geometry moves both
alike; colour concerns the image alone. All randomness comes from `rng`. Where an image
is padded, its mask, bool [height, width], is False.
"""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]

# Rec. 601 luma, what Pillow takes as grey too.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def random_flip(image: Pixels, label: Labels, rng: Generator) -> tuple[Pixels, Labels]:
    """Mirrors left and right in half of the cases."""
    if rng.uniform() < 0.5:
        return image[:, ::-1], label[:, ::-1]
    return image, label


def random_scale(
    image: Pixels, label: Labels, rng: Generator, low: float, high: float
) -> tuple[Pixels, Labels]:
    """Scales both axes by one factor, log-uniform in low..high.

    The image is resampled bilinearly and the labels take their nearest neighbour, since
    there is nothing between two classes.
    """
    factor = np.exp(rng.uniform(np.log(low), np.log(high)))
    return _resize(image, label, factor)


def _resize(image: Pixels, label: Labels, factor: float) -> tuple[Pixels, Labels]:
    height, width = (max(1, round(side * factor)) for side in label.shape)
    if (height, width) == label.shape:
        return image, label
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    nearest = Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized), np.asarray(nearest)


def random_crop(
    image: Pixels,
    label: Labels,
    rng: Generator,
    size: tuple[int, int],
    ignore_label: int,
) -> tuple[Pixels, Labels, Mask]:
    """Cuts out a window of `size`, (height, width), uniformly among all places.

    Where the image is smaller than the window, it lies anywhere in it, its edges are
    repeated outwards and the labels there are ignored.
    """
    pads, window = [], []
    for side, wanted in zip(label.shape, size, strict=True):
        missing = max(0, wanted - side)
        before = int(rng.integers(missing + 1))
        start = int(rng.integers(max(0, side - wanted) + 1))
        pads.append((before, missing - before))
        window.append(slice(start, start + wanted))
    # The border's own colour gives neither a CRF nor a network an edge to learn from.
    mask = np.pad(np.ones(label.shape, bool), pads)[tuple(window)]
    image = np.pad(image, [*pads, (0, 0)], mode="edge")[tuple(window)]
    label = np.pad(label, pads, constant_values=ignore_label)[tuple(window)]
    return image, label, mask


def place_on_canvas(
    image: Pixels, label: Labels, side: int, ignore_label: int
) -> tuple[Pixels, Labels, Mask]:
    """Scales the longer side to `side` and pads the other at the bottom or right.

    As the authors place each image on a square. What is padded is black here: its
    colour is the segmenter's concern (`Segmenter.canvas`).
    """
    image, label = _resize(image, label, side / max(label.shape))
    pads = [(0, side - length) for length in label.shape]
    mask = np.pad(np.ones(label.shape, bool), pads)
    image = np.pad(image, [*pads, (0, 0)])
    label = np.pad(label, pads, constant_values=ignore_label)
    return image, label, mask


def jitter_color(image: Pixels, rng: Generator, strength: float) -> Pixels:
    """Changes brightness, contrast and saturation, each by up to `strength` of itself.

    Args:
      image: uint8 [height, width, 3].
      rng: source of the three factors, uniform in 1 - strength..1 + strength.
      strength: in 0..1; 0 leaves the image as it is.
    """
    brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, 3)
    pixels = image.astype(np.float32) * np.float32(brightness)
    mean = pixels.mean()
    pixels = mean + np.float32(contrast) * (pixels - mean)
    grey = (pixels @ _LUMA)[..., None]
    pixels = grey + np.float32(saturation) * (pixels - grey)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
