"""Files of images to files of predictions, by small networks of each kind."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import shapes
from crfrnn_jax import predict
from crfrnn_jax.data import voc_test_images
from crfrnn_jax.evaluation.files import (
    Target,
    check_free,
    find_images,
    predict_files,
    targets_by_stem,
)
from crfrnn_jax.evaluation.pictures import overlay, save_labels
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.models import VGGFCN, Segmenter, build_segmenter
from crfrnn_jax.models.vgg import MEAN_BGR
from crfrnn_jax.training.checkpoints import StageCheckpoints
from crfrnn_jax.training.initial import flat_names
from crfrnn_jax.training.networks import load_network
from crfrnn_jax.training.steps import TrainState
from crfrnn_jax.weights import save_weights
from crfrnn_jax.weights.layers import Sizes

SIZES = Sizes(widths=(4, 4, 6, 6, 8), hidden=10)
VOC_LABELS = 21
COLOURS = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 255: (224, 224, 192)}


def random_params(model, seed=0):
    """Parameters of a model: a score that starts at zero would like no label better."""
    images = np.zeros((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    rng = np.random.default_rng(seed)

    def draw(leaf):
        return rng.normal(0, 0.1, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, shapes)


def save_network(path, layout, *, labels=3, stride=8, change=lambda tensors: None):
    """A small network as `crfrnn_jax.weights convert` would write it."""
    crf = CRFRNN(labels) if layout.startswith("crfrnn") else None
    backbone = VGGFCN(labels, stride, widths=SIZES.widths, hidden=SIZES.hidden)
    model = Segmenter(backbone, crf)
    params = random_params(model)
    tensors = {name: np.asarray(leaf) for name, leaf in flat_names(params).items()}
    change(tensors)
    save_weights(path, tensors, {"layout": layout, "labels": labels})
    return model, params


def save_checkpoint(workdir, stage, **crf):
    """A checkpoint as a run of the default config, shrunk, would write it."""
    config = shapes.get_config()
    config.model.update(widths=(8, 8), blocks=(0, 0), num_skips=1)
    config.crf.update(method="exact", **crf)
    config.eval.update(num_iterations=3, multiple_of=16)
    model = build_segmenter(config, 5)
    params = random_params(model)
    state = TrainState(params, {}, jax.random.key(0), jnp.asarray(7))
    checkpoints = StageCheckpoints(workdir, stage)
    meta = {"config": config.to_dict(), "stage": stage, "data": ""}
    checkpoints.save(state, meta | {"class_names": [str(i) for i in range(5)]})
    checkpoints.close()
    return workdir / "checkpoints" / stage / "7", model, params


def save_image(path, height=21, width=34):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([height, width])
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def by_brightness(image):
    """Logits of labels 0, 1 and 2 that follow an image's channels."""
    return jnp.asarray(image, jnp.float32) / 10


def pixels_of(path):
    with Image.open(path) as picture:
        return picture.mode, np.asarray(picture)


def test_labels_are_indices_in_vocs_colours(tmp_path):
    labels = np.array([list(COLOURS)] * 2)
    save_labels(tmp_path / "new" / "labels.png", labels)
    mode, indices = pixels_of(tmp_path / "new" / "labels.png")
    assert mode == "P"
    np.testing.assert_array_equal(indices, labels)
    with Image.open(tmp_path / "new" / "labels.png") as picture:
        colours = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(colours[0], list(COLOURS.values()))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["labels.png"]


def test_labels_that_no_palette_has_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(
        ValueError, match=r"wide.png: expected labels in 0..255.*0..256"
    ):
        save_labels(tmp_path / "wide.png", np.array([[0, 256]]))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_can_not_be_written_whole_leaves_the_one_before(
    tmp_path, monkeypatch
):
    path = tmp_path / "labels.png"
    save_labels(path, np.array([[1]]))
    before = path.read_bytes()

    def fail(self, file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_labels(path, np.array([[2]]))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_overlay_lies_between_the_image_and_the_colours():
    image = np.array([[[10, 20, 30], [200, 100, 0]]], np.uint8)
    labels = np.array([[1, 15]])
    np.testing.assert_array_equal(overlay(image, labels, 0.0), image)
    np.testing.assert_array_equal(
        overlay(image, labels, 1.0)[0], [COLOURS[1], COLOURS[15]]
    )
    half = overlay(image, labels)
    np.testing.assert_array_equal(half, [[[69, 10, 15], [196, 114, 64]]])


def test_a_folder_stands_for_its_images_in_order(tmp_path):
    for name in ("b.png", "a.JPG", "c.tif", "deeper/d.png", ".hidden.png"):
        save_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "paper.pdf").write_text("Pillow only writes these")
    names = [path.name for path in find_images([tmp_path, Path("e.png")])]
    assert names == ["a.JPG", "b.png", "c.tif", "e.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty: expected images, got none"):
        find_images([tmp_path / "empty"])


