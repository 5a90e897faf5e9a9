"""The published files we know: their tensors, and what makes their values ours.

Our network takes BGR in 0..255 minus a mean, and so do the authors' three CRF-RNN
files, Caffe's VGG-16 and Keras's. What others differ in is folded into conv1_1, see
`inputs`.

The CRF's three matrices are multiplied from the left, matrix @ q with q [labels,
pixels], by all three programs (crfrnn.py, crfrnn_layer.py, meanfield_iteration): their
rows are the labels that receive, as ours are. Caffe (coefficient -1 of its sum layer)
and Keras subtract compatibility @ messages and start from minus the identity, as we do;
PyTorch adds it and starts from the identity: there the sign is turned.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crfrnn_jax.weights import inputs
from crfrnn_jax.weights.layers import (
    CAFFE,
    KERAS,
    TENSORFLOW,
    TORCH,
    Entry,
    Format,
    Layer,
    Sizes,
    classifier,
    convolutions,
    fcn,
    layer_entries,
    vgg16,
)

Tree = dict[str, NDArray[np.float32]]


class Layout(NamedTuple):
    """One kind of published file.

    Attributes:
      name: as `--layout` takes it.
      title: for people.
      container: the kind of file, "pth", "keras", "caffemodel" or "npz".
      entries: the tensors, from the network's sizes and its number of labels.
      labels_from: the tensor whose length is the number of labels, "" if there is none.
      finish: changes the values of the arranged tensors in place.
      twin: the layout that has the same tensors and other values, which is taken
        unless this one is asked for; "" if there is none.
    """

    name: str
    title: str
    container: str
    entries: Callable[[Sizes, int], list[Entry]]
    labels_from: str = ""
    finish: Callable[[Tree], None] = lambda tree: None
    twin: str = ""


# What a CRF-RNN of Caffe or Keras calls our layers.
_CRFRNN_NAMES = {
    "score_fr": "score-fr",
    "score_pool4": "score-pool4",
    "score_pool3": "score-pool3",
    "upscore2": "score2",
    "upscore_pool4": "score4",
    "upscore8": "upsample",
}
_FCN_NAMES = {"upscore32": "upscore"}
# Where torchvision's sequence has the convolutions: activations and pools count too.
_TORCHVISION_NAMES = {
    **{
        layer.name: f"features.{index}"
        for layer, index in zip(
            convolutions(Sizes()),
            (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
            strict=True,
        )
    },
    **{"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"},
}
# jcjohnson's pytorch-vgg counts a dropout before each.
_PYTORCH_VGG_NAMES = {
    **_TORCHVISION_NAMES,
    **{"fc6": "classifier.1", "fc7": "classifier.4"},
}
_KERAS_NAMES = {
    **{
        layer.name: layer.name.replace("conv", "block").replace("_", "_conv")
        for layer in convolutions(Sizes())
    },
    **{"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"},
}
_CRF_TARGETS = ("spatial_weights", "bilateral_weights", "compatibility")


def _entries(
    layers: list[Layer], how: Format, names: Mapping[str, str] | None = None
) -> list[Entry]:
    names = names or {}
    return [
        entry
        for layer in layers
        for entry in layer_entries(layer, names.get(layer.name, layer.name), how)
    ]


def _crfrnn(
    sizes: Sizes,
    labels: int,
    *,
    how: Format,
    names: Mapping[str, str],
    crf: tuple[str, str, str],
    sign: float = 1.0,
) -> list[Entry]:
    entries = _entries(fcn(sizes, labels, 8, bias="stored"), how, names)
    for source, target in zip(crf, _CRF_TARGETS, strict=True):
        turned = sign if target == "compatibility" else 1.0
        entries.append(Entry(source, f"crf/{target}", (labels, labels), sign=turned))
    return entries


def _fcn(sizes: Sizes, labels: int, *, how: Format, stride: int) -> list[Entry]:
    # The FCN authors' upscore2 has no bias; a conversion may hold one nevertheless.
    return _entries(fcn(sizes, labels, stride, bias="optional"), how, _FCN_NAMES)


def _fcn_at_once(sizes: Sizes, labels: int) -> list[Entry]:
    # Caffe's Scale layers before the two score layers; a factor for each channel.
    return _fcn(sizes, labels, how=CAFFE, stride=8) + [
        Entry(f"scale_{pool}/0", f"scale_{pool}", (width,))
        for pool, width in (("pool4", sizes.widths[3]), ("pool3", sizes.widths[2]))
    ]


def _vgg16(
    sizes: Sizes, _labels: int, *, how: Format, names: Mapping[str, str] | None = None
) -> list[Entry]:
    return _entries([*vgg16(sizes, "dense"), classifier(sizes)], how, names)


def _vgg16_without_top(sizes: Sizes, _labels: int) -> list[Entry]:
    return _entries(convolutions(sizes), KERAS, _KERAS_NAMES)


_KERAS_CRF = (
    "crfrnn/spatial_ker_weights",
    "crfrnn/bilateral_ker_weights",
    "crfrnn/compatibility_matrix",
)
_TORCH_CRF = (
    "crfrnn.spatial_ker_weights",
    "crfrnn.bilateral_ker_weights",
    "crfrnn.compatibility_matrix",
)
_CAFFE_CRF = ("inference1/0", "inference1/1", "inference1/2")


def _fcn_layouts(container: str, how: Format) -> list[Layout]:
    return [
        Layout(
            f"fcn{stride}s-{'caffe' if how is CAFFE else 'pytorch'}",
            f"FCN-{stride}s of the FCN authors",
            container,
            partial(_fcn, how=how, stride=stride),
            f"score_fr{how.bias}",
            inputs.from_fcn_mean,
        )
        for stride in (8, 16, 32)
    ]


_ALL = [
    Layout(
        "crfrnn-pytorch",
        "CRF-RNN, crfasrnn_weights.pth",
        "pth",
        partial(_crfrnn, how=TORCH, names={}, crf=_TORCH_CRF, sign=-1.0),
        "score_fr.bias",
    ),
    Layout(
        "crfrnn-keras",
        "CRF-RNN, crfrnn_keras_model.h5",
        "keras",
        partial(_crfrnn, how=KERAS, names=_CRFRNN_NAMES, crf=_KERAS_CRF),
        "score-fr/bias",
    ),
    Layout(
        "crfrnn-caffe",
        "CRF-RNN, TVG_CRFRNN_COCO_VOC.caffemodel",
        "caffemodel",
        partial(_crfrnn, how=CAFFE, names=_CRFRNN_NAMES, crf=_CAFFE_CRF),
        "score-fr/1",
    ),
    *_fcn_layouts("pth", TORCH),
    *_fcn_layouts("caffemodel", CAFFE),
    Layout(
        "fcn8s-atonce-caffe",
        "FCN-8s at once of the FCN authors",
        "caffemodel",
        _fcn_at_once,
        "score_fr/1",
        inputs.from_fcn_at_once,
    ),
    Layout(
        "fcn8s-atonce-pytorch",
        "FCN-8s at once of the FCN authors, whose factors the file does not hold",
        "pth",
        partial(_fcn, how=TORCH, stride=8),
        "score_fr.bias",
        inputs.from_fcn_at_once,
        twin="fcn8s-pytorch",
    ),
    Layout(
        "vgg16-torchvision",
        "VGG-16 of ImageNet, torchvision's",
        "pth",
        partial(_vgg16, how=TORCH, names=_TORCHVISION_NAMES),
        finish=inputs.from_torchvision,
    ),
    Layout(
        "vgg16-caffe-pytorch",
        "VGG-16 of ImageNet, Caffe's values under torchvision's names",
        "pth",
        partial(_vgg16, how=TORCH, names=_TORCHVISION_NAMES),
        twin="vgg16-torchvision",
    ),
    Layout(
        "vgg16-pytorch-vgg",
        "VGG-16 of ImageNet, Caffe's values, vgg16-00b39a1b.pth",
        "pth",
        partial(_vgg16, how=TORCH, names=_PYTORCH_VGG_NAMES),
    ),
    Layout(
        "vgg16-caffe",
        "VGG-16 of ImageNet, VGG_ILSVRC_16_layers.caffemodel",
        "caffemodel",
        partial(_vgg16, how=CAFFE),
    ),
    Layout(
        "vgg16-keras",
        "VGG-16 of ImageNet, Keras's",
        "keras",
        partial(_vgg16, how=KERAS, names=_KERAS_NAMES),
    ),
    Layout(
        "vgg16-keras-notop",
        "VGG-16 of ImageNet, Keras's without fc6 and fc7",
        "keras",
        _vgg16_without_top,
    ),
    Layout(
        "vgg16-npz",
        "VGG-16 of ImageNet, vgg16_weights.npz for TensorFlow",
        "npz",
        partial(_vgg16, how=TENSORFLOW),
        finish=inputs.from_rgb,
    ),
]
LAYOUTS = {layout.name: layout for layout in _ALL}
