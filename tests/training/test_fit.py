"""fit.py as a user runs it: from folders of images, labels and scores to a CRF."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.fit import get_config
from crfrnn_jax import InputError
from crfrnn_jax.crf_file import load_crf
from crfrnn_jax.fitting import fit_crf
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.refine.__main__ import main as refine_main
from crfrnn_jax.training.fit import fit, format_fit

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH, LABELS = 10, 12, 3
PIXELS = HEIGHT * WIDTH


def scene(seed, shape=(HEIGHT, WIDTH)):
    """Three stripes, and scores that know little of them."""
    rng = np.random.default_rng(seed)
    label = np.broadcast_to(np.arange(shape[1]) * LABELS // shape[1], shape)
    image = label[..., None] * 80 + rng.integers(0, 9, (*shape, 3))
    logits = np.eye(LABELS)[label] + rng.normal(size=(*shape, LABELS)) * 1.5
    return image.astype(np.uint8), label.astype(np.uint8), logits.astype(np.float32)


def place(folder, shapes, scores="probabilities"):
    """Two images a split, of the sizes given for those of train."""
    for split in ("train", "val"):
        for kind in ("images", "labels", scores):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            shape = shapes[number] if split == "train" else (HEIGHT, WIDTH)
            image, label, logits = scene(10 * number + (split == "val"), shape)
            stem = f"{split}{number}"
            Image.fromarray(image).save(folder / split / "images" / f"{stem}.png")
            label[0, 0] = 255
            Image.fromarray(label).save(folder / split / "labels" / f"{stem}.png")
            array = logits
            if scores == "probabilities":
                array = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
            np.save(folder / split / scores / f"{stem}.npy", array)
    return folder


def config_of(folder, scores="probabilities"):
    config = get_config()
    config.data.update(dir=str(folder), scores_dir=str(folder), scores=scores)
    config.crf.update(theta_alpha=3.0, theta_beta=60.0, theta_gamma=1.5)
    config.crf.update(num_iterations=2, method="exact")
    config.fit.steps = 3
    return config


SAME = ((HEIGHT, WIDTH),) * 2


@pytest.mark.parametrize("scores", ["probabilities", "logits"])
def test_the_file_holds_what_fit_crf_finds(tmp_path, scores):
    config = config_of(place(tmp_path, SAME, scores), scores)
    result = fit(config, tmp_path / "crf.npz")
    images, labels, logits = (
        np.stack(arrays) for arrays in zip(scene(0), scene(10), strict=True)
    )
    labels[:, 0, 0] = 255
    layer = CRFRNN(LABELS, **config.crf)
    wanted = fit_crf(layer, images, logits, labels, steps=3)
    saved = load_crf(tmp_path / "crf.npz")
    assert saved.layer == layer
    # Logits out of float32 probabilities differ by their rounding, which L-BFGS's line
    # searches pass on.
    np.testing.assert_allclose(result.losses, wanted.losses, rtol=1e-4)
    for name, value in wanted.variables["params"].items():
        got = saved.variables["params"][name]
        np.testing.assert_allclose(got, value, rtol=1e-2, atol=1e-3)


def test_scores_are_of_both_splits(tmp_path):
    config = config_of(place(tmp_path, SAME))
    result = fit(config, tmp_path / "crf.npz")
    assert result.losses[-1] < result.losses[0]
    for network, start, fitted in result.mean_ious.values():
        assert network < start <= fitted <= 1
    _, label, logits = scene(1)
    _, _, other = scene(11)
    predicted = np.stack([logits, other]).argmax(-1)
    counted = np.ones((2, HEIGHT, WIDTH), bool)
    counted[:, 0, 0] = False
    ious = [
        (counted & (predicted == k) & (label == k)).sum()
        / (counted & ((predicted == k) | (label == k))).sum()
        for k in range(LABELS)
    ]
    np.testing.assert_allclose(result.mean_ious["val"][0], np.mean(ious))
    first, header, *rows = format_fit(result).splitlines()
    assert f"{result.losses[0]:.4g} at the start" in first
    assert [row.split()[0] for row in rows] == ["train", "val"]
    ends = [header.index(name) + len(name) for name in ("alone", "set up", "fitted")]
    assert [row[end - 3] for row in rows for end in ends] == ["."] * 6


def test_images_of_several_sizes_are_padded_and_padding_does_not_count(tmp_path):
    one = config_of(place(tmp_path / "one", SAME))
    one.fit.train_images = 1
    alone = fit(one, tmp_path / "one.npz")
    both = config_of(place(tmp_path / "both", ((HEIGHT, WIDTH), (HEIGHT + 2, 9))))
    both.fit.train_images = 1  # the other is left out, the val images are smaller
    padded = fit(both, tmp_path / "both.npz")
    np.testing.assert_allclose(padded.losses, alone.losses, rtol=1e-5)
    both.fit.train_images = 2
    result = fit(both, tmp_path / "two.npz")
    assert np.isfinite(result.losses).all()
    np.testing.assert_allclose(
        result.mean_ious["val"][:2], padded.mean_ious["val"][:2], rtol=1e-6
    )


def put(path, array):
    """A function that puts an array in a file's place."""
    return lambda folder: np.save(folder / path, array)


