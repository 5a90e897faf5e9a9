import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crfrnn_jax.data.folder import open_folder, read_image, read_mask

CAMVID = Path(__file__).parents[2] / "../shared/data/camvid"
LABEL = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
PIXELS = np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / split / kind).mkdir(parents=True)
        for stem in ("b", "a"):
            save(tmp_path / split / "images" / f"{stem}.png", PIXELS)
            save(tmp_path / split / "labels" / f"{stem}.png", LABEL)
    return tmp_path


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)


def fails(folder, error, path, *words, num_labels=3, ignore_label=255):
    """Asserts that the check stops with an error that names the path and the words."""
    with pytest.raises(error) as caught:
        open_folder(folder, num_labels, ignore_label)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_examples_come_in_the_order_of_their_stems(folder):
    (folder / "train/images/notes.txt").write_text("not an image")
    splits = open_folder(folder, 3, 255)
    assert {split: len(source) for split, source in splits.items()} == {
        "train": 2,
        "val": 2,
    }
    assert [splits["train"][i]["name"] for i in range(2)] == ["a", "b"]
    example = splits["val"][1]
    assert example["image"].dtype == np.uint8
    assert example["label"].dtype == np.int32
    np.testing.assert_array_equal(example["image"], PIXELS)
    np.testing.assert_array_equal(example["label"], LABEL)


def test_missing_split(folder):
    (folder / "val").rename(folder / "validation")
    fails(folder, FileNotFoundError, folder / "val", "expected a folder")


def test_no_images(folder):
    for path in (folder / "val/images").iterdir():
        path.unlink()
    fails(folder, FileNotFoundError, folder / "val/images", "expected images, got none")


@pytest.mark.parametrize(
    ("kept", "removed"), [("images", "labels"), ("labels", "images")]
)
def test_file_without_partner(folder, kept, removed):
    (folder / "train" / removed / "b.png").unlink()
    fails(
        folder, FileNotFoundError, folder / f"train/{kept}/b.png", removed, "got none"
    )


def test_two_images_of_one_stem(folder):
    save(folder / "train/images/a.bmp", PIXELS)
    fails(
        folder, ValueError, folder / "train/images/a.png", "one file per stem", "a.bmp"
    )


def test_mask_of_another_size(folder):
    path = folder / "val/labels/a.png"
    save(path, LABEL.T.copy())
    fails(folder, ValueError, path, "expected the size of a.png, [3, 4], got [4, 3]")


def test_label_out_of_range(folder):
    path = folder / "train/labels/b.png"
    save(path, LABEL + np.uint8([[0], [0], [1]]))
    fails(folder, ValueError, path, "below 3 or 255", "[3] in 2 pixels")


def test_ignore_label_is_no_error_and_no_class(folder):
    save(folder / "train/labels/a.png", np.full_like(LABEL, 77))
    source = open_folder(folder, 3, 77)["train"]
    assert (source[0]["label"] == 77).all()
    fails(folder, ValueError, "config.data.ignore_label", "got 2", ignore_label=2)


def test_rgb_mask(folder):
    path = folder / "val/labels/b.png"
    save(path, PIXELS)
    fails(folder, ValueError, path, "expected class indices", "mode RGB")


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_truncated_file(folder, kind):
    path = folder / "train" / kind / "a.png"
    path.write_bytes(path.read_bytes()[:-30])
    fails(folder, ValueError, path, "expected a readable image")


def test_file_that_is_no_image(folder):
    path = folder / "train/images/a.png"
    path.write_text("hello")
    fails(folder, ValueError, path, "expected a readable image")


def test_palette_mask_is_its_indices(tmp_path):
    mask = Image.fromarray(LABEL)
    mask.putpalette(
        [250, 0, 0, 0, 250, 0, 0, 0, 250]
    )  # whose greys would be 75, 147, 28
    assert mask.mode == "P"
    mask.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), LABEL)


def test_16_bit_mask_is_its_indices(tmp_path):
    save(tmp_path / "mask.png", LABEL.astype(np.uint16) + 300)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png") - 300, LABEL)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_packed_grey_mask_is_refused(tmp_path, bits):
    def chunk(kind, body):
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    path = tmp_path / "mask.png"  # one pixel of index 1, as Pillow would not write it
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, bits, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes([0, 1 << (8 - bits)])))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.* stored as "):
        read_mask(path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I"])
def test_images_of_any_mode_become_rgb(tmp_path, mode):
    path = tmp_path / ("image.tif" if mode in ("CMYK", "I") else "image.png")
    if mode.startswith("I"):
        dtype = np.uint16 if mode == "I;16" else np.int32
        image = Image.fromarray(np.full((3, 4), 200 * 257, dtype))
    else:
        image = Image.new("RGB", (4, 3), (200, 200, 200))
        image = image.convert(mode, dither=0, palette=Image.Palette.ADAPTIVE)
    assert image.mode == mode
    image.save(path)
    pixels = read_image(path)
    assert pixels.shape == (3, 4, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels, 255 if mode == "1" else 200, atol=3)


def test_float_image_is_refused(tmp_path):
    path = tmp_path / "image.tif"
    save(path, np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*floats"):
        read_image(path)


def test_exif_orientation_is_applied_to_images_and_masks(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    save(tmp_path / "image.png", PIXELS, exif=exif)
    save(tmp_path / "mask.png", LABEL, exif=exif)
    np.testing.assert_array_equal(
        read_image(tmp_path / "image.png"), np.rot90(PIXELS, -1)
    )
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), np.rot90(LABEL, -1))


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not here")
def test_camvid():
    splits = open_folder(CAMVID, 11, 11)
    assert [len(splits[split]) for split in ("train", "val")] == [367, 101]
    example = splits["train"][0]
    assert example["name"] == "0001TP_006690"
    assert example["image"].shape == (360, 480, 3)
    assert example["label"].shape == (360, 480)
