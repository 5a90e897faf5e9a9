"""Files of images to files of predictions, whole and by tiles."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from small_networks import pixels_of, random_params, save_image

from crfrnn_jax.evaluation.files import (
    Target,
    check_free,
    find_images,
    predict_files,
    targets_by_stem,
    without_labels,
)
from crfrnn_jax.evaluation.pictures import overlay, save_labels
from crfrnn_jax.evaluation.prediction import refined_of, unary_of
from crfrnn_jax.evaluation.tiling import Tiling
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.models import FCN, Segmenter

COLOURS = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 255: (224, 224, 192)}


def by_brightness(image, origin=(0, 0)):
    """Logits of labels 0, 1 and 2 that follow an image's channels."""
    return jnp.asarray(image, jnp.float32) / 10


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
    with pytest.raises(FileNotFoundError, match="empty: expected images directly in"):
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


def test_what_has_no_labels_is_still_to_be_predicted(tmp_path):
    for name in ("a.png", "b.png"):
        save_image(tmp_path / name, 8, 8)
    targets = targets_by_stem(find_images([tmp_path]), tmp_path / "out")
    predict_files(by_brightness, targets[:1], report=pytest.fail)
    assert without_labels(targets) == targets[1:]
    # Labels come last: an overlay alone is of an image that was not done.
    save_image(targets[1].overlay)
    assert without_labels(targets) == targets[1:]


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

    def logits_of(image, origin=(0, 0)):
        logits = by_brightness(image, origin)
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


def by_surroundings(image, origin=(0, 0)):
    """Logits that follow the means of 5 x 5 pixels, as far as the image has them."""
    image = jnp.asarray(image, jnp.float32)
    ones = jnp.ones((*image.shape[:2], 1))
    sums = jnp.concatenate([image, ones], -1)[None]
    sums = jax.lax.reduce_window(sums, 0.0, jax.lax.add, (1, 5, 5, 1), (1,) * 4, "SAME")
    return sums[0, ..., :-1] / sums[0, ..., -1:] / 10


def test_tiles_with_their_context_are_predicted_as_the_whole(tmp_path):
    save_image(tmp_path / "a.png", 41, 23)
    shapes = set()

    def logits_of(image, origin=(0, 0)):
        shapes.add(image.shape)
        return by_surroundings(image, origin)

    made = []
    for name, tiling in (("whole", Tiling(None, 0)), ("tiled", Tiling(17, 2))):
        targets = targets_by_stem(
            [tmp_path / "a.png"], tmp_path / name, probabilities=True
        )
        shapes.clear()
        assert (
            predict_files(logits_of, targets, tiling=tiling, report=pytest.fail) == []
        )
        assert shapes == {(17, 17, 3) if tiling.side else (41, 23, 3)}
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        assert [path.suffix for path in files] == [".png", ".png", ".npy"]
        made.append(files)
    for whole, tiled in zip(*made, strict=True):
        if whole.suffix == ".npy":
            np.testing.assert_allclose(np.load(tiled), np.load(whole), atol=1e-6)
        else:
            np.testing.assert_array_equal(pixels_of(tiled)[1], pixels_of(whole)[1])


def test_a_window_is_refined_with_the_lattice_of_the_whole():
    """Where its first pixel lies moves the vertices, and with them the result."""
    backbone = FCN(num_labels=3, widths=(8,), blocks=(0,), num_skips=1)
    model = Segmenter(backbone, CRFRNN(3, theta_alpha=9.0, theta_beta=150.0))
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    params = random_params(model)
    params["backbone"]["score_stride_2"]["kernel"] *= 50  # scores that differ
    params["crf"] = {
        "spatial_weights": np.eye(3, dtype=np.float32),
        "bilateral_weights": np.eye(3, dtype=np.float32),
        "compatibility": -np.eye(3, dtype=np.float32),
    }
    logits_of = refined_of(model, params, 2)
    logits = unary_of(model, params)(image)

    def expected(origin):
        return model.crf.apply(
            {"params": params["crf"]},
            image[None],
            logits[None],
            num_iterations=2,
            origin=np.array(origin, np.float32),
        )[0]

    for origin in ((0, 0), (3, 7)):
        np.testing.assert_allclose(
            logits_of(image, origin), expected(origin), rtol=1e-4, atol=1e-5
        )
    assert np.abs(logits_of(image) - logits_of(image, (3, 7))).max() > 1e-3


def test_a_tile_that_can_not_be_predicted_leaves_no_file(tmp_path):
    image = save_image(tmp_path / "a.png", 30, 20)

    def logits_of(window, origin=(0, 0)):
        logits = by_brightness(window, origin)
        is_last = (window[-1, -1] == image[-1, -1]).all()
        return jnp.full_like(logits, jnp.nan) if is_last else logits

    reports = []
    targets = targets_by_stem([tmp_path / "a.png"], tmp_path / "o", probabilities=True)
    predict_files(logits_of, targets, tiling=Tiling(8, 1), report=reports.append)
    (report,) = reports
    assert report.startswith(f"{tmp_path / 'a.png'}: ")
    assert [path for path in (tmp_path / "o").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("tiling", "sides"), [(Tiling(None, 0), "30 x 20"), (Tiling(25, 2), "25 x 20")]
)
def test_what_does_not_fit_into_memory_is_sent_to_tiles(tmp_path, tiling, sides):
    save_image(tmp_path / "a.png", 30, 20)

    def logits_of(image, origin=(0, 0)):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    reports = []
    targets = targets_by_stem([tmp_path / "a.png"], tmp_path / "o")
    predict_files(logits_of, targets, tiling=tiling, report=reports.append)
    assert f"a.png: {sides} pixels at once do not fit" in reports[0]
    assert "--tile takes them in parts" in reports[0]


def test_files_that_are_replaced_are_not_written_through_links(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("as it was")
    save_image(tmp_path / "a.png", 8, 8)
    (target,) = targets_by_stem([tmp_path / "a.png"], tmp_path / "o")
    for path in (target.labels, target.overlay):
        path.parent.mkdir(parents=True)
        path.symlink_to(outside)
    assert predict_files(by_brightness, [target], report=pytest.fail) == []
    assert outside.read_text() == "as it was"
    assert not target.labels.is_symlink()
    assert not target.overlay.is_symlink()