def put_mask(path, value):
    mask = Image.fromarray(np.full((HEIGHT, WIDTH), value, np.uint8))
    return lambda folder: mask.save(folder / path)


def remove(pattern):
    return lambda folder: [path.unlink() for path in folder.glob(pattern)]


TRAIN = "train/probabilities/train1.npy"
SHAPE = (HEIGHT, WIDTH, LABELS)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            put("val/probabilities/val1.npy", np.ones((HEIGHT, 3, LABELS))),
            r"val1\.npy: expected shape \[10, 12, 3\].*got \[10, 3, 3\]",
        ),
        (put(TRAIN, np.ones((HEIGHT, WIDTH, 2))), r"train1.* got \[10, 12, 2\]"),
        (put(TRAIN, np.full(SHAPE, 0.9)), r"train1\.npy: probabilities: .* up to 1"),
        (put(TRAIN, np.full(SHAPE, np.nan)), r"train1\.npy: expected finite numbers"),
        (put(TRAIN, np.full(SHAPE, 1e300)), r"train1\.npy: expected finite numbers"),
        (put(TRAIN, np.ones(SHAPE, int)), r"train1\.npy: expected floats, got int64"),
        (remove("val/*/val0.npy"), r"val0\.npy: expected an \.npy of scores, got none"),
        (remove("train/*/*.npy"), r"train/probabilities: expected an \.npy for each"),
        (put_mask("train/labels/train1.png", 7), r"train1\.png: expected labels below"),
    ],
)
def test_a_file_that_is_wrong_is_named_and_nothing_written(tmp_path, spoil, message):
    spoil(place(tmp_path, SAME))
    with pytest.raises((InputError, FileNotFoundError), match=message):
        fit(config_of(tmp_path), tmp_path / "crf.npz")
    assert not (tmp_path / "crf.npz").exists()


def test_a_file_without_an_image_does_not_count(tmp_path):
    place(tmp_path, SAME)
    np.save(tmp_path / "train/probabilities/a.npy", np.ones((HEIGHT, WIDTH, 5)) / 5)
    fit(config_of(tmp_path), tmp_path / "crf.npz")
    assert load_crf(tmp_path / "crf.npz").layer.num_labels == LABELS


def test_scores_of_the_other_byte_order(tmp_path):
    for path in place(tmp_path, SAME).glob("*/probabilities/*.npy"):
        np.save(path, np.load(path).astype(">f4"))
    assert np.isfinite(fit(config_of(tmp_path), tmp_path / "crf.npz").losses).all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.dir", "", r"config\.data\.dir: expected a folder"),
        ("data.scores_dir", "", r"config\.data\.scores_dir: expected a folder"),
        ("data.scores", "guess", r"config\.data\.scores: expected one of"),
        ("fit.train_images", 0, r"config\.fit\.train_images: expected"),
        ("fit.objective", "luck", r"objective: expected one of"),
        ("fit.steps", 0, r"steps: expected"),
        ("fit.frozen", ("backbone",), r"frozen: expected one of"),
        ("crf.theta_beta", -1.0, r"theta_beta: expected"),
        ("crf.num_labels", 3, r"config\.crf\.num_labels: expected a key that is known"),
        ("crf.colour", 3, r"config\.crf\.colour: expected a key that is known"),
    ],
)
def test_a_key_that_is_wrong_is_named(tmp_path, key, value, message):
    config = config_of(place(tmp_path, SAME))
    section, name = key.split(".")
    with config[section].unlocked():
        config[section][name] = value
    with pytest.raises(InputError, match=message):
        fit(config, tmp_path / "crf.npz")


def test_the_command_and_what_refine_makes_of_its_file(tmp_path):
    place(tmp_path, SAME)
    out = tmp_path / "crf.npz"
    command = [sys.executable, "fit.py", "--config=configs/fit.py", f"--out={out}"]
    command += [f"--config.data.dir={tmp_path}", "--config.crf.num_iterations=1"]
    command += [f"--config.data.scores_dir={tmp_path}", "--config.crf.method=exact"]
    command += ["--config.crf.theta_beta=60.0", "--config.fit.steps=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"The CRF: {out}\n")
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 1
    assert again.stderr == f"fit.py: {out}: expected no such file, got one; " + (
        "--force, or force=True, replaces it\n"
    )

    files = [tmp_path / "val" / kind for kind in ("images", "probabilities")]
    files = [str(files[0] / "val0.png"), str(files[1] / "val0.npy")]
    refined = tmp_path / "refined.npy"
    assert refine_main([*files, "--crf", str(out), "--out", str(refined)]) == 0
    image, _, logits = scene(1)
    layer, variables = load_crf(out)
    wanted = layer.apply(variables, image[None], logits[None])[0]
    wanted = np.exp(wanted) / np.exp(wanted).sum(-1, keepdims=True)
    np.testing.assert_allclose(np.load(refined), wanted, atol=1e-5)
