"""`python -m crfrnn_jax.refine IMAGE SEGMENTATION --out FILE`: one image, refined.

SEGMENTATION is an .npy of probabilities [height, width, labels], or a grey or palette
image of labels. See docs/refine.md.
"""

import argparse
import inspect
import math
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np

from crfrnn_jax.checks import InputError, check_at_least
from crfrnn_jax.crf_file import SavedCRF, load_crf
from crfrnn_jax.data.folder import read_image, read_mask
from crfrnn_jax.data.scores import ScoreKind, read_scores
from crfrnn_jax.evaluation.pictures import (
    save_before_after,
    save_labels,
    save_overlay,
)
from crfrnn_jax.kernels import KERNEL_NORMALISATIONS, METHODS
from crfrnn_jax.refine import refine
from crfrnn_jax.refine.inputs import Inputs, check_values
from crfrnn_jax.refine.parts import LabelScores, Results
from crfrnn_jax.tiles import crf_overlap, plan_tiles
from crfrnn_jax.unaries import logits_from_probabilities
from crfrnn_jax.writing import print_any_name, writing_array

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
        _check_drawable(options, scores)
        with _open_array(options, scores) as array:
            results = Results(scores, array)
            _refine(options, image, kind, scores, results)
        _write(options, image, results)
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
    add("--tile", help="side of parts, of very large images", **_WHOLE)
    add("--overlap", help="pixels around a part (default: two widths)", **_WHOLE)
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
    if options.overlap is not None and options.tile is None:
        parser.error("--overlap: only with --tile")
    is_array = _is_array(options.segmentation)
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


def _read_scores(
    options: argparse.Namespace,
) -> tuple[ScoreKind, np.ndarray | LabelScores]:
    """The segmentation, and which argument of `refine` it is."""
    path = options.segmentation
    if not _is_array(path):
        return "logits", _scores_of_labels(read_mask(path), options)
    kind = "logits" if options.logits else "probabilities"
    return kind, read_scores(path, mapped=True)


def _scores_of_labels(labels: np.ndarray, options: argparse.Namespace) -> LabelScores:
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
    return LabelScores(labels, confidence, number, options.unknown)


def _check_drawable(options: argparse.Namespace, scores: Any) -> None:
    is_drawn = options.overlay or options.before_after or not _is_array(options.out)
    if is_drawn and scores.shape[-1] > 256:
        raise InputError(
            f"{options.segmentation}: expected at most 256 labels, as a picture has, "
            f"got {scores.shape[-1]}; --out FILE.npy alone takes more"
        )


def _is_array(path: Path) -> bool:
    return path.suffix.lower() == ".npy"


def _open_array(
    options: argparse.Namespace, scores: Any
) -> AbstractContextManager[np.ndarray | None]:
    """The .npy to fill, if that is wanted."""
    if not _is_array(options.out):
        return nullcontext()
    return writing_array(options.out, tuple(scores.shape))


def _refine(
    options: argparse.Namespace,
    image: np.ndarray,
    kind: ScoreKind,
    scores: Any,
    results: Results,
) -> None:
    if options.crf is not None:
        _refine_by_file(options, Inputs(kind, scores, image), results)
        return
    tiling = {"tile": options.tile, "overlap": options.overlap}
    try:
        refine(image, **{kind: scores}, **_given(options), **tiling, out=results)
    except InputError as error:
        files = f"{options.image}, {options.segmentation}"
        raise InputError(f"{files}: {error}") from error


def _refine_by_file(
    options: argparse.Namespace, inputs: Inputs, results: Results
) -> None:
    crf = load_crf(options.crf)
    expected = (*inputs.image.shape[:2], crf.layer.num_labels)
    if results.shape != expected:
        raise InputError(
            f"{options.segmentation}: expected scores of the image's pixels and of the "
            f"labels of {options.crf}, {list(expected)}, got shape "
            f"{list(results.shape)}"
        )
    tiles = plan_tiles(inputs.sides, options.tile, _overlap_of(options, crf))
    try:
        check_values(inputs, tiles, 255.0)
    except InputError as error:
        raise InputError(f"{options.segmentation}: {error}") from error
    refined = jax.jit(crf.layer.apply)
    for tile in tiles:
        image, scores, _ = inputs.read(tile.window)
        if inputs.name == "probabilities":
            scores = np.asarray(logits_from_probabilities(scores))
        batch = image[None], scores[None].astype(np.float32)
        origin = np.array(tile.origin, np.float32)
        logits = refined(crf.variables, *batch, origin=origin)[0]
        marginals = np.asarray(jax.nn.softmax(logits))
        if not np.isfinite(marginals).all():
            raise InputError(
                f"{options.crf}: expected a CRF of finite results, got NaN"
            )
        results[tile.kept] = marginals[tile.inner]


def _overlap_of(options: argparse.Namespace, crf: SavedCRF) -> int:
    if options.tile is None or options.overlap is not None:
        return options.overlap or 0
    names, learned = ("theta_alpha", "theta_gamma"), crf.variables["params"]
    theta_alpha, theta_gamma = (
        math.exp(learned[f"log_{name}"])
        if crf.layer.learn_widths
        else getattr(crf.layer, name)
        for name in names
    )
    return crf_overlap(theta_alpha, theta_gamma)


def _write(options: argparse.Namespace, image: np.ndarray, results: Results) -> None:
    if not _is_array(options.out):
        save_labels(options.out, results.after)
    if options.overlay is not None:
        save_overlay(options.overlay, image, results.after)
    if options.before_after is not None:
        save_before_after(options.before_after, image, results.before, results.after)
    changed = 100 * (results.before != results.after).mean()
    print(f"{changed:.2f} % of the pixels have another label: {options.out}")


if __name__ == "__main__":
    sys.exit(main())