def test_two_images_of_one_stem_are_refused():
    with pytest.raises(ValueError, match=r"y/a.jpg: expected one .* got x/a.png too"):
        targets_by_stem([Path("x/a.png"), Path("y/a.jpg")], Path("out"))


def test_files_that_are_there_are_refused(tmp_path):
    targets = targets_by_stem([Path("a.png"), Path("b.png")], tmp_path)
    check_free(targets)
    save_image(tmp_path / "labels" / "b.png")
    with pytest.raises(
        ValueError, match=r"labels/b.png: expected no such file.*--force"
    ):
        check_free(targets)


def test_predictions_are_the_networks_at_the_images_size(tmp_path):
    image = save_image(tmp_path / "a.png", 13, 29)
    targets = targets_by_stem([tmp_path / "a.png"], tmp_path / "o", probabilities=True)
    assert predict_files(by_brightness, targets, report=pytest.fail) == []
    mode, labels = pixels_of(tmp_path / "o/labels/a.png")
    assert (mode, labels.shape) == ("P", (13, 29))
    np.testing.assert_array_equal(labels, image.argmax(-1))
    probabilities = np.load(tmp_path / "o/probabilities/a.npy")
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (13, 29, 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(-1), labels)
    blended = pixels_of(tmp_path / "o/overlays/a.png")[1]
    np.testing.assert_array_equal(blended, overlay(image, labels))


