"""The command that predicts images with a network's weights."""

from functools import partial

import numpy as np
import pytest
from PIL import Image
from small_networks import SIZES, pixels_of, save_checkpoint, save_image, save_network

from crfrnn_jax import predict
from crfrnn_jax.data import voc_test_images
from crfrnn_jax.training.networks import load_network

VOC_LABELS = 21


def run_main(*arguments):
    return predict.main([str(argument) for argument in arguments])


def test_the_command_predicts_a_folder_with_a_checkpoint(tmp_path, capsys):
    checkpoint, _, _ = save_checkpoint(tmp_path, "end_to_end")
    for i, sides in enumerate([(17, 30), (32, 11)]):
        save_image(tmp_path / f"images/{i}.png", *sides)
    out = tmp_path / "out"
    usage = [tmp_path / "images", "--weights", checkpoint, "--out", out]
    assert run_main(*usage, "--probabilities", "--iterations", 1) == 0
    assert f"2 of 2 images: {out}" in capsys.readouterr().out
    assert pixels_of(out / "labels/0.png")[1].shape == (17, 30)
    assert pixels_of(out / "overlays/1.png")[1].shape == (32, 11, 3)
    assert np.load(out / "probabilities/1.npy").shape == (32, 11, 5)

    with pytest.raises(SystemExit, match=r"labels/0.png: expected no such file"):
        run_main(*usage)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"--out: expected a folder, got the file"):
        run_main(*usage[:-1], tmp_path / "file")
    (tmp_path / "images/2.png").write_bytes(b"broken")
    assert run_main(*usage, "--force") == 1
    captured = capsys.readouterr()
    assert "2 of 3 images" in captured.out
    assert "images/2.png: expected a readable image" in captured.err
    assert "no prediction for 2.png" in captured.err


def test_the_command_predicts_by_tiles(tmp_path):
    checkpoint, _, _ = save_checkpoint(tmp_path, "end_to_end")
    save_image(tmp_path / "a.png", 17, 50)
    out = tmp_path / "out"
    usage = [tmp_path / "a.png", "--weights", checkpoint, "--out", out]
    with pytest.raises(SystemExit, match=r"tile: expected more than .* 512 pixels"):
        run_main(*usage, "--tile", 512)
    with pytest.raises(SystemExit, match=r"--tile: .*to 500 pixels; --input modern"):
        run_main(*usage, "--tile", 32, "--input", "published")
    tiles = ["--tile", 32, "--overlap", 4]
    assert run_main(*usage, *tiles, "--probabilities", "--iterations", 1) == 0
    labels = pixels_of(out / "labels/a.png")[1]
    probabilities = np.load(out / "probabilities/a.npy")
    np.testing.assert_array_equal(probabilities.argmax(-1), labels)
    # To the network the left tile is an image of its own: of 32, and 25 are kept.
    with Image.open(tmp_path / "a.png") as image:
        image.crop((0, 0, 32, 17)).save(tmp_path / "b.png")
    usage[0] = tmp_path / "b.png"
    assert run_main(*usage, "--iterations", 1) == 0
    np.testing.assert_array_equal(
        pixels_of(out / "labels/b.png")[1][:, :25], labels[:, :25]
    )


@pytest.fixture
def made_up_devkit(tmp_path, monkeypatch):
    """VOC's tree with three test images, and networks smaller than VGG-16."""
    root = tmp_path / "VOCdevkit/VOC2012"
    names = ("2008_000001", "2008_000004", "2008_000006")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    listed = root / "ImageSets/Segmentation/test.txt"
    listed.write_text("".join(f"{name}\n" for name in names))
    for name in names:
        save_image(root / f"JPEGImages/{name}.jpg", 20, 30)
    monkeypatch.setattr(predict, "voc_test_images", partial(voc_test_images, count=0))
    monkeypatch.setattr(predict, "load_network", partial(load_network, sizes=SIZES))
    return root


@pytest.mark.parametrize("comp", ["comp5", "comp6"])
def test_the_test_servers_tree(made_up_devkit, tmp_path, comp):
    weights, out = tmp_path / "w.npz", tmp_path / "out"
    save_network(weights, "fcn32s-caffe", labels=VOC_LABELS, stride=32)
    usage = ["--voc-test", tmp_path, "--weights", weights, "--out", out]
    assert run_main(*usage, "--comp", comp) == 0
    folder = out / f"results/VOC2012/Segmentation/{comp}_test_cls"
    made = sorted(path for path in out.rglob("*") if path.is_file())
    names = ("2008_000001", "2008_000004", "2008_000006")
    assert made == [folder / f"{name}.png" for name in names]
    for path in made:
        mode, labels = pixels_of(path)
        assert (mode, labels.shape) == ("P", (20, 30))
        assert labels.max() < VOC_LABELS


def test_a_missing_test_image_is_no_success(made_up_devkit, tmp_path, capsys):
    weights = tmp_path / "w.npz"
    save_network(weights, "fcn32s-caffe", labels=VOC_LABELS, stride=32)
    (made_up_devkit / "JPEGImages/2008_000004.jpg").write_bytes(b"broken")
    usage = ["--voc-test", tmp_path, "--weights", weights, "--out", tmp_path / "out"]
    assert run_main(*usage) == 1
    assert "no prediction for 2008_000004.jpg" in capsys.readouterr().err

    save_image(made_up_devkit / "JPEGImages/2008_000004.jpg", 20, 30)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*_test_cls/*")}
    assert run_main(*usage, "--missing") == 0
    assert "1 of 1 images" in capsys.readouterr().out
    for path, when in made.items():
        assert path.stat().st_mtime_ns == when
    assert len([*tmp_path.rglob("*_test_cls/*")]) == len(made) + 1
    assert run_main(*usage, "--missing") == 0
    assert "no image is missing" in capsys.readouterr().out


def test_the_test_server_wants_vocs_labels(made_up_devkit, tmp_path):
    weights = tmp_path / "w.npz"
    save_network(weights, "fcn32s-caffe", labels=4, stride=32)
    with pytest.raises(SystemExit, match=r"expected a network for VOC's 21 .* for 4"):
        run_main(
            *("--voc-test", tmp_path, "--weights", weights, "--out", tmp_path / "out")
        )


@pytest.mark.parametrize(
    "usage",
    [
        (),
        ("a.png", "--out", "o"),
        ("--weights", "w", "--out", "o"),
        ("a.png", "--voc-test", "v", "--weights", "w", "--out", "o"),
        ("--voc-test", "v", "--probabilities", "--weights", "w", "--out", "o"),
        ("a.png", "--input", "old", "--weights", "w", "--out", "o"),
        ("a.png", "--comp", "comp5", "--weights", "w", "--out", "o"),
        ("a.png", "--force", "--missing", "--weights", "w", "--out", "o"),
        ("a.png", "--overlap", "4", "--weights", "w", "--out", "o"),
    ],
)
def test_wrong_usage_is_status_2(usage, capsys):
    with pytest.raises(SystemExit) as end:
        run_main(*usage)
    assert end.value.code == 2
    assert "usage: python -m crfrnn_jax.predict" in capsys.readouterr().err
