"""The layers of the networks we read, and how each program stores a layer's tensors."""

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Sizes(NamedTuple):
    """What a network's shapes follow from; the defaults are VGG-16's.

    Attributes:
      widths: channels of the five blocks of convolutions.
      hidden: channels of fc6 and fc7.
      window: height and width of fc6's kernel.
      classes: outputs of the ImageNet classifier, which is dropped.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    hidden: int = 4096
    window: int = 7
    classes: int = 1000


class Layer(NamedTuple):
    """One layer with weights.

    Attributes:
      name: its name in our parameter tree, under "backbone/".
      kernel: (height, width, inputs, outputs).
      kind: "convolution", "transposed" (convolution) or "dense": a convolution over the
        whole of its input that the file holds as a matrix.
      bias: "stored"; "none"; "optional", zeros where the file has none; or "zeros".
      dropped: whether the file has it and our network has not.
    """

    name: str
    kernel: tuple[int, int, int, int]
    kind: str = "convolution"
    bias: str = "stored"
    dropped: bool = False


class Format(NamedTuple):
    """How a program names and orients the tensors of a layer.

    Attributes:
      kernel, bias: what follows the layer's name.
      orders: a kernel's axes as stored, by the layer's kind, of h, w, i(n) and o(ut). A
        dense kernel is the matrix that flattening h, w and i in this order gives.
    """

    kernel: str
    bias: str
    orders: Mapping[str, str]


class Entry(NamedTuple):
    """One tensor: where it comes from and where it goes.

    Attributes:
      source: its name in the file.
      target: its path in our parameter tree, or None if it is dropped.
      shape: as the file holds it.
      order: the kernel's axes as stored, or "" for what is kept as it is.
      kernel: the kernel's sizes (height, width, inputs, outputs), or ().
      wanted: the kernel's axes in our tree.
      optional: whether it may be missing; then it is zeros.
      sign: what it is multiplied by.
    """

    source: str
    target: str | None
    shape: tuple[int, ...]
    order: str = ""
    kernel: tuple[int, ...] = ()
    wanted: str = "hwio"
    optional: bool = False
    sign: float = 1.0

    def arrange(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """The tensor as our network wants it."""
        if self.order:
            sizes = dict(zip("hwio", self.kernel, strict=True))
            array = array.reshape([sizes[axis] for axis in self.order])
            array = array.transpose([self.order.index(axis) for axis in self.wanted])
        else:
            array = array.reshape(self.shape)
        with np.errstate(over="ignore"):  # becomes infinite, which is reported
            return np.multiply(
                array, self.sign, dtype=np.float32, casting="same_kind", order="C"
            )


# torch.nn.Conv2d holds [out, in, h, w], ConvTranspose2d [in, out, h, w] and scatters it
# as it stands, Linear [out, in] over a flattened [in, h, w]; the tests ask torch.
TORCH = Format(
    ".weight",
    ".bias",
    {"convolution": "oihw", "transposed": "iohw", "dense": "oihw"},
)
# base_conv_layer.cpp makes the blob [conv_out_channels, conv_in_channels, h, w]; for a
# Deconvolution the two have changed places, and its forward pass is the convolution's
# backward pass, which scatters the kernel as it stands: [in, out, h, w], not mirrored.
CAFFE = Format(
    "/0", "/1", {"convolution": "oihw", "transposed": "iohw", "dense": "oihw"}
)
# tf.nn.conv2d_transpose takes [h, w, out, in] and is the gradient of conv2d: it
# scatters the kernel as it stands. Dense kernels are [in, out] over a flattened
# [h, w, in].
KERAS = Format(
    "/kernel",
    "/bias",
    {"convolution": "hwio", "transposed": "hwoi", "dense": "hwio"},
)
TENSORFLOW = Format("_W", "_b", {"convolution": "hwio", "dense": "hwio"})


def layer_entries(layer: Layer, name: str, how: Format) -> list[Entry]:
    """The tensors of one layer.

    Args:
      layer: the layer.
      name: what the file calls it.
      how: the file's conventions.
    """
    order = how.orders[layer.kind]
    sizes = dict(zip("hwio", layer.kernel, strict=True))
    shape = tuple(sizes[axis] for axis in order)
    if layer.kind == "dense":
        first_is_out = order[0] == "o"
        shape = (
            (shape[0], prod(shape[1:])) if first_is_out else (prod(shape[:3]), shape[3])
        )
    path = None if layer.dropped else f"backbone/{layer.name}"
    kernel = Entry(
        name + how.kernel,
        path and f"{path}/kernel",
        shape,
        order,
        layer.kernel,
        # Flax's transposed convolution keeps them so, with `transpose_kernel`.
        "hwoi" if layer.kind == "transposed" else "hwio",
    )
    if layer.bias == "none":
        return [kernel]
    bias = Entry(
        name + how.bias,
        path and f"{path}/bias",
        (layer.kernel[3],),
        optional=layer.bias == "optional",
    )
    return [kernel, bias]


def convolutions(sizes: Sizes) -> list[Layer]:
    """The 13 convolutions of VGG-16, in its order."""
    layers, inputs = [], 3
    for block, (width, depth) in enumerate(
        zip(sizes.widths, (2, 2, 3, 3, 3), strict=True)
    ):
        for index in range(depth):
            layers.append(Layer(f"conv{block + 1}_{index + 1}", (3, 3, inputs, width)))
            inputs = width
    return layers


def vgg16(sizes: Sizes, kind: str) -> list[Layer]:
    """VGG-16 up to fc7, with fc6 and fc7 of a kind, "dense" or "convolution"."""
    hidden, window, inputs = sizes.hidden, sizes.window, sizes.widths[-1]
    return [
        *convolutions(sizes),
        Layer("fc6", (window, window, inputs, hidden), kind),
        Layer("fc7", (1, 1, hidden, hidden), kind),
    ]


def classifier(sizes: Sizes) -> Layer:
    """The layer of VGG-16 that scores the classes of ImageNet: not ours."""
    return Layer("fc8", (1, 1, sizes.hidden, sizes.classes), "dense", dropped=True)


def score(name: str, inputs: int, labels: int) -> Layer:
    """A 1x1 convolution that scores labels."""
    return Layer(name, (1, 1, inputs, labels))


def upscore(name: str, side: int, labels: int, bias: str = "none") -> Layer:
    """A transposed convolution that enlarges scores."""
    return Layer(name, (side, side, labels, labels), "transposed", bias)


def fcn(sizes: Sizes, labels: int, stride: int, bias: str) -> list[Layer]:
    """FCN-8s, FCN-16s or FCN-32s.

    Args:
      sizes: of the VGG-16 within.
      labels: number of labels.
      stride: 8, 16 or 32.
      bias: upscore2's, see `Layer`.
    """
    widths = sizes.widths
    layers = [*vgg16(sizes, "convolution"), score("score_fr", sizes.hidden, labels)]
    if stride == 32:
        return [*layers, upscore("upscore32", 64, labels)]
    layers += [
        upscore("upscore2", 4, labels, bias),
        score("score_pool4", widths[3], labels),
    ]
    if stride == 16:
        return [*layers, upscore("upscore16", 32, labels)]
    return [
        *layers,
        upscore("upscore_pool4", 4, labels),
        score("score_pool3", widths[2], labels),
        upscore("upscore8", 16, labels),
    ]
