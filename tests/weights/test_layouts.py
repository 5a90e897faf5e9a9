"""Every published layout, arranged for our network; what torch computes is ours too."""

import numpy as np
import pytest
from weight_files import (
    FCN8,
    FCN8_UP,
    LABELS,
    SMALL,
    backbone,
    caffe_crfrnn,
    channels_first,
    crfrnn_tree,
    keras_crfrnn,
    our_tree,
    torch_crfrnn,
    vgg_tensors,
)

from crfrnn_jax.weights import LAYOUTS
from crfrnn_jax.weights.convert import convert_tensors
from crfrnn_jax.weights.inputs import MEAN
from crfrnn_jax.weights.layers import Sizes

FCN_MEAN = np.array([104.00698793, 116.66876762, 122.67891434])


def convert(container, tensors, layout=None):
    return convert_tensors("file", container, tensors, layout=layout, sizes=SMALL)


def assert_trees_equal(ours, expected, rtol=0.0):
    assert set(ours) == set(expected)
    for name, array in expected.items():
        assert ours[name].dtype == np.float32
        assert ours[name].flags.c_contiguous
        np.testing.assert_allclose(ours[name], array, rtol, atol=rtol, err_msg=name)


def named(tree, kernel_name, bias_name, names):
    """The backbone's tensors as torch and Caffe orient them."""
    tensors = {}
    for name, kernel, bias in backbone(tree):
        layer = names.get(name, name)
        tensors[layer + kernel_name] = channels_first(name, kernel)
        if bias is not None:
            tensors[layer + bias_name] = bias
    return tensors


@pytest.mark.parametrize(
    ("container", "write", "layout"),
    [
        ("pth", torch_crfrnn, "crfrnn-pytorch"),
        ("keras", keras_crfrnn, "crfrnn-keras"),
        ("caffemodel", caffe_crfrnn, "crfrnn-caffe"),
    ],
)
def test_the_three_crfrnn_files_are_one_network(container, write, layout):
    tree = crfrnn_tree()
    conversion = convert(container, write(tree))
    assert conversion.layout.name == layout
    assert conversion.labels == LABELS
    assert conversion.dropped == conversion.zeros == []
    assert_trees_equal(conversion.tensors, tree)


def test_the_sign_of_pytorchs_compatibility():
    tree = crfrnn_tree()
    theirs = torch_crfrnn(tree)
    theirs["crfrnn.compatibility_matrix"] = np.eye(LABELS, dtype=np.float32)
    ours = convert("pth", theirs).tensors["crf/compatibility"]
    np.testing.assert_array_equal(ours, -np.eye(LABELS))


def fcn_case(stride):
    if stride == 8:
        tree = our_tree(*FCN8, *FCN8_UP)
    elif stride == 16:
        tree = our_tree("score_fr", "score_pool4", "upscore2", "upscore16")
    else:
        tree = our_tree("score_fr", "upscore32")
    return tree


def with_our_mean(tree):
    """What the FCN authors' conv1_1 becomes for an input minus our mean."""
    kernel = tree["backbone/conv1_1/kernel"].astype(np.float64)
    added = np.tensordot(kernel.sum((0, 1)), MEAN - FCN_MEAN, (0, 0))
    return {**tree, "backbone/conv1_1/bias": tree["backbone/conv1_1/bias"] + added}


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("container", ["pth", "caffemodel"])
def test_the_fcn_authors_networks(container, stride):
    tree = fcn_case(stride)
    suffixes = (".weight", ".bias") if container == "pth" else ("/0", "/1")
    conversion = convert(container, named(tree, *suffixes, {"upscore32": "upscore"}))
    program = "pytorch" if container == "pth" else "caffe"
    assert conversion.layout.name == f"fcn{stride}s-{program}"
    expected = with_our_mean(tree)
    if stride < 32:
        assert conversion.zeros == ["backbone/upscore2/bias"]
        expected["backbone/upscore2/bias"] = np.zeros(LABELS)
    assert_trees_equal(conversion.tensors, expected, rtol=1e-5)


@pytest.mark.parametrize("container", ["pth", "caffemodel"])
def test_at_once_the_pools_factors_go_into_the_scores(container):
    tree = our_tree(*FCN8, *FCN8_UP)
    suffixes = (".weight", ".bias") if container == "pth" else ("/0", "/1")
    tensors = named(tree, *suffixes, {})
    factors = {"pool4": np.full(7, 0.01), "pool3": np.full(6, 0.0001)}
    if container == "caffemodel":
        factors = {"pool4": np.linspace(1, 2, 7), "pool3": np.linspace(3, 4, 6)}
        for pool, factor in factors.items():
            tensors[f"scale_{pool}/0"] = factor.astype(np.float32)
    name = f"fcn8s-atonce-{'pytorch' if container == 'pth' else 'caffe'}"
    asked = name if container == "pth" else None
    conversion = convert(container, tensors, asked)
    assert conversion.layout.name == name
    expected = with_our_mean(tree)
    expected["backbone/upscore2/bias"] = np.zeros(LABELS)
    for pool, factor in factors.items():
        kernel = tree[f"backbone/score_{pool}/kernel"]
        expected[f"backbone/score_{pool}/kernel"] = kernel * factor[:, None]
    assert_trees_equal(conversion.tensors, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("container", "program", "layout", "asked"),
    [
        ("caffemodel", "caffe", "vgg16-caffe", None),
        ("keras", "keras", "vgg16-keras", None),
        ("pth", "pytorch-vgg", "vgg16-pytorch-vgg", None),
        ("pth", "torchvision", "vgg16-caffe-pytorch", "vgg16-caffe-pytorch"),
    ],
)
def test_vgg16_of_caffes_values(container, program, layout, asked):
    tree = our_tree()
    conversion = convert(container, vgg_tensors(tree, program), asked)
    assert conversion.layout.name == layout
    assert len(conversion.dropped) == 2
    assert conversion.labels is None
    assert_trees_equal(conversion.tensors, tree)


