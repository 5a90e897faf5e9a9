"""A converted file computes what an independent network computes with its tensors.

The network is that of `reference_fcn`, in float64 NumPy, and torch's own layers where
torch is installed; the CRF after it is that of `oracles`. All take the same tensors.
"""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from weight_files import (
    caffe_bytes,
    caffe_crfrnn,
    keras_crfrnn,
    torch_crfrnn,
    write_keras,
)

sys.path.append(str(Path(__file__).parent.parent))

from oracles import crf
from reference_fcn import fcn, random_layers

from crfrnn_jax import CRFParams
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.models import VGGFCN, Segmenter
from crfrnn_jax.weights import convert_tensors, read_tensors
from crfrnn_jax.weights.layers import Sizes

LABELS, WIDTHS, HIDDEN, SIDE = 5, (4, 5, 6, 7, 8), 9, 48
SIZES = Sizes(widths=WIDTHS, hidden=HIDDEN)
RNG = np.random.default_rng(0)
LAYERS = random_layers(RNG, LABELS, WIDTHS, HIDDEN, 8)
PARAMS = CRFParams(*RNG.normal(size=(3, LABELS, LABELS)).astype(np.float32))
IMAGE = RNG.integers(0, 256, (36, SIDE, 3), np.uint8)
MEAN_BGR = np.array([103.939, 116.779, 123.68])


def our_tree():
    """The layers and the CRF by the paths of our parameters."""
    tree = {}
    for name, (kernel, bias) in LAYERS.items():
        tree[f"backbone/{name}/kernel"] = kernel.transpose(2, 3, 1, 0)
        if bias is not None:
            tree[f"backbone/{name}/bias"] = bias
    return tree | {f"crf/{name}": value for name, value in PARAMS._asdict().items()}


def write_pth(path):
    torch = pytest.importorskip("torch")
    tensors = torch_crfrnn(our_tree())
    torch.save({name: torch.tensor(array) for name, array in tensors.items()}, path)


def write_h5(path):
    write_keras(path, keras_crfrnn(our_tree()))


def write_caffemodel(path):
    path.write_bytes(caffe_bytes(caffe_crfrnn(our_tree())))


@pytest.fixture(scope="module")
def canvas():
    """The image as published: below it the mean colour, in RGB."""
    padded = np.broadcast_to(MEAN_BGR[::-1], (SIDE, SIDE, 3)).copy()
    padded[: len(IMAGE)] = IMAGE
    return padded


@pytest.fixture(scope="module")
def truth(canvas):
    """Scores and refined scores by the references."""
    unary = fcn(canvas, LAYERS, 8)
    refined = crf(
        canvas[..., ::-1] - MEAN_BGR, unary, PARAMS, (160.0, 3.0, 3.0), 2, "lattice"
    )
    return unary, refined


@pytest.mark.parametrize("write", [write_pth, write_h5, write_caffemodel])
def test_scores_and_refined_scores_are_the_references(write, truth, tmp_path):
    path = tmp_path / "published"
    write(path)
    conversion = convert_tensors(path, *read_tensors(path), sizes=SIZES)
    assert conversion.labels == LABELS
    model = Segmenter(
        VGGFCN(LABELS, widths=WIDTHS, hidden=HIDDEN),
        CRFRNN(LABELS, num_iterations=2),
        canvas=SIDE,
    )
    mask = np.zeros((1, SIDE, SIDE), bool)
    mask[:, : len(IMAGE)] = True
    image = np.pad(IMAGE, [(0, SIDE - len(IMAGE)), (0, 0), (0, 0)])[None]

    def both(params):
        unary = model.apply({"params": params}, image, mask, method=model.unary)
        return unary, model.apply({"params": params}, image, mask)

    for ours, expected in zip(
        jax.jit(both)(unflatten_dict(conversion.tensors, sep="/")), truth, strict=True
    ):
        assert 0.5 < np.abs(expected).max() < 100
        np.testing.assert_allclose(ours[0], expected, atol=1e-3)
    assert np.abs(truth[0] - truth[1]).max() > 0.1


def test_the_reference_is_torchs_network(canvas, truth):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    kernels = {
        name: [None if part is None else torch.tensor(part).double() for part in layer]
        for name, layer in LAYERS.items()
    }
    x = torch.tensor((canvas[..., ::-1] - MEAN_BGR).transpose(2, 0, 1).copy())[None]
    pools = {}
    for stage, count in {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}.items():
        for i in range(1, count + 1):
            padding = 100 if (stage, i) == (1, 1) else 1
            layer = kernels[f"conv{stage}_{i}"]
            x = functional.relu(functional.conv2d(x, *layer, padding=padding))
        x = pools[stage] = functional.max_pool2d(x, 2, ceil_mode=True)
    for name in ("fc6", "fc7"):
        x = functional.relu(functional.conv2d(x, *kernels[name]))
    x = functional.conv2d(x, *kernels["score_fr"])
    for up, skip, pool, crop in (
        ("upscore2", "score_pool4", 4, 5),
        ("upscore_pool4", "score_pool3", 3, 9),
    ):
        x = functional.conv_transpose2d(x, *kernels[up], stride=2)
        other = functional.conv2d(pools[pool], *kernels[skip])
        height, width = x.shape[2:]
        x = x + other[:, :, crop : crop + height, crop : crop + width]
    x = functional.conv_transpose2d(x, *kernels["upscore8"], stride=8)
    x = x[0, :, 31 : 31 + SIDE, 31 : 31 + SIDE].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(x, truth[0], atol=1e-9)
