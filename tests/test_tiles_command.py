"""The command that refines, on images that it takes in tiles."""

import re
import warnings

import numpy as np
import pytest
from PIL import Image

from crfrnn_jax import refine, unary_from_labels
from crfrnn_jax.crf_file import save_crf
from crfrnn_jax.data import decoding
from crfrnn_jax.layers import CRFRNN, fresh_variables
from crfrnn_jax.refine.__main__ import main

RNG = np.random.default_rng(0)
HEIGHT, WIDTH, LABELS = 12, 90, 3
IMAGE = RNG.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
MASK = RNG.integers(0, LABELS, (HEIGHT, WIDTH)).astype(np.uint8)
LOGITS = RNG.normal(size=(HEIGHT, WIDTH, LABELS)).astype(np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
# Within the overlap is all that reaches a pixel: twice 6 widths, as the Gaussian of the
# messages and that of their sums end there in float32.
WIDTHS = {"theta_alpha": 1.0, "theta_beta": 60.0, "theta_gamma": 0.9}
OPTIONS = {**WIDTHS, "method": "exact", "num_iterations": 1}
FLAGS = ["--theta-alpha=1", "--theta-beta=60", "--theta-gamma=0.9"]
FLAGS += ["--method=exact", "--iterations=1"]
TILES = ["--tile=35", "--overlap=12"]


@pytest.fixture
def files(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    Image.fromarray(MASK).save(tmp_path / "labels.png")
    np.save(tmp_path / "probabilities.npy", PROBABILITIES)
    np.save(tmp_path / "logits.npy", LOGITS.astype(">f8"))
    return tmp_path


def run(files, segmentation, *flags):
    return main([str(files / "photo.png"), str(files / segmentation), *flags])


@pytest.mark.parametrize(
    ("segmentation", "flags", "scores"),
    [
        ("probabilities.npy", [], {"probabilities": PROBABILITIES}),
        ("logits.npy", ["--logits"], {"logits": LOGITS}),
        (
            "labels.png",
            ["--confidence=0.6"],
            {"logits": unary_from_labels(MASK, 0.6, LABELS)},
        ),
    ],
)
def test_tiles_become_the_whole(files, segmentation, flags, scores, capsys):
    flags = [*flags, *FLAGS, *TILES]
    array, picture = files / "new" / "out.npy", files / "out.png"
    assert run(files, segmentation, "--out", str(array), *flags) == 0
    flags += ["--before-after", str(files / "both.png")]
    assert run(files, segmentation, "--out", str(picture), *flags) == 0
    whole = refine(IMAGE, **scores, **OPTIONS)
    np.testing.assert_allclose(np.load(array), whole, atol=1e-5)
    with Image.open(picture) as labels:
        np.testing.assert_array_equal(labels, whole.argmax(-1))
    before = next(iter(scores.values())).argmax(-1)
    changed = 100 * (before != whole.argmax(-1)).mean()
    assert capsys.readouterr().out.count(f"{changed:.2f} % of the pixels") == 2
    # Neither file is left under the name that it had before it was whole.
    assert len([*files.rglob("*.partial"), *files.rglob(".*")]) == 0


@pytest.mark.parametrize("segmentation", ["probabilities.npy", "labels.png"])
def test_a_fitted_crf_goes_by_tiles(files, segmentation):
    layer = CRFRNN(LABELS, num_iterations=1, method="exact", **WIDTHS)
    save_crf(files / "crf.npz", layer, fresh_variables(layer))
    flags = ["--crf", str(files / "crf.npz")]
    whole, tiled = files / "whole.npy", files / "tiled.npy"
    assert run(files, segmentation, *flags, "--out", str(whole)) == 0
    assert run(files, segmentation, *flags, *TILES, "--out", str(tiled)) == 0
    np.testing.assert_allclose(np.load(tiled), np.load(whole), atol=1e-5)


@pytest.mark.parametrize("learn_widths", [False, True])
def test_the_overlap_of_a_fitted_crf_is_of_its_widths(files, learn_widths, capsys):
    layer = CRFRNN(LABELS, theta_alpha=5.3, learn_widths=learn_widths)
    save_crf(files / "crf.npz", layer, fresh_variables(layer))
    flags = [
        "--crf",
        str(files / "crf.npz"),
        "--tile=22",
        "--out",
        str(files / "o.npy"),
    ]
    assert run(files, "probabilities.npy", *flags) == 1
    assert "more than twice the overlap, 22 pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("segmentation", "flags", "message"),
    [
        ("probabilities.npy", ["--tile=24"], "tile: .*overlap, 24 pixels, got 24"),
        ("probabilities.npy", ["--tile=30"], "tile: expected more than twice"),
        ("nan.npy", ["--tile=35"], "nan.npy: probabilities: expected finite numbers"),
        ("cut.npy", ["--tile=35"], "cut.npy: expected an array of numpy's, got: "),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_no_file(
    files, segmentation, flags, message, capsys
):
    probabilities = PROBABILITIES.copy()
    probabilities[-1, -1] = np.nan
    np.save(files / "nan.npy", probabilities)
    (files / "cut.npy").write_bytes((files / "nan.npy").read_bytes()[:-4])
    before = sorted(files.iterdir())
    overlap = [] if flags == ["--tile=30"] else ["--overlap=12"]  # else that of 80
    flags = [*flags, *overlap, "--out", str(files / "out.npy")]
    assert run(files, segmentation, *flags) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert sorted(files.iterdir()) == before


def test_an_overlap_without_a_tile_is_wrong_usage(files, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(files, "labels.png", "--out=out.png", "--overlap=3")
    assert stopped.value.code == 2
    assert "--overlap: only with --tile" in capsys.readouterr().err


@pytest.mark.parametrize(("most", "status"), [(1080, 0), (1079, 1)])
def test_large_images_are_taken_and_bombs_are_not(
    files, most, status, capsys, monkeypatch
):
    """Of 1080 pixels: our limit counts, and neither of Pillow's, of a warning."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    monkeypatch.setattr(decoding, "MOST_PIXELS", most)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flags = ["--out", str(files / "out.png"), *FLAGS]
        assert run(files, "labels.png", *flags) == status
    error = capsys.readouterr().err
    expected = (
        f"photo.png: expected an image of at most {most} pixels" if status else ""
    )
    assert expected in error
    assert bool(error) == bool(expected)
