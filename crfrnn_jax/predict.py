"""Predicts images with published weights or a checkpoint of a run.

python -m crfrnn_jax.predict IMAGE... --weights FILE --out DIR
python -m crfrnn_jax.predict --voc-test FOLDER --weights FILE --out DIR

See docs/predict.md.
"""

import argparse
import sys
from pathlib import Path

from crfrnn_jax.checks import InputError
from crfrnn_jax.data import voc_test_images
from crfrnn_jax.data.voc import CLASS_NAMES
from crfrnn_jax.evaluation.files import (
    Target,
    check_free,
    find_images,
    predict_files,
    targets_by_stem,
    without_labels,
)
from crfrnn_jax.evaluation.tiling import WHOLE, Tiling
from crfrnn_jax.tiles import check_tiling
from crfrnn_jax.training.console import errors_in_one_line, set_up_console
from crfrnn_jax.training.networks import INPUTS, Network, load_network
from crfrnn_jax.writing import check_folder

_PROGRAM = "python -m crfrnn_jax.predict"
# What FCN-8s sees around a pixel, 202, and more than a width of the authors' CRF, 160.
_OVERLAP = 256


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
      arguments: what follows the program's name; `sys.argv`'s unless given.

    Returns:
      The exit status: 0, or 1 if an image could not be predicted.

    Raises:
      SystemExit: of status 2 if the usage is wrong, of 1 with a line that says why if
        anything else is, before the first image.
    """
    options = _parse(arguments)
    set_up_console()
    with errors_in_one_line(_PROGRAM):
        check_folder("--out", options.out)
        targets = _targets(options)
        if options.missing:
            targets = without_labels(targets)
        elif not options.force:
            check_free(targets)
        if not targets:
            print(f"no image is missing: {options.out}")
            return 0
        network = load_network(
            options.weights,
            form=options.input,
            num_iterations=options.iterations,
            backbone=options.backbone,
        )
        if options.voc_test:
            _check_voc(options.weights, network)
        tiling = _tiling(options, network)
        skipped = predict_files(
            network.logits_of(),
            targets,
            # VOC's masks are drawn on the pixels as they are stored.
            turn=not options.voc_test,
            tiling=tiling,
            report=lambda message: print(message, file=sys.stderr),
        )
    print(f"{len(targets) - len(skipped)} of {len(targets)} images: {options.out}")
    if skipped:
        names = ", ".join(target.image.name for target in skipped)
        print(f"{_PROGRAM}: no prediction for {names}", file=sys.stderr)
    return 1 if skipped else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=_PROGRAM)
    add = parser.add_argument
    add(
        "images",
        nargs="*",
        type=Path,
        metavar="IMAGE",
        help="an image, or a folder of images",
    )
    add(
        "--weights",
        type=Path,
        required=True,
        metavar="FILE",
        help="an .npz by crfrnn_jax.weights, or a checkpoint's folder of a run",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="where files go")
    add(
        "--input",
        choices=INPUTS,
        help="as the authors (the default for published weights), or any size",
    )
    add(
        "--backbone",
        metavar="MODULE:CLASS",
        help="of a checkpoint's network that is not one of this package's: imported, "
        "and so run",
    )
    add("--iterations", type=int, metavar="N", help="of the CRF; by default 10")
    add("--probabilities", action="store_true", help="write them as .npy, too")
    add("--tile", type=int, metavar="N", help="side of parts, of very large images")
    add(
        "--overlap",
        type=int,
        metavar="M",
        help=f"pixels around a part that are seen with it (default: {_OVERLAP})",
    )
    there = parser.add_mutually_exclusive_group()
    there.add_argument(
        "--force", action="store_true", help="replace files that are there"
    )
    there.add_argument(
        "--missing",
        action="store_true",
        help="predict only the images whose labels are not there",
    )
    add(
        "--voc-test",
        type=Path,
        metavar="FOLDER",
        help="holds VOC's devkit: predict its test images for the test server",
    )
    add(
        "--comp",
        choices=("comp5", "comp6"),
        help="with --voc-test: trained on VOC's data alone, or on any (the default)",
    )
    options = parser.parse_args(arguments)
    if bool(options.images) == bool(options.voc_test):
        parser.error("expected images or --voc-test, one of the two")
    if options.comp and not options.voc_test:
        parser.error("--comp: only with --voc-test, whose tree it names")
    if options.overlap is not None and options.tile is None:
        parser.error("--overlap: only with --tile")
    if options.voc_test and options.probabilities:
        parser.error("--probabilities: not with --voc-test, whose tree has none")
    return options


def _targets(options: argparse.Namespace) -> list[Target]:
    if not options.voc_test:
        images = find_images(options.images)
        return targets_by_stem(images, options.out, probabilities=options.probabilities)
    # The tree that the test server wants, of palette PNGs alone.
    comp = options.comp or "comp6"
    folder = options.out / "results/VOC2012/Segmentation" / f"{comp}_test_cls"
    return [
        Target(image, folder / f"{name}.png")
        for name, image in voc_test_images(options.voc_test)
    ]


def _tiling(options: argparse.Namespace, network: Network) -> Tiling:
    if options.tile is None:
        return WHOLE
    if network.model.canvas:
        raise InputError(
            f"--tile: expected a network that takes images of any size, got one that "
            f"scales them to {network.model.canvas} pixels; --input modern takes any"
        )
    overlap = _OVERLAP if options.overlap is None else options.overlap
    check_tiling(options.tile, overlap)
    return Tiling(options.tile, overlap)


def _check_voc(path: Path, network: Network) -> None:
    if network.num_labels != len(CLASS_NAMES):
        raise InputError(
            f"{path}: expected a network for VOC's {len(CLASS_NAMES)} labels, got one "
            f"for {network.num_labels}"
        )


if __name__ == "__main__":
    sys.exit(main())
