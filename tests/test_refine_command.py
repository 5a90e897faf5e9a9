"""The command that refines files: what it writes, and what it says of wrong ones."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from crfrnn_jax import refine, unary_from_labels
from crfrnn_jax.crf_file import save_crf
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.refine.__main__ import main

RNG = np.random.default_rng(0)
HEIGHT, WIDTH, LABELS = 8, 10, 3
# Two halves, and labels that miss their border by a pixel or two.
IMAGE = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
IMAGE[:, 5:] = 200
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[:, 7:] = 2
PROBABILITIES = np.full((HEIGHT, WIDTH, LABELS), 0.1, np.float32)
PROBABILITIES[MASK == 0, 0] = PROBABILITIES[MASK == 2, 2] = 0.8


@pytest.fixture
def files(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "photo.png")
    Image.fromarray(MASK).save(tmp_path / "labels.png")
    np.save(tmp_path / "probabilities.npy", PROBABILITIES)
    np.save(tmp_path / "logits.npy", np.log(PROBABILITIES))
    return tmp_path


def run(files, segmentation, *flags):
    return main([str(files / "photo.png"), str(files / segmentation), *flags])


@pytest.mark.parametrize(
    ("segmentation", "flags"),
    [("probabilities.npy", []), ("logits.npy", ["--logits"])],
)
def test_arrays_become_labels_and_arrays(files, segmentation, flags):
    out = files / "new" / "out.png"
    assert run(files, segmentation, "--out", str(out), *flags) == 0
    again = files / "out.npy"
    assert run(files, segmentation, "--out", str(again), *flags) == 0
    truth = refine(IMAGE, probabilities=PROBABILITIES)
    np.testing.assert_allclose(np.load(again), truth, atol=1e-5)
    with Image.open(out) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(picture, truth.argmax(-1))


def test_labels_are_trusted_to_a_degree_and_flags_are_refines(files):
    flags = [
        "--confidence=0.6",
        "--theta-alpha=9",
        "--theta-beta=20",
        "--theta-gamma=2",
    ]
    flags += ["--bilateral-weight=4", "--spatial-weight=1", "--iterations=3"]
    flags += ["--normalisation=after", "--method=exact"]
    out = files / "out.npy"
    assert run(files, "labels.png", "--out", str(out), *flags) == 0
    truth = refine(
        IMAGE,
        logits=unary_from_labels(MASK, 0.6, 3),
        theta_alpha=9,
        theta_beta=20,
        theta_gamma=2,
        bilateral_weight=4,
        spatial_weight=1,
        num_iterations=3,
        normalisation="after",
        method="exact",
    )
    np.testing.assert_allclose(np.load(out), truth, atol=1e-5)


def test_unknown_pixels_are_filled(files):
    scribbles = np.full((HEIGHT, WIDTH), 255, np.uint8)
    scribbles[2, 1:3], scribbles[5, 7:9] = 0, 1
    Image.fromarray(scribbles).save(files / "scribbles.png")
    out = files / "out.png"
    flags = ["--out", str(out), "--unknown=255", "--confidence=0.95"]
    assert run(files, "scribbles.png", *flags, "--labels=2") == 0
    with Image.open(out) as picture:
        np.testing.assert_array_equal(np.array(picture), (IMAGE[..., 0] > 100) * 1)


def test_pictures_are_written(files):
    flags = ["--out", str(files / "out.png"), "--overlay", str(files / "over.png")]
    flags += ["--before-after", str(files / "both.png")]
    assert run(files, "probabilities.npy", *flags) == 0
    with Image.open(files / "over.png") as over, Image.open(files / "both.png") as both:
        assert both.size == (2 * WIDTH + 4, HEIGHT)
        np.testing.assert_array_equal(np.array(both)[:, WIDTH + 4 :], np.array(over))
        assert (np.array(both)[:, :WIDTH] != np.array(over)).any()


def test_files_that_are_there_are_kept_unless_forced(files, capsys):
    out = files / "out.png"
    out.write_text("mine")
    assert run(files, "labels.png", "--out", str(out)) == 1
    assert out.read_text() == "mine"
    assert "--force replaces it" in capsys.readouterr().err
    assert run(files, "labels.png", "--out", str(out), "--force") == 0
    assert "other label" in capsys.readouterr().out.replace("another", "other")


@pytest.mark.parametrize(
    ("image", "segmentation", "flags", "message"),
    [
        ("absent.png", "labels.png", [], "absent.png: expected a readable image"),
        ("photo.png", "absent.npy", [], "absent.npy"),
        ("photo.png", "absent.png", [], "absent.png: expected a readable image"),
        ("photo.png", "broken.npy", [], "broken.npy: expected an array of numpy's"),
        ("photo.png", "empty.npy", [], "empty.npy: expected an array of numpy's"),
        ("photo.png", "many.npy", [], "many.npy: expected at most 256 labels"),
        ("photo.png", "labels.png", ["--overlay=OUT"], "expected another name"),
        ("photo.png", "pickled.npy", [], "pickled.npy: expected an array of numpy's"),
        (
            "photo.png",
            "small.npy",
            [],
            "photo.png, .*small.npy: image: expected .*shape",
        ),
        ("photo.png", "logits.npy", [], "give them as logits"),
        ("photo.png", "photo.png", [], "photo.png: expected class indices"),
        (
            "photo.png",
            "labels.png",
            ["--labels=2"],
            "labels.png: expected labels below --labels 2 .*0..2",
        ),
        ("photo.png", "void.png", [], "void.png: .*got 255, .*--unknown 255"),
        (
            "photo.png",
            "labels.png",
            ["--confidence=1"],
            "confidence: expected at least",
        ),
        ("photo.png", "labels.png", ["--theta-alpha=0"], "theta_alpha: expected a pos"),
        ("photo.png", "zeros.png", [], "number of labels: expected at least 2, got 1"),
        ("photo.png", "zeros.png", ["--unknown=0"], "expected labels, got unknown"),
    ],
)
def test_what_is_wrong_is_one_line(files, capsys, image, segmentation, flags, message):
    (files / "broken.npy").write_bytes(b"\x93NUMPY\x01")
    np.save(files / "pickled.npy", np.array([print], object), allow_pickle=True)
    np.save(files / "small.npy", PROBABILITIES[1:])
    Image.fromarray(0 * MASK).save(files / "zeros.png")
    Image.fromarray(np.where(MASK == 2, 255, MASK)).save(files / "void.png")
    (files / "empty.npy").write_bytes(b"")
    np.save(files / "many.npy", np.full((HEIGHT, WIDTH, 257), 1 / 257, np.float32))
    out = files / "out.png"
    flags = [flag.replace("OUT", str(out)) for flag in flags]
    paths = [str(files / image), str(files / segmentation)]
    assert main([*paths, "--out", str(out), *flags]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert not out.exists()


@pytest.mark.parametrize(
    ("crf", "segmentation", "message"),
    [
        ("absent.npz", "labels.png", "absent.npz: expected a file of weights"),
        (
            "photo.png",
            "labels.png",
            "photo.png: expected a file that this package wrote",
        ),
        ("crf.npz", "small.npy", r"small.npy: expected scores .*\[8, 10, 3\]"),
        ("crf.npz", "two.npy", r"two.npy: .*crf.npz, \[8, 10, 3\], got .*8, 10, 2"),
        ("crf.npz", "logits.npy", "logits.npy: probabilities: expected numbers in"),
    ],
)
def test_a_fitted_crf_that_does_not_fit(files, capsys, crf, segmentation, message):
    layer = CRFRNN(LABELS)
    batch = IMAGE[None], PROBABILITIES[None]
    save_crf(files / "crf.npz", layer, layer.init(jax.random.key(0), *batch))
    np.save(files / "small.npy", PROBABILITIES[1:])
    np.save(files / "two.npy", np.full((HEIGHT, WIDTH, 2), 0.5))
    flags = ["--crf", str(files / crf), "--out", str(files / "out.png")]
    assert run(files, segmentation, *flags) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert not (files / "out.png").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--out=out.png", "--crf=crf.npz", "--theta-alpha=3"],
        ["--out=out.jpg"],
        ["--out=out.png", "--overlay=over.npy"],
        ["--out=out.png", "--logits"],
        [],
    ],
)
def test_wrong_usage_is_status_2(files, flags):
    with pytest.raises(SystemExit) as stopped:
        run(files, "labels.png", *flags)
    assert stopped.value.code == 2


@pytest.mark.parametrize("flag", ["--confidence=0.9", "--unknown=255", "--labels=3"])
def test_flags_of_labels_are_not_of_arrays(files, flag, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(files, "probabilities.npy", "--out=out.png", flag)
    assert stopped.value.code == 2
    assert "only of an image of labels" in capsys.readouterr().err


def test_it_runs_as_a_module(files, monkeypatch):
    # Without the tests' cache, of whose programs some versions of JAX have much to say.
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    command = [sys.executable, "-m", "crfrnn_jax.refine", "photo.png", "labels.png"]
    done = subprocess.run(
        [*command, "--out", "out.png"],
        cwd=files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (files / "out.png").exists()
