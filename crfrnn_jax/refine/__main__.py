"""`python -m crfrnn_jax.refine IMAGE SEGMENTATION --out FILE`: one image, refined.

SEGMENTATION is an .npy of probabilities [height, width, labels], or a grey or palette
image of labels. See docs/refine.md.
"""

import argparse
import sys
from pathlib import Path
from typing import get_args

import numpy as np

from crfrnn_jax.checks import InputError, check_at_least
from crfrnn_jax.data.folder import read_image, read_mask
from crfrnn_jax.evaluation.pictures import (
    save_array,
    save_before_after,
    save_labels,
    save_overlay,
)
from crfrnn_jax.kernels import METHODS, KernelNormalisation
from crfrnn_jax.refine import refine
from crfrnn_jax.unaries import unary_from_labels

_PROGRAM = "python -m crfrnn_jax.refine"
# Flags that are arguments of `refine`, with its defaults.
_NUMBERS = {
    "theta_alpha": (80.0, "width of the bilateral kernel in pixels"),
    "theta_beta": (13.0, "its width in intensities, 0..255"),
    "theta_gamma": (3.0, "width of the spatial kernel in pixels"),
    "bilateral_weight": (10.0, "weight of the bilateral kernel"),
    "spatial_weight": (3.0, "weight of the spatial kernel"),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
      arguments: what follows the program's name; `sys.argv`'s unless given.

    Returns:
      The exit status: 0, or 1 if a file is not as it should be.
    """
    options = _parse(arguments)
    try:
        _check_free(options)
        image = read_image(options.image)
        scores = _read_scores(options)
        refined = refine(
            image,
            **scores,
            **{name: getattr(options, name) for name in _NUMBERS},
            num_iterations=options.iterations,
            normalisation=options.normalisation,
            method=options.method,
        )
        _write(options, image, next(iter(scores.values())), refined)
    except (InputError, OSError) as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("image", type=Path, metavar="IMAGE", help="a photograph")
    add(
        "segmentation",
        type=Path,
        metavar="SEGMENTATION",
        help="an .npy, float [height, width, labels], or an image of labels",
    )
    add(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="a palette .png of labels, or an .npy of probabilities",
    )
    add("--overlay", type=Path, metavar="FILE", help="a .png of labels over IMAGE")
    add("--before-after", type=Path, metavar="FILE", help="a .png of both overlays")
    add("--force", action="store_true", help="replace files that are there")
    scores = parser.add_argument_group("of an .npy")
    scores.add_argument("--logits", action="store_true", help="it holds no softmax yet")
    labels = parser.add_argument_group("of an image of labels")
    labels.add_argument("--confidence", type=float, default=0.7, help="in its labels")
    labels.add_argument("--unknown", type=int, help="label of what is not known")
    labels.add_argument("--labels", type=int, help="their number, if not all are there")
    crf = parser.add_argument_group("the CRF")
    for name, (default, text) in _NUMBERS.items():
        flag = "--" + name.replace("_", "-")
        crf.add_argument(flag, type=float, default=default, help=text)
    crf.add_argument("--iterations", type=int, default=5, help="of the mean field")
    crf.add_argument(
        "--normalisation",
        choices=get_args(KernelNormalisation),
        default="symmetric",
        help="of the kernels",
    )
    crf.add_argument(
        "--method", choices=METHODS, default="lattice", help="of filtering"
    )
    options = parser.parse_args(arguments)
    _check_endings(parser, options)
    return options


def _check_endings(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> None:
    allowed = {"out": (".png", ".npy"), "overlay": (".png",), "before_after": (".png",)}
    for name, endings in allowed.items():
        path = getattr(options, name)
        if path is not None and path.suffix.lower() not in endings:
            flag = "--" + name.replace("_", "-")
            parser.error(f"{flag}: expected a name that ends in {endings}, got {path}")
    if options.logits and options.segmentation.suffix.lower() != ".npy":
        parser.error("--logits: only of an .npy")


def _check_free(options: argparse.Namespace) -> None:
    given = [options.out, options.overlay, options.before_after]
    paths = [path.absolute() for path in given if path is not None]
    for path in paths:
        if path.exists() and not options.force:
            raise InputError(f"{path}: expected no such file; --force replaces it")
        if paths.count(path) > 1:
            raise InputError(f"{path}: expected another name for each file to write")


def _read_scores(options: argparse.Namespace) -> dict[str, np.ndarray]:
    """The segmentation by the name of its argument of `refine`."""
    path = options.segmentation
    if path.suffix.lower() != ".npy":
        return {"logits": _logits_of_labels(read_mask(path), options)}
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(
            f"{path}: expected an array of numpy's, got: {error}"
        ) from error
    return {"logits" if options.logits else "probabilities": array}


def _logits_of_labels(labels: np.ndarray, options: argparse.Namespace) -> np.ndarray:
    known = labels if options.unknown is None else labels[labels != options.unknown]
    if not known.size:
        raise InputError(f"{options.segmentation}: expected labels, got unknown alone")
    number = int(known.max()) + 1 if options.labels is None else options.labels
    check_at_least("number of labels", number, 2)
    return np.asarray(
        unary_from_labels(labels, options.confidence, number, unknown=options.unknown)
    )


def _write(
    options: argparse.Namespace,
    image: np.ndarray,
    scores: np.ndarray,
    refined: np.ndarray,
) -> None:
    before, after = scores.argmax(-1), refined.argmax(-1)
    is_drawn = options.overlay or options.before_after or options.out.suffix == ".png"
    if is_drawn and refined.shape[-1] > 256:
        raise InputError(
            f"{options.segmentation}: expected at most 256 labels, as a picture has, "
            f"got {refined.shape[-1]}; --out FILE.npy alone takes more"
        )
    if options.out.suffix.lower() == ".npy":
        save_array(options.out, refined)
    else:
        save_labels(options.out, after)
    if options.overlay is not None:
        save_overlay(options.overlay, image, after)
    if options.before_after is not None:
        save_before_after(options.before_after, image, before, after)
    changed = 100 * (before != after).mean()
    print(f"{changed:.2f} % of the pixels have another label: {options.out}")


if __name__ == "__main__":
    sys.exit(main())
