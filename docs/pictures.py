"""Draws the pictures of docs/lattice.md.

python docs/pictures.py
"""

from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from crfrnn_jax import (
    bilateral_features,
    build_lattice,
    exact_filter,
    filter_lattice,
    spatial_features,
)

FOLDER = Path(__file__).parent
SIDE = 61
D = 2


def main() -> None:
    """Draws all of them."""
    plt.rcParams.update({"font.size": 9, "savefig.dpi": 130})
    draw_simplices(FOLDER / "lattice_simplices.png")
    draw_impulses(FOLDER / "lattice_impulses.png")


def elevation() -> np.ndarray:
    """The [3, 2] matrix that takes features into the plane of the vertices."""
    columns = []
    for feature in np.eye(D):
        above, row = 0.0, np.zeros(D + 1)
        for i in range(D, 0, -1):
            scaled = feature[i - 1] * np.sqrt(2 / 3) * (D + 1) / np.sqrt(i * (i + 1))
            row[i] = above - i * scaled
            above += scaled
        row[0] = above
        columns.append(row)
    return np.stack(columns, axis=1)


def draw_simplices(path: Path) -> None:
    """Points of a plane, the triangles that they lie in, and their weights."""
    back = np.linalg.pinv(elevation())
    steps = range(-9, 10)
    vertices = np.array(
        [
            (x, y, -x - y)
            for x, y in product(steps, steps)
            if (x - y) % (D + 1) == 0 and (x + x + y) % (D + 1) == 0
        ]
    )
    places = vertices @ back.T
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    neighbour = np.abs(np.linalg.norm(places[1:] - places[0], axis=1)).min()
    for i, j in product(range(len(places)), repeat=2):
        if i < j and np.linalg.norm(places[i] - places[j]) < 1.01 * neighbour:
            axes.plot(*places[[i, j]].T, color="0.85", zorder=0)
    axes.scatter(*places.T, s=12, color="0.6", zorder=1)
    points = np.array([(-1.05, 0.35), (-0.65, 0.75), (1.1, -0.2)])
    for point, colour in zip(
        points, ("tab:blue", "tab:orange", "tab:green"), strict=True
    ):
        # In this lattice a point's simplex is that of the three nearest vertices.
        corners = places[np.argsort(np.linalg.norm(places - point, axis=1))[: D + 1]]
        system = np.vstack([corners.T, np.ones(D + 1)])
        weights = np.linalg.solve(system, np.append(point, 1))
        axes.scatter(*point, s=45, color=colour, zorder=3)
        for corner, weight in zip(corners, weights, strict=True):
            axes.plot(*np.stack([point, corner]).T, color=colour, lw=1 + 4 * weight)
            middle = 0.45 * point + 0.55 * corner
            box = {"facecolor": "w", "edgecolor": "none", "pad": 0.5}
            axes.annotate(
                f"{weight:.2f}",
                middle,
                color=colour,
                ha="center",
                va="center",
                bbox=box,
            )
    axes.set(xlim=(-2.4, 2.4), ylim=(-1.5, 1.6), aspect="equal")
    axes.set(xlabel="first feature, in kernel widths", ylabel="second feature")
    figure.savefig(path)
    plt.close(figure)


def draw_impulses(path: Path) -> None:
    """What one pixel sends, by the lattice and by the exact kernel."""
    middle = SIDE // 2
    image = np.zeros((SIDE, SIDE, 1), np.float32)
    # A wedge of another colour, whose tip lies near the middle.
    y, x = np.mgrid[:SIDE, :SIDE] - middle
    image[(x > 4) & (np.abs(y) < x)] = 100
    rows = {
        "positions, width 8": spatial_features((SIDE, SIDE), 8.0),
        "positions and colours": bilateral_features(image, 12.0, 20.0),
    }
    values = np.zeros((SIDE**2, 2), np.float32)
    values[middle * SIDE + middle, 0] = 1
    values[:, 1] = 1
    figure, axes = plt.subplots(2, 3, figsize=(7.2, 4.9), layout="constrained")
    for row, (name, features) in zip(axes, rows.items(), strict=True):
        lattice = np.asarray(filter_lattice(build_lattice(features), values))
        exact = np.asarray(exact_filter(features, values))
        pictures = [
            (of[:, 0] / of[middle * SIDE + middle, 1]).reshape(SIDE, SIDE)
            for of in (lattice, exact)
        ]
        most = max(picture.max() for picture in pictures)
        for place, picture, title in zip(
            row[:2], pictures, ("lattice", "exact"), strict=True
        ):
            place.imshow(picture, vmin=0, vmax=most, cmap="magma")
            place.contour(image[..., 0], [50], colors="w", linewidths=0.5)
            place.set(title=title, xticks=[], yticks=[])
        row[0].set_ylabel(name)
        for picture, style in zip(pictures, ("-", "--"), strict=True):
            row[2].plot(np.arange(SIDE) - middle, picture[middle], style)
        row[2].legend(["lattice", "exact"])
        row[2].set(xlabel="pixels along the middle row", ylim=(0, None))
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    main()
