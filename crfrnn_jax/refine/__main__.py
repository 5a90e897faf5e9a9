"""`python -m crfrnn_jax.refine IMAGE SEGMENTATION --out FILE`: one image, refined.

SEGMENTATION is an .npy of probabilities [height, width, labels], or a grey or palette
image of labels. See docs/refine.md.
"""

import argparse
import inspect
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from crfrnn_jax.checks import InputError, check_at_least
from crfrnn_jax.crf_file import load_crf
from crfrnn_jax.data.folder import read_image, read_mask
from crfrnn_jax.data.scores import ScoreKind, as_logits, read_scores
from crfrnn_jax.evaluation.pictures import (
    save_array,
    save_before_after,
    save_labels,
    save_overlay,
)
from crfrnn_jax.kernels import KERNEL_NORMALISATIONS, METHODS
from crfrnn_jax.refine import refine
from crfrnn_jax.unaries import unary_from_labels
from crfrnn_jax.writing import print_any_name

_PROGRAM = "python -m crfrnn_jax.refine"
# Flags of the CRF, which are arguments of `refine` and have its defaults.
_NUMBER: dict[str, Any] = {"type": float, "metavar": "X"}
_WHOLE: dict[str, Any] = {"type": int, "metavar": "N"}
_CRF_FLAGS: dict[str, tuple[str, dict[str, Any]]] = {
    "theta_alpha": ("width of the bilateral kernel in pixels", _NUMBER),
    "theta_beta": ("its width in intensities, 0..255", _NUMBER),
    "theta_gamma": ("width of the spatial kernel in pixels", _NUMBER),
    "bilateral_weight": ("weight of the bilateral kernel", _NUMBER),
    "spatial_weight": ("weight of the spatial kernel", _NUMBER),
    "num_iterations": ("of the mean field", _WHOLE),
    "normalisation": ("of the kernels", {"choices": KERNEL_NORMALISATIONS}),
    "method": ("of filtering", {"choices": METHODS}),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
      arguments: what follows the program's name; `sys.argv`'s unless given.

    Returns:
      The exit status: 0, or 1 if a file is not as it should be.
    """
    options = _parse(arguments)
    print_any_name()
    try:
        _check_free(options)
        image = read_image(options.image)
        kind, scores = _read_scores(options)
        refined = _refine(options, image, kind, scores)
        _write(options, image, scores, refined)
    except (InputError, OSError) as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=_PROGRAM)
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
    labels.add_argument("--confidence", help="in its labels (default: 0.7)", **_NUMBER)
    labels.add_argument("--unknown", help="label of what is not known", **_WHOLE)
    labels.add_argument("--labels", help="their number, if not all are there", **_WHOLE)
    crf = parser.add_argument_group("the CRF")
    crf.add_argument(
        "--crf",
        type=Path,
        metavar="FILE",
        help="one that fit.py fitted, in place of all that follows",
    )
    defaults = inspect.signature(refine).parameters
    for name, (text, settings) in _CRF_FLAGS.items():
        text = f"{text} (default: {defaults[name].default})"
        crf.add_argument(_flag_of(name), dest=name, help=text, **settings)
    options = parser.parse_args(arguments)
    _check_flags(parser, options)
    return options


def _flag_of(name: str) -> str:
    short = "iterations" if name == "num_iterations" else name
    return "--" + short.replace("_", "-")


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The CRF's flags that are there, as arguments of `refine`."""
    values = {name: getattr(options, name) for name in _CRF_FLAGS}
    return {name: value for name, value in values.items() if value is not None}


def _check_flags(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    allowed = {"out": (".png", ".npy"), "overlay": (".png",), "before_after": (".png",)}
    for name, endings in allowed.items():
        path = getattr(options, name)
        if path is not None and path.suffix.lower() not in endings:
            flag = _flag_of(name)
            parser.error(f"{flag}: expected a name that ends in {endings}, got {path}")
    if options.crf is not None and _given(options):
        flags = ", ".join(map(_flag_of, _given(options)))
        parser.error(f"{flags}: not with --crf, whose file holds them")
    is_array = options.segmentation.suffix.lower() == ".npy"
    if options.logits and not is_array:
        parser.error("--logits: only of an .npy")
    for name in ("confidence", "unknown", "labels"):
        if is_array and getattr(options, name) is not None:
            parser.error(f"--{name}: only of an image of labels")


def _check_free(options: argparse.Namespace) -> None:
    given = [options.out, options.overlay, options.before_after]
    paths = [path.absolute() for path in given if path is not None]
    for path in paths:
        if path.exists() and not options.force:
            raise InputError(f"{path}: expected no such file; --force replaces it")
        if paths.count(path) > 1:
            raise InputError(f"{path}: expected another name for each file to write")


def _read_scores(options: argparse.Namespace) -> tuple[ScoreKind, np.ndarray]:
    """The segmentation, and which argument of `refine` it is."""
    path = options.segmentation
    if path.suffix.lower() != ".npy":
        return "logits", _logits_of_labels(read_mask(path), options)
    return "logits" if options.logits else "probabilities", read_scores(path)


def _logits_of_labels(labels: np.ndarray, options: argparse.Namespace) -> np.ndarray:
    path = options.segmentation
    known = labels if options.unknown is None else labels[labels != options.unknown]
    if not known.size:
        raise InputError(f"{path}: expected labels, got unknown alone")
    highest = int(known.max())
    if highest == 255 and options.labels is None:
        raise InputError(
            f"{path}: expected labels, got 255, which mostly stands for none; say "
            "--unknown 255, or if it is one, --labels 256"
        )
    number = highest + 1 if options.labels is None else options.labels
    if not 0 <= known.min() <= highest < number:
        raise InputError(
            f"{path}: expected labels below --labels {number} or that of --unknown, "
            f"got {known.min()}..{highest}"
        )
    check_at_least("number of labels", number, 2)
    confidence = 0.7 if options.confidence is None else options.confidence
    return np.asarray(
        unary_from_labels(labels, confidence, number, unknown=options.unknown)
    )


def _refine(
    options: argparse.Namespace,
    image: np.ndarray,
    kind: ScoreKind,
    scores: np.ndarray,
) -> np.ndarray:
    if options.crf is None:
        try:
            return refine(image, **{kind: scores}, **_given(options))
        except InputError as error:
            files = f"{options.image}, {options.segmentation}"
            raise InputError(f"{files}: {error}") from error
    layer, variables = load_crf(options.crf)
    logits = as_logits(options.segmentation, kind, scores)
    expected = (*image.shape[:2], layer.num_labels)
    if logits.shape != expected:
        raise InputError(
            f"{options.segmentation}: expected scores of the image's pixels and of the "
            f"labels of {options.crf}, {list(expected)}, got shape {list(logits.shape)}"
        )
    refined = jax.jit(layer.apply)(variables, image[None], logits[None])[0]
    marginals = np.asarray(jax.nn.softmax(refined))
    if not np.isfinite(marginals).all():
        raise InputError(f"{options.crf}: expected a CRF of finite results, got NaN")
    return marginals


def _write(
    options: argparse.Namespace,
    image: np.ndarray,
    scores: np.ndarray,
    refined: np.ndarray,
) -> None:
    before, after = scores.argmax(-1), refined.argmax(-1)
    is_drawn = (
        options.overlay or options.before_after or options.out.suffix.lower() == ".png"
    )
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
