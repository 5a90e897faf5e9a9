"""What is refined: an image and its scores, checked and read window by window."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from crfrnn_jax.checks import (
    InputError,
    check_floating,
    check_intensities,
    check_mask,
    check_real,
    check_same_shape,
)
from crfrnn_jax.refine.arrays import as_numpy, as_readable, check_picture, stand_in
from crfrnn_jax.tiles import Tile, Window
from crfrnn_jax.unaries import check_no_softmax, check_probabilities, is_softmax


class Inputs(NamedTuple):
    """An image or a batch, and its scores: arrays, or what gives arrays if indexed.

    Attributes:
      name: what the scores are, "probabilities" or "logits".
      scores: float [height, width, labels], or with the batch's axis before.
      image: [height, width, channels] or [height, width], with the same axes before.
      mask: bool [height, width], with the same axes before, or None.
    """

    name: str
    scores: Any
    image: Any
    mask: Any = None

    @property
    def points(self) -> tuple[int, ...]:
        """The shape without labels: [height, width], with the batch's before."""
        return tuple(self.scores.shape[:-1])

    @property
    def sides(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.points[-2:]
        return height, width

    def at(self, window: Window) -> tuple[slice, ...]:
        """The window's place in the arrays."""
        return (slice(None),) * (len(self.points) - 2) + window

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The image, with an axis of channels, the scores and the mask of a window."""
        at = self.at(window)
        scores = as_numpy(self.name, self.scores[at])
        image = as_numpy("image", self.image[at])
        if image.ndim < scores.ndim:
            image = image[..., None]
        mask = None if self.mask is None else as_numpy("mask", self.mask[at])
        return image, scores, mask


def check_inputs(name: str, scores: Any, image: Any, mask: Any) -> Inputs:
    """Checks shapes and dtypes.

    Raises:
      InputError: naming the argument.
    """
    scores = as_readable(name, scores)
    _check_scores(name, scores)
    check_picture("image", image)
    image = as_readable("image", image)
    _check_image(image, name, tuple(scores.shape))
    inputs = Inputs(name, scores, image)
    if mask is None:
        return inputs
    mask = as_readable("mask", mask)
    points = inputs.points
    axes = "batch height width" if len(points) == 3 else "height width"
    sizes: dict[str, int] = dict(zip(axes.split(), points, strict=True))
    check_mask("mask", stand_in(mask), axes, sizes)
    return inputs._replace(mask=mask)


def _check_scores(name: str, scores: Any) -> None:
    if scores.dtype.kind in "iu":
        raise InputError(
            f"{name}: expected floating-point values, got dtype {scores.dtype}; labels "
            "go through unary_from_labels"
        )
    check_floating(name, stand_in(scores))
    shape = list(scores.shape)
    if len(shape) not in (3, 4) or 0 in shape:
        raise InputError(
            f"{name}: expected shape [height, width, labels] or [batch, height, width, "
            f"labels], none of them 0, got {shape}"
        )
    if shape[-1] == 1:
        raise InputError(
            f"{name}: expected at least 2 labels, got {shape}; one "
            "probability p of an object are those of two labels, 1 - p and p, and one "
            "logit s those of 0 and s"
        )


def _check_image(image: Any, name: str, scores: tuple[int, ...]) -> None:
    """Raises InputError unless the image belongs to scores of this shape."""
    check_real("image", stand_in(image))
    points, shape = scores[:-1], tuple(image.shape)
    # Rather a picture of scribbles in colour than gray images that are 3 wide, and
    # rather PyTorch's order than so few rows with a label for each of many channels.
    is_color = len(shape) == 3 == len(points) and shape[-1] in (3, 4)
    is_channels_first = shape[-1:] == scores[-1:] and points[-2] <= 4 < scores[-1]
    with_channels = (*shape, 1) if len(shape) == len(points) else shape
    fits = with_channels[:-1] == points and with_channels[-1] > 0
    if fits and not is_color and not is_channels_first:
        return
    hint = "channels and labels come last, height before width"
    if fits and is_color:
        hint = "labels of one channel give scores [height, width, labels]"
    elif shape[:2] == points[1:]:
        hint = "image[None] is a batch of one, and so are the scores"
    raise InputError(
        f"image: expected [*{list(points)}, channels] or {list(points)}, as the {name} "
        f"have shape {list(scores)}, got shape {list(shape)}; {hint}"
    )


def check_out(out: Any, inputs: Inputs) -> None:
    """Raises InputError unless marginals can be written to it while inputs are read."""
    has_dtype = isinstance(getattr(out, "dtype", None), np.dtype)
    if not (has_dtype and hasattr(out, "__setitem__")) or isinstance(out, jax.Array):
        raise InputError(
            "out: expected an array of NumPy, or another that may be written to, got "
            f"{type(out).__name__}"
        )
    check_same_shape("out", stand_in(out), inputs.scores.shape, f"the {inputs.name}'")
    check_floating("out", stand_in(out))
    if not isinstance(out, np.ndarray):
        return
    if not out.flags.writeable:
        raise InputError("out: expected an array to write to, got a read-only one")
    read = inputs.scores, inputs.image, inputs.mask
    if any(isinstance(a, np.ndarray) and np.may_share_memory(out, a) for a in read):
        raise InputError(
            "out: expected other memory than what is read, since tiles overlap, got "
            "the same"
        )


def check_values(inputs: Inputs, tiles: Iterable[Tile], max_intensity: float) -> None:
    """Checks what the pixels that take part hold, each of them once.

    What holds of an image as a whole, such as its greatest intensity, need not hold of
    a dark tile of it.

    Raises:
      InputError: naming the argument.
    """
    extremes, softmaxes = [], []
    for tile in tiles:
        image, scores, mask = inputs.read(tile.kept)
        check_real("image", image)  # integers, of 32 bits
        if mask is not None:
            image, scores = image[mask], scores[mask]
        if not image.size:
            continue
        extremes.append(np.array([image.min(), image.max()], image.dtype))
        if inputs.name == "probabilities":
            check_probabilities(scores)
        else:
            _check_logits(scores)
            softmaxes.append(is_softmax(scores))
    if extremes:
        check_no_softmax("logits", bool(softmaxes) and all(softmaxes))
        check_intensities("image", np.stack(extremes), max_intensity)


def _check_logits(logits: np.ndarray) -> None:
    """A label may be impossible, -inf, but not all of a pixel's."""
    with np.errstate(over="ignore"):
        logits = logits.astype(np.float32)
    if np.isnan(logits).any() or np.isposinf(logits).any():
        raise InputError("logits: expected finite numbers, got NaN or infinity")
    if np.isneginf(logits).all(axis=-1).any():
        raise InputError("logits: expected a finite one of each pixel, got all -inf")
