"""Synthetic scenes whose classes are told by shape, with exact labels.

Every scene is a shaded and textured background with clutter, under a few objects that
may hide each other. Colour says nothing about the class, but nearly always sets an
object off from what is behind it: the case a CRF is made for, since a network that has
to gather shape over a wide field sees the object well and its boundary badly.

Shapes are signed distances in pixels, negative inside, so that a union is a minimum, an
intersection a maximum, and both the antialiased edge and the ignored band around it are
thresholds. They are exact next to an edge and only bounds far from it.

Units are pixels, and grey levels 0..255. Positions are (x, y), arrays [height, width].
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.floating]  # float32 where there is one per pixel, for speed
Shape = Callable[[Array, Array, float, float], Array]

IGNORE_LABEL = 255

# Half-width of thin parts: 2.4 to 3.2 px across, of which the ignored band leaves 1.4.
_THIN = (1.2, 1.6)


def _disc(x: Array, y: Array, radius: float, u: float) -> Array:
    return np.hypot(x, y) - radius * (0.8 + 0.2 * u)


def _ring(x: Array, y: Array, radius: float, u: float) -> Array:
    half = radius * (0.17 + 0.08 * u)
    return np.abs(np.hypot(x, y) - (radius - half)) - half


def _triangle(x: Array, y: Array, radius: float, u: float) -> Array:
    return _sector(x, y, 3)[0] - radius * (0.55 + 0.05 * u)


def _square(x: Array, y: Array, radius: float, u: float) -> Array:
    return _box(x, y, 0.85 * radius, radius * (0.65 + 0.2 * u))


def _cross(x: Array, y: Array, radius: float, u: float) -> Array:
    half = radius * (0.2 + 0.1 * u)
    return np.minimum(_box(x, y, radius, half), _box(x, y, half, radius))


def _star(x: Array, y: Array, radius: float, u: float) -> Array:
    # In a sector around one notch the star is a single straight edge, mirrored: from
    # the notch on the axis to the tip on the sector's border.
    along, across = _sector(x, y, 5)
    notch = radius * (0.38 + 0.1 * u)
    tip = radius * np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
    edge = tip - (notch, 0)
    return ((along - notch) * edge[1] - np.abs(across) * edge[0]) / np.hypot(*edge)


def _wheel(x: Array, y: Array, radius: float, u: float) -> Array:
    half = _THIN[0] + (_THIN[1] - _THIN[0]) * u
    rim = np.abs(np.hypot(x, y) - (radius - half)) - half
    spokes = 3 if radius < 11 else 5  # more would fill a small wheel
    along, across = _sector(x, y, spokes)
    spoke = np.maximum(np.abs(across) - half, np.abs(along - radius / 2) - radius / 2)
    return np.minimum(rim, spoke)


def _sector(x: Array, y: Array, count: int) -> tuple[Array, Array]:
    """Folds the plane into one of `count` sectors: along and across its axis."""
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    sector = 2 * np.pi / count
    angle = angle - sector * np.round(angle / sector)
    return radius * np.cos(angle), radius * np.sin(angle)


def _box(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


_SHAPES: dict[str, Shape] = {
    "disc": _disc,
    "ring": _ring,
    "triangle": _triangle,
    "square": _square,
    "cross": _cross,
    "star": _star,
    "wheel": _wheel,
}
CLASS_NAMES = ("background", *_SHAPES)


def make_scene(
    rng: Generator, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draws one scene.

    Args:
      rng: all randomness comes from here: equal generators give equal scenes.
      size: side of the square scene in pixels; 64 to 128 keeps thin parts thin.

    Returns:
      The image, uint8 [size, size, 3], and the labels, uint8 [size, size]: indices into
      `CLASS_NAMES`, and `IGNORE_LABEL` within half a pixel of an object's boundary.
    """
    y, x = np.mgrid[:size, :size].astype(np.float32)
    backdrop = rng.uniform(40, 215, 3)
    image = _surface(rng, x, y, backdrop)
    for _ in range(rng.integers(3, 9)):
        color = np.clip(backdrop + rng.normal(0, 40, 3), 0, 255).astype(np.float32)
        _paint(image, color, _clutter(rng, x, y))

    label = np.zeros((size, size), np.uint8)
    for center_x, center_y, radius in _layout(rng, size):
        index = rng.integers(1, len(CLASS_NAMES))
        turned = _turn(x - center_x, y - center_y, rng.uniform(0, 2 * np.pi))
        shape = _SHAPES[CLASS_NAMES[index]]
        distance = shape(*turned, radius, rng.uniform())
        _paint(image, _surface(rng, x, y, _object_color(rng, backdrop)), distance)
        label[distance < 0.5] = IGNORE_LABEL
        label[distance < -0.5] = index

    image += rng.normal(0, 3, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), label