def test_photographs_are_turned_and_the_test_servers_are_not(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    for turn, shape in ((True, (6, 4)), (False, (4, 6))):
        target = Target(tmp_path / "a.jpg", tmp_path / "labels.png")
        predict_files(by_brightness, [target], turn=turn, report=pytest.fail)
        assert pixels_of(target.labels)[1].shape == shape


def test_images_that_can_not_be_predicted_are_reported_and_skipped(tmp_path):
    save_image(tmp_path / "good.png", 8, 8)
    save_image(tmp_path / "nan.png", 5, 5)
    (tmp_path / "broken.png").write_bytes(b"no image at all")

    def logits_of(image):
        logits = by_brightness(image)
        return jnp.full_like(logits, jnp.nan) if len(image) == 5 else logits

    images = [*find_images([tmp_path]), tmp_path / "absent.png"]
    reports = []
    targets = targets_by_stem(images, tmp_path / "out", probabilities=True)
    skipped = predict_files(logits_of, targets, report=reports.append)
    assert [t.image.name for t in skipped] == ["broken.png", "nan.png", "absent.png"]
    for target, message in zip(skipped, reports, strict=True):
        assert message.startswith(str(target.image))
    made = [p.name for p in sorted((tmp_path / "out").rglob("*.*"))]
    assert made == ["good.png", "good.png", "good.npy"]


@pytest.mark.parametrize(
    ("layout", "form", "canvas", "multiple_of"),
    [
        ("crfrnn-pytorch", None, 500, 1),
        ("crfrnn-caffe", "published", 500, 1),
        ("crfrnn-keras", "modern", 0, 64),
        ("fcn8s-pytorch", None, 0, 1),
        ("fcn8s-atonce-caffe", "modern", 0, 64),
    ],
)
def test_weights_come_with_the_input_of_their_authors(
    tmp_path, layout, form, canvas, multiple_of
):
    save_network(tmp_path / "w.npz", layout)
    network = load_network(tmp_path / "w.npz", form=form, sizes=SIZES)
    assert network.model.canvas == canvas
    assert network.multiple_of == multiple_of
    assert network.num_labels == 3
    assert network.num_iterations == 10
    assert (network.model.crf is not None) == layout.startswith("crfrnn")


def test_weights_without_a_crf_predict_alone(tmp_path):
    model, params = save_network(tmp_path / "w.npz", "fcn16s-caffe", stride=16)
    image = save_image(tmp_path / "a.png")
    logits_of = load_network(tmp_path / "w.npz", sizes=SIZES).logits_of()
    expected = jax.jit(model.apply)({"params": params}, image[None])[0]
    np.testing.assert_allclose(logits_of(image), expected, rtol=1e-4, atol=1e-4)


def test_weights_with_a_crf_are_refined_by_it(tmp_path):
    model, params = save_network(tmp_path / "w.npz", "crfrnn-pytorch")
    image = save_image(tmp_path / "a.png", 64, 64)  # modern, and nothing to be padded
    network = load_network(
        tmp_path / "w.npz", form="modern", num_iterations=2, sizes=SIZES
    )
    assert network.model == model
    # The exact filters compile in a second, the lattice in ten.
    model = model.clone(crf=CRFRNN(3, method="exact"))
    logits_of = network._replace(model=model).logits_of()

    def score(module, images):
        return module.refine(images, module.unary(images), num_iterations=2)

    apply = jax.jit(partial(model.apply, method=score))
    expected = apply({"params": params}, image[None])[0]
    np.testing.assert_allclose(logits_of(image), expected, rtol=1e-4, atol=1e-4)


def test_weights_that_are_not_whole_are_listed(tmp_path):
    def change(tensors):
        del tensors["backbone/fc7/bias"], tensors["crf/compatibility"]
        tensors["backbone/conv1_1/kernel"] = np.zeros((3, 3, 3, 5), np.float32)
        tensors["backbone/fc8/bias"] = np.zeros(2, np.float32)

    save_network(tmp_path / "w.npz", "crfrnn-pytorch", change=change)
    with pytest.raises(ValueError, match=r"w.npz: expected the param") as error:
        load_network(tmp_path / "w.npz", sizes=SIZES)
    for fault in (
        "missing: backbone/fc7/bias, crf/compatibility;",
        "another shape: backbone/conv1_1/kernel (expected [3, 3, 3, 4], got "
        "[3, 3, 3, 5]);",
        "left over: backbone/fc8/bias",
    ):
        assert fault in str(error.value)


def test_weights_that_score_nothing_are_refused(tmp_path):
    tensors = {"backbone/conv1_1/bias": np.zeros(64, np.float32)}
    meta = {"layout": "vgg16-torchvision", "labels": None}
    save_weights(tmp_path / "vgg.npz", tensors, meta)
    with pytest.raises(ValueError, match=r"vgg.npz: .*got those of vgg16-torchvision"):
        load_network(tmp_path / "vgg.npz")
    with pytest.raises(FileNotFoundError, match=r"absent.npz: .* or a checkpoint's fo"):
        load_network(tmp_path / "absent.npz")
    save_weights(tmp_path / "own.npz", tensors, {})
    with pytest.raises(ValueError, match=r"own.npz: .* none with layout and labels; "):
        load_network(tmp_path / "own.npz")


def test_a_checkpoint_comes_with_its_config(tmp_path):
    path, model, params = save_checkpoint(tmp_path, "end_to_end")
    network = load_network(path)
    assert network.num_labels == 5
    assert network.num_iterations == 3
    assert (network.model.canvas, network.multiple_of) == (0, 16)
    assert load_network(path, form="published").model.canvas == 500
    assert load_network(path, form="modern").multiple_of == 64
    image = save_image(tmp_path / "a.png", 16, 16)

    def score(module, images):
        return module.refine(images, module.unary(images), num_iterations=3)

    expected = jax.jit(partial(model.apply, method=score))(
        {"params": params}, image[None]
    )[0]
    np.testing.assert_allclose(
        network.logits_of()(image), expected, rtol=1e-4, atol=1e-4
    )


def test_a_checkpoint_that_was_trained_without_the_crf_predicts_without(tmp_path):
    path, _, _ = save_checkpoint(tmp_path, "plain")
    assert load_network(path).model.crf is None


def test_published_input_is_the_authors_canvas(tmp_path):
    path, model, params = save_checkpoint(tmp_path, "plain")
    image = save_image(tmp_path / "a.png", 300, 500)  # of the canvas's longer side
    logits = load_network(path, form="published").logits_of()(image)
    canvas = np.full((500, 500, 3), MEAN_BGR[::-1], np.float32)
    canvas[:300] = image
    apply = jax.jit(partial(model.apply, method="unary"))
    expected = apply({"params": params}, canvas[None])[0, :300]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    # Where the network sees what is padded, it matters of which colour that is.
    modern = load_network(path, form="modern").logits_of()(image)
    assert modern.shape == logits.shape
    assert np.abs(modern - logits)[-8:].max() > 1e-3


def test_iterations_that_the_crf_can_not_have_are_refused_before_any_image(tmp_path):
    path, _, _ = save_checkpoint(tmp_path, "end_to_end", share_parameters=False)
    with pytest.raises(ValueError, match=r"num_iterations: expected the layer's"):
        load_network(path)
    load_network(path, num_iterations=5)


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
    (tmp_path / "images/2.png").write_bytes(b"broken")
    assert run_main(*usage, "--force") == 1
    captured = capsys.readouterr()
    assert "2 of 3 images" in captured.out
    assert "images/2.png: expected a readable image" in captured.err
    assert "no prediction for 2.png" in captured.err


@pytest.fixture
def made_up_devkit(tmp_path, monkeypatch):
    """VOC's tree with three test images, and networks smaller than VGG-16."""
    root = tmp_path / "VOCdevkit/VOC2012"
    names = ("2008_000001", "2008_000004", "2008_000006")
    for folder in ("SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
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
    ],
)
def test_wrong_usage_is_status_2(usage, capsys):
    with pytest.raises(SystemExit) as end:
        run_main(*usage)
    assert end.value.code == 2
    assert "usage: python -m crfrnn_jax.predict" in capsys.readouterr().err
