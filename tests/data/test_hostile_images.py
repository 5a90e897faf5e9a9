"""Images and masks of every unlucky kind: each is read, or refused with its name."""

import io
import os
import re
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from small_networks import save_checkpoint

from crfrnn_jax import predict
from crfrnn_jax.data.folder import open_folder, read_image, read_mask

# Smooth, so that what JPEG and palettes lose is little.
PIXELS = np.stack(np.broadcast_arrays(np.arange(16)[:, None] * 9, 60, 200), -1)
PIXELS = np.ascontiguousarray(np.broadcast_to(PIXELS, (16, 32, 3)), np.uint8)
TURN = Image.Exif()
TURN[0x0112] = 6  # to be shown after a quarter turn clockwise


def encoded(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def picture(mode="RGB", form="png", **options):
    image = Image.fromarray(PIXELS).convert(mode, palette=Image.Palette.ADAPTIVE)
    return encoded(image, form, **options)


def chunk(kind, body):
    check = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + check


def claims(width, height):
    """A PNG of these sides by its header, of a few bytes."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def animated(form):
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:])


def flat(width, height):
    return encoded(Image.new("RGB", (width, height), (3, 60, 200)), "png")


# Files that are read, by their names: their bytes, and the shape.
READ = {
    "plain.png": (picture(), (16, 32)),
    "wrong suffix.jpg": (picture(), (16, 32)),
    "one pixel.png": (flat(1, 1), (1, 1)),
    "tall.png": (flat(1, 20_000), (20_000, 1)),
    "wide.png": (flat(20_000, 1), (1, 20_000)),
    "sixteen bits.png": (
        encoded(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), "png"),
        (16, 32),
    ),
    "cmyk.jpg": (picture("CMYK", "jpeg"), (16, 32)),
    "cmyk.tif": (picture("CMYK", "tiff"), (16, 32)),
    "palette.png": (picture("P"), (16, 32)),
    "alpha.png": (picture("RGBA"), (16, 32)),
    "grey and alpha.png": (picture("LA"), (16, 32)),
    "animated.gif": (animated("gif"), (16, 32)),
    "animated.webp": (animated("webp"), (16, 32)),
    "animated.png": (animated("png"), (16, 32)),
    "turned.jpg": (picture(form="jpeg", exif=TURN), (32, 16)),
    "turned.png": (picture(exif=TURN), (32, 16)),
    "Straße, 名前 & co.png": (picture(), (16, 32)),
    os.fsdecode(b"not utf-8 \xff\xfe.png"): (picture(), (16, 32)),
}
# And those that are refused: their bytes, and why.
REFUSED = {
    "empty.png": (b"", "expected a readable image"),
    "truncated.png": (picture()[:-40], "expected a readable image"),
    "truncated.jpg": (picture(form="jpeg")[:-40], "expected a readable image"),
    "text.png": (b"no image at all", "expected a readable image"),
    "pdf.png": (b"%PDF-1.7\n", "expected a readable image"),
    "floats.tif": (
        encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "tiff"),
        "expected 8 or 16 bits a channel, got floats",
    ),
    "postscript.png": (picture(form="eps"), "readable image, got: a file of no"),
    "bomb.png": (claims(100_000, 100_000), "pixels, .* got 100000 x 100000"),
    "small bomb.png": (claims(20_000, 10_000), "pixels, .* got 20000 x 10000"),
    "long bomb.png": (claims(200_000, 1), "sides of at most 131072 pixels, got 200000"),
    os.fsdecode(b"truncated \xff.png"): (picture()[:-40], "expected a readable image"),
}


def put(folder, name, data):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", READ, ids=ascii)
def test_images_that_are_read(tmp_path, name):
    data, shape = READ[name]
    pixels = read_image(put(tmp_path, name, data))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*shape, 3)
    if shape in ((16, 32), (32, 16)):
        expected = PIXELS if shape == (16, 32) else np.rot90(PIXELS, -1)
        if name.startswith("sixteen"):
            expected = expected[..., :1]
        if name.startswith("grey"):
            expected = np.asarray(Image.fromarray(PIXELS).convert("L"))[..., None]
        difference = np.abs(pixels.astype(int) - expected)
        # What JPEG and WebP lose, and 256 colours.
        lossy = name.endswith(("jpg", "webp"))
        assert difference.max() <= (12 if lossy else 3)


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_images_that_are_refused(tmp_path, name):
    data, message = REFUSED[name]
    path = put(tmp_path, name, data)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*{message}"):
        read_image(path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: "):
        read_mask(path)


def test_a_hundred_megapixels_are_read_without_a_warning(tmp_path):
    limit = Image.MAX_IMAGE_PIXELS
    path = put(tmp_path, "a.png", encoded(Image.new("L", (10_000, 10_000), 7), "png"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = read_mask(path)
    assert mask.shape == (10_000, 10_000)
    assert (mask[::999, ::999] == 7).all()
    # The process's own limit is nobody's business but its owner's.
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_batch_goes_on_with_the_rest(tmp_path, capsys):
    checkpoint, _, _ = save_checkpoint(tmp_path, "plain")
    folder, out = tmp_path / "images", tmp_path / "out"
    # Predictions are named after stems.
    files = {f"{i} {name}": one[0] for i, (name, one) in enumerate(READ.items())}
    broken = {
        f"{i} {name}": one[0] for i, (name, one) in enumerate(REFUSED.items(), 50)
    }
    for name, data in {**files, **broken}.items():
        put(folder, name, data)
    usage = [str(folder), "--weights", str(checkpoint), "--out", str(out)]
    assert predict.main(usage) == 1
    captured = capsys.readouterr()
    assert f"{len(files)} of {len(files) + len(broken)} images" in captured.out
    for name in broken:
        shown = name.encode(errors="backslashreplace").decode()
        assert f"{folder / shown}: expected" in captured.err
    made = sorted(path.stem for path in (out / "labels").iterdir())
    assert made == sorted(name.rpartition(".")[0] for name in files)
    for (name, (_, shape)), new in zip(READ.items(), files, strict=True):
        with Image.open(out / "labels" / f"{new.rpartition('.')[0]}.png") as labels:
            assert (labels.height, labels.width) == shape, name


def test_a_console_shows_names_that_are_no_text(tmp_path):
    """The name is escaped, and the program ends as it would have."""
    checkpoint, _, _ = save_checkpoint(tmp_path, "plain")
    out = os.fsdecode(bytes(tmp_path) + b"/out \xff")
    for name, data in (("ok", picture()), ("broken", picture()[:-40])):
        put(tmp_path / "images", os.fsdecode(name.encode() + b" \xfe.png"), data)
    command = [sys.executable, "-m", "crfrnn_jax.predict", tmp_path / "images"]
    command += ["--weights", checkpoint, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert r"1 of 2 images: " in done.stdout
    assert r"out \udcff" in done.stdout
    assert r"broken \udcfe.png: expected a readable image" in done.stderr
    assert os.listdir(os.path.join(out, "labels")) == [os.fsdecode(b"ok \xfe.png")]


MASK = np.arange(512, dtype=np.uint8).reshape(16, 32) % 5


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (picture(), "expected class indices as palette or grey .* mode RGB"),
        (picture("RGBA"), "expected class indices as palette or grey .* mode RGBA"),
        (picture("CMYK", "tiff"), "expected class indices .* mode CMYK"),
        (encoded(Image.fromarray(MASK[1:]), "png"), r"expected the size of a\.png"),
        (
            encoded(Image.fromarray(MASK.T.copy()), "png"),
            r"expected the size of a\.png",
        ),
        (encoded(Image.fromarray(MASK + 1), "png"), r"labels below 5 or 255 .*\[5\]"),
        (
            encoded(Image.fromarray(MASK.astype(np.uint16) + 300), "png"),
            r"labels below 5 or 255 .*\[300, 301",
        ),
        (b"", "expected a readable image"),
        (encoded(Image.fromarray(MASK), "png")[:-30], "expected a readable image"),
        (claims(100_000, 100_000), "pixels, .* got 100000 x 100000"),
    ],
)
def test_masks_that_are_refused(tmp_path, mask, message):
    for split in ("train", "val"):
        put(tmp_path / split / "images", "a.png", picture())
        put(tmp_path / split / "labels", "a.png", encoded(Image.fromarray(MASK), "png"))
    open_folder(tmp_path, 5, 255)
    path = put(tmp_path / "val" / "labels", "a.png", mask)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*{message}"):
        open_folder(tmp_path, 5, 255)
