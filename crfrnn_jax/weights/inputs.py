"""What other networks' inputs differ in, folded into the first convolution.

Our network takes u = x - MEAN, x in BGR, 0..255. A network that takes (x - mean) / std
has, with its channels in our order,

  W * (x - mean) / std = (W / std) * u + sum (W / std) (MEAN - mean)

which is conv1_1 with another kernel, and a bias that the means' difference adds to.

Where the kernel reaches over the image's border, that bias is not exact: there both
networks read zeros, which stand for MEAN in ours and for their mean in theirs. The
difference is at most 1.1 of 255 for the networks below.
"""

import numpy as np
from numpy.typing import NDArray

Tree = dict[str, NDArray[np.float32]]

# BGR, of VGG-16's authors.
MEAN = np.array([103.939, 116.779, 123.68])
# BGR, of the FCN authors' data layers and infer.py.
_FCN_MEAN = np.array([104.00698793, 116.66876762, 122.67891434])
# RGB and in units of 255, of torchvision's transforms.
_TORCHVISION_MEAN = np.array([0.485, 0.456, 0.406])
_TORCHVISION_STD = np.array([0.229, 0.224, 0.225])
# The FCN authors' factors of the pools "at once", voc-fcn8s-atonce/net.py.
_AT_ONCE = {"pool4": 0.01, "pool3": 0.0001}

_KERNEL, _BIAS = "backbone/conv1_1/kernel", "backbone/conv1_1/bias"


def from_rgb(tree: Tree) -> None:
    """From RGB minus `MEAN`: the channels change places."""
    tree[_KERNEL] = np.ascontiguousarray(tree[_KERNEL][:, :, ::-1])


def from_torchvision(tree: Tree) -> None:
    """From RGB in 0..1, normalised by torchvision's mean and deviation."""
    from_rgb(tree)
    _fold(tree, 255 * _TORCHVISION_MEAN[::-1], 255 * _TORCHVISION_STD[::-1])


def from_fcn_mean(tree: Tree) -> None:
    """From BGR minus the FCN authors' mean."""
    _fold(tree, _FCN_MEAN, np.ones(3))


def from_fcn_at_once(tree: Tree) -> None:
    """From the FCN authors' mean and pools with factors, which the scores take over."""
    from_fcn_mean(tree)
    for pool, constant in _AT_ONCE.items():
        name = f"backbone/score_{pool}/kernel"
        factors = tree.pop(f"scale_{pool}", np.float32(constant))
        # [1, 1, channels, labels]: a factor for each channel.
        tree[name] = tree[name] * np.reshape(factors, (-1, 1))


def _fold(tree: Tree, mean: NDArray[np.float64], std: NDArray[np.float64]) -> None:
    kernel = tree[_KERNEL] / std[:, None]
    bias = tree[_BIAS] + np.einsum("hwio,i->o", kernel, MEAN - mean)
    tree[_KERNEL], tree[_BIAS] = kernel.astype(np.float32), bias.astype(np.float32)
