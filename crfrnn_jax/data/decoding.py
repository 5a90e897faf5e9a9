"""Files of images, which may be anybody's: which formats are read, and how large.

Pillow decides by a file's first bytes what it is, whatever its name says. All of its
formats are read but EPS, a program that Pillow would have Ghostscript run.
"""

import functools
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from crfrnn_jax.checks import InputError

# So many pixels take 0.8 GB as RGB. Pillow's own limit, of a third, holds for a whole
# process: its warning would be everybody's, or nobody's.
MOST_PIXELS = 2**28
# A few bytes can claim any size, and get it, as what is missing may be left black. Flat
# images have up to 8000 pixels a byte in PNG and 2700 in GIF.
_ALWAYS_FINE = 2**24
_MOST_PER_BYTE = 2**13
# Pillow takes a microsecond a row, whatever it holds.
_MOST_A_SIDE = 2**17


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read."""
    Image.init()
    return tuple(name for name in Image.ID if name != "EPS" and name in Image.OPEN)


@functools.cache
def readable_endings() -> frozenset[str]:
    """The endings of their files' names, ".png", in small letters."""
    formats = readable_formats()
    endings = Image.registered_extensions()  # also those that Pillow only writes
    return frozenset(ending for ending, name in endings.items() if name in formats)


@contextmanager
def opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """Opens an image that is not too large, of which the header alone is decoded.

    It may have `MOST_PIXELS`, a side of 2**17, and, above 2**24 pixels, 2**13 for each
    byte of the file.

    Raises:
      ValueError: naming the file, if it is larger, or anything goes wrong here or in
        the body of the `with`.
    """
    try:
        # From memory, where no more is read than there is: of a file, Pillow asks for
        # as many bytes as it claims, and Python makes room for them first.
        data = path.read_bytes()
        with _identify(io.BytesIO(data)) as image:
            _check_size(path, image.size, len(data))
            yield image
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen unrelated types
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: expected a readable image, got: {reason}") from error


def _check_size(path: Path, sides: tuple[int, int], stored: int) -> None:
    width, height = sides
    most = min(MOST_PIXELS, _ALWAYS_FINE + _MOST_PER_BYTE * stored)
    if width * height > most:
        raise InputError(
            f"{path}: expected an image of at most {most} pixels, for its {stored} "
            f"bytes, got {width} x {height}"
        )
    if max(sides) > _MOST_A_SIDE:
        raise InputError(
            f"{path}: expected sides of at most {_MOST_A_SIDE} pixels, got {width} x "
            f"{height}"
        )


def _identify(file: io.BytesIO) -> ImageFile.ImageFile:
    """As `Image.open`, without its limit of pixels."""
    head = file.read(16)
    for name in readable_formats():
        factory, accept = Image.OPEN[name]
        try:
            answer = accept is None or accept(head)
            # A text says why Pillow was built without the format.
            if answer and not isinstance(answer, str):
                file.seek(0)
                return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # of another format
    raise UnidentifiedImageError("a file of no format that is known")