def _layout(rng: Generator, size: int) -> list[tuple[float, float, float]]:
    """Centres (x, y) and radii of 3 to 6 objects, from the lowest to the topmost."""
    placed: list[tuple[float, float, float]] = []
    for _ in range(rng.integers(3, 7)):
        # The best of a few places: objects overlap, but rarely beyond recognition.
        places = rng.uniform(0.1 * size, 0.9 * size, (4, 2)).tolist()
        x, y = max(places, key=lambda place: _clearance(place, placed))
        placed.append((x, y, size * rng.uniform(0.11, 0.24)))
    return placed


def _clearance(place: list[float], placed: list[tuple[float, float, float]]) -> float:
    """Distance from a place to the nearest object's rim, negative within an object."""
    return min((math.dist(place, (x, y)) - r for x, y, r in placed), default=0.0)


def _object_color(rng: Generator, backdrop: Array) -> Array:
    """A colour 80 grey levels from the backdrop's or more; one in eight only 30."""
    least = 80 if rng.uniform() > 1 / 8 else 30
    while True:
        color = rng.uniform(15, 240, 3)
        if np.linalg.norm(color - backdrop) > least:
            return color


def _clutter(rng: Generator, x: Array, y: Array) -> Array:
    """A small blob or thin line, part of the background: a thick segment's distance."""
    center = rng.uniform(0, len(x), 2)
    x, y = _turn(x - center[0], y - center[1], rng.uniform(0, np.pi))
    if rng.uniform() < 0.5:
        half_length, half_width = rng.uniform(0, 3), rng.uniform(1, 3)
    else:
        half_length, half_width = rng.uniform(8, 25), rng.uniform(0.4, 1)
    return np.hypot(x - np.clip(x, -half_length, half_length), y) - half_width


def _surface(rng: Generator, x: Array, y: Array, color: Array) -> Array:
    """A colour under a smooth light, with a faint texture: float [height, width, 3]."""
    light = _turn(x / len(x) - 0.5, y / len(x) - 0.5, rng.uniform(0, 2 * np.pi))[0]
    shaded = 1 + rng.uniform(0, 0.35) * light
    texture = rng.uniform(0, 8) * _texture(rng, x, y)
    return color.astype(np.float32) * shaded[..., None] + texture[..., None]


def _texture(rng: Generator, x: Array, y: Array) -> Array:
    """Stripes, checks or band-limited noise, of mean 0 and standard deviation 1."""
    x, y = _turn(x, y, rng.uniform(0, np.pi))
    kind = rng.choice(("stripes", "checks", "noise"))
    if kind == "stripes":
        return _wave(rng, x)
    if kind == "checks":
        return _wave(rng, x) * _wave(rng, y)
    waves = [_wave(rng, _turn(x, y, rng.uniform(0, np.pi))[0]) for _ in range(5)]
    return np.sum(waves, axis=0) / np.float32(len(waves) ** 0.5)


def _wave(rng: Generator, along: Array) -> Array:
    """A plane wave 4 to 12 pixels long, of standard deviation 1."""
    frequency, phase = 2 * np.pi / rng.uniform(4, 12), rng.uniform(0, 2 * np.pi)
    return np.float32(2**0.5) * np.cos(frequency * along + phase)


def _turn(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    """Coordinates along and across the direction at that angle to the x axis."""
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _paint(image: Array, surface: Array, distance: Array) -> None:
    """Covers the image, in place, where the distance is negative; edges are mixed."""
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    image += cover * (surface - image)
