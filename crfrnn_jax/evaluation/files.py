"""From files of images to files of predictions."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

from crfrnn_jax.checks import InputError
from crfrnn_jax.data.decoding import readable_endings
from crfrnn_jax.data.folder import read_image
from crfrnn_jax.evaluation.pictures import save_labels, save_overlay
from crfrnn_jax.evaluation.prediction import WindowUnary
from crfrnn_jax.evaluation.tiling import WHOLE, Tiling, predict_labels


class Target(NamedTuple):
    """An image and the files that are made of it.

    Attributes:
      image: the image's file.
      labels: a palette PNG of the likeliest labels.
      overlay: a PNG of their colours over the image, or None.
      probabilities: an .npy, float32 [height, width, labels], or None.
    """

    image: Path
    labels: Path
    overlay: Path | None = None
    probabilities: Path | None = None


def find_images(paths: Iterable[Path]) -> list[Path]:
    """The files that are named, and in place of each folder the images in it.

    A folder's images are its files whose ending is that of a format which is read, by
    their names; those in folders within it, and hidden ones, are left out.

    Raises:
      FileNotFoundError: there is no image in a folder.
    """
    images = []
    for path in paths:
        images += _images_in(path) if path.is_dir() else [path]
    return images


def _images_in(folder: Path) -> list[Path]:
    images = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in readable_endings()
        and path.is_file()
        and not path.name.startswith(".")
    ]
    if not images:
        raise FileNotFoundError(f"{folder}: expected images directly in it, got none")
    return images


def targets_by_stem(
    images: Iterable[Path], out: Path, *, probabilities: bool = False
) -> list[Target]:
    """Names the files after the images' stems.

    Args:
      images: the images' files.
      out: the folder in which `labels/STEM.png`, `overlays/STEM.png` and
        `probabilities/STEM.npy` are to be.
      probabilities: whether the last is wanted.

    Raises:
      ValueError: two images have the same stem.
    """
    by_stem: dict[str, Path] = {}
    for image in images:
        other = by_stem.setdefault(image.stem, image)
        if other is not image:
            raise InputError(
                f"{image}: expected one image per stem, which names what is made of "
                f"it, got {other} too"
            )
    return [
        Target(
            image,
            out / "labels" / f"{stem}.png",
            out / "overlays" / f"{stem}.png",
            out / "probabilities" / f"{stem}.npy" if probabilities else None,
        )
        for stem, image in by_stem.items()
    ]


def check_free(targets: Iterable[Target]) -> None:
    """Raises InputError if a file that is to be made is there already.

    With a data set's folder for `out`, `labels` would be its true masks.
    """
    taken = [
        path
        for target in targets
        for path in target[1:]
        if path is not None and path.exists()
    ]
    if taken:
        others = f" and {len(taken) - 1} others" if len(taken) > 1 else ""
        raise InputError(
            f"{taken[0]}: expected no such file, got one{others}; --force replaces "
            "them, --missing leaves them"
        )


def without_labels(targets: Iterable[Target]) -> list[Target]:
    """The targets whose labels are not there: those that `predict_files` has left."""
    return [target for target in targets if not target.labels.exists()]


def predict_files(
    logits_of: WindowUnary,
    targets: Sequence[Target],
    *,
    turn: bool = True,
    tiling: Tiling = WHOLE,
    report: Callable[[str], None],
) -> list[Target]:
    """Predicts images one after another, and shows how far it is if they are several.

    Args:
      logits_of: the network.
      targets: the images and the files that are made of them, replaced if there.
      turn: whether images are turned as their EXIF orientation says.
      tiling: how images are cut; not at all unless given.
      report: is told of each image that can't be read or scored, and skipped.

    Returns:
      The targets of the images that were skipped, of which no file is made.
    """
    skipped = []
    # On stderr, as the reports: rich puts whatever is written there above its bar.
    console = Console(stderr=True)
    for target in track(
        targets, "predicting", console=console, disable=len(targets) < 2
    ):
        try:
            image = read_image(target.image, turn=turn)
            labels = _predict(logits_of, image, target, tiling)
        except (InputError, OSError) as error:
            report(str(error))
            skipped.append(target)
            continue
        if target.overlay is not None:
            save_overlay(target.overlay, image, labels)
        save_labels(target.labels, labels)  # last: where they are, all is
    return skipped


def _predict(
    logits_of: WindowUnary, image: np.ndarray, target: Target, tiling: Tiling
) -> np.ndarray:
    """The labels, and the file of probabilities; errors name the image."""
    path = target.image
    try:
        return predict_labels(logits_of, image, tiling, target.probabilities)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        height, width = (min(side, tiling.side or side) for side in image.shape[:2])
        raise InputError(
            f"{path}: {height} x {width} pixels at once do not fit into the device's "
            "memory; --tile takes them in parts of fewer"
        ) from error