def test_vgg16_for_tensorflow_takes_rgb():
    tree = our_tree()
    tensors = vgg_tensors(tree, "npz")
    tensors["conv1_1_W"] = tensors["conv1_1_W"][:, :, [2, 1, 0]]
    conversion = convert("npz", tensors)
    assert conversion.layout.name == "vgg16-npz"
    assert conversion.dropped == ["fc8_W", "fc8_b"]
    assert_trees_equal(conversion.tensors, tree)


def test_vgg16_without_its_top():
    tree = our_tree()
    tensors = vgg_tensors(tree, "keras")
    for name in ("fc1", "fc2", "predictions"):
        del tensors[f"{name}/kernel"], tensors[f"{name}/bias"]
    conversion = convert("keras", tensors)
    assert conversion.layout.name == "vgg16-keras-notop"
    expected = {n: a for n, a in tree.items() if "/conv" in n}
    assert_trees_equal(conversion.tensors, expected)


def test_torchvisions_first_layer_computes_the_same_inside_the_border():
    tensors = vgg_tensors(our_tree(), "torchvision")
    conversion = convert("pth", tensors)
    assert conversion.layout.name == "vgg16-torchvision"
    rng = np.random.default_rng(2)
    rgb = rng.uniform(0, 255, (3, 3, 3))  # one window of an image
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    theirs = np.einsum(
        "hwi,oihw->o", (rgb / 255 - mean) / std, tensors["features.0.weight"]
    )
    bgr = rgb[:, :, ::-1] - np.array([103.939, 116.779, 123.68])
    kernel = conversion.tensors["backbone/conv1_1/kernel"].astype(np.float64)
    ours = np.einsum("hwi,hwio->o", bgr, kernel)
    np.testing.assert_allclose(
        ours + conversion.tensors["backbone/conv1_1/bias"],
        theirs + tensors["features.0.bias"],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("side", [4, 16])
def test_torchs_transposed_convolution_scatters_our_kernel(side):
    torch = pytest.importorskip("torch")
    layer = torch.nn.ConvTranspose2d(2, 3, side, stride=side // 2, bias=False)
    from crfrnn_jax.weights.layers import TORCH, Layer, layer_entries

    entry, _ = layer_entries(Layer("up", (side, side, 2, 3), "transposed"), "up", TORCH)
    theirs = layer.weight.detach().numpy()
    assert entry.shape == theirs.shape
    kernel = entry.arrange(theirs)
    image = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    stride = side // 2
    ours = np.zeros((2 * stride + side, 3 * stride + side, 3), np.float32)
    for i in range(3):
        for j in range(4):
            block = np.einsum("i,hwoi->hwo", image[i, j], kernel)
            rows = slice(stride * i, stride * i + side)
            ours[rows, stride * j : stride * j + side] += block
    expected = layer(torch.from_numpy(image.transpose(2, 0, 1))[None])
    np.testing.assert_allclose(
        ours, expected[0].detach().numpy().transpose(1, 2, 0), atol=1e-5
    )


def test_torchs_linear_layer_is_our_convolution_over_the_window():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(8 * 3 * 3, 9)
    tensors = vgg_tensors(our_tree(), "torchvision")
    tensors["classifier.0.weight"] = layer.weight.detach().numpy()
    kernel = convert("pth", tensors).tensors["backbone/fc6/kernel"]
    image = torch.randn(8, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = layer(image.flatten()) - layer.bias
    ours = np.einsum("ihw,hwio->o", image.numpy(), kernel)
    np.testing.assert_allclose(ours, expected.detach().numpy(), atol=1e-5)


def test_true_shapes():
    """Of vgg16_weights.npz, as those who printed it list them, and of CRF-RNN."""
    shapes = {e.source: e.shape for e in LAYOUTS["vgg16-npz"].entries(Sizes(), 21)}
    assert len(shapes) == 32
    assert shapes["conv1_1_W"] == (3, 3, 3, 64)
    assert shapes["conv3_1_W"] == (3, 3, 128, 256)
    assert shapes["conv5_3_b"] == (512,)
    assert shapes["fc6_W"] == (25088, 4096)
    assert shapes["fc7_W"] == (4096, 4096)
    assert shapes["fc8_W"] == (4096, 1000)
    # Of VGG-16, as its authors' table rounds it to 138 million.
    assert sum(np.prod(shape) for shape in shapes.values()) == 138_357_544
    shapes = {e.source: e.shape for e in LAYOUTS["crfrnn-pytorch"].entries(Sizes(), 21)}
    assert len(shapes) == 43
    assert shapes["fc6.weight"] == (4096, 512, 7, 7)
    assert shapes["upscore8.weight"] == (21, 21, 16, 16)
    assert shapes["crfrnn.compatibility_matrix"] == (21, 21)
