"""A small network's parameters, and writers of other programs' files for the tests.

The tables and the axes are written out here once more: they are what the tests hold the
package's against.
"""

import io
import struct
import zipfile

import numpy as np

from crfrnn_jax.weights.layers import Sizes

# Sizes that are all different, so that axes that changed places show.
SMALL = Sizes(widths=(4, 5, 6, 7, 8), hidden=9, window=3, classes=10)
LABELS = 11
CONVOLUTIONS = {
    # name: (inputs, outputs, torchvision's, Keras's)
    "conv1_1": (3, 4, "features.0", "block1_conv1"),
    "conv1_2": (4, 4, "features.2", "block1_conv2"),
    "conv2_1": (4, 5, "features.5", "block2_conv1"),
    "conv2_2": (5, 5, "features.7", "block2_conv2"),
    "conv3_1": (5, 6, "features.10", "block3_conv1"),
    "conv3_2": (6, 6, "features.12", "block3_conv2"),
    "conv3_3": (6, 6, "features.14", "block3_conv3"),
    "conv4_1": (6, 7, "features.17", "block4_conv1"),
    "conv4_2": (7, 7, "features.19", "block4_conv2"),
    "conv4_3": (7, 7, "features.21", "block4_conv3"),
    "conv5_1": (7, 8, "features.24", "block5_conv1"),
    "conv5_2": (8, 8, "features.26", "block5_conv2"),
    "conv5_3": (8, 8, "features.28", "block5_conv3"),
}
KERNELS = {
    **{name: (3, 3, row[0], row[1]) for name, row in CONVOLUTIONS.items()},
    "fc6": (3, 3, 8, 9),
    "fc7": (1, 1, 9, 9),
}
SCORES = {
    "score_fr": (1, 1, 9, LABELS),
    "score_pool4": (1, 1, 7, LABELS),
    "score_pool3": (1, 1, 6, LABELS),
}
UPSCORES = {
    "upscore2": (4, 4, LABELS, LABELS),
    "upscore_pool4": (4, 4, LABELS, LABELS),
    "upscore8": (16, 16, LABELS, LABELS),
    "upscore16": (32, 32, LABELS, LABELS),
    "upscore32": (64, 64, LABELS, LABELS),
}
HYPHENS = {
    "score_fr": "score-fr",
    "score_pool4": "score-pool4",
    "score_pool3": "score-pool3",
    "upscore2": "score2",
    "upscore_pool4": "score4",
    "upscore8": "upsample",
}
CRF = ("spatial_weights", "bilateral_weights", "compatibility")
FCN8 = ("score_fr", "score_pool4", "score_pool3")
FCN8_UP = ("upscore2", "upscore_pool4", "upscore8")


def our_tree(*names, biases=(), crf=False, seed=0):
    """Random parameters of the backbone, of further layers, and of the CRF."""
    rng = np.random.default_rng(seed)
    kernels = {**KERNELS, **SCORES, **UPSCORES}
    tree = {}
    for name in [*KERNELS, *names]:
        kernel = rng.normal(size=kernels[name])
        tree[f"backbone/{name}/kernel"] = kernel.astype(np.float32)
        if name in biases or not name.startswith("upscore"):
            bias = rng.normal(size=kernels[name][3])
            tree[f"backbone/{name}/bias"] = bias.astype(np.float32)
    for name in CRF if crf else ():
        tree[f"crf/{name}"] = rng.normal(size=(LABELS, LABELS)).astype(np.float32)
    return tree


def crfrnn_tree():
    return our_tree(*FCN8, *FCN8_UP, biases=("upscore2",), crf=True)


def backbone(tree):
    """The layers of a tree: name, kernel, bias or None."""
    for path, kernel in tree.items():
        if path.endswith("/kernel"):
            name = path.split("/")[1]
            yield name, kernel, tree.get(f"backbone/{name}/bias")


def channels_first(name, kernel):
    """The kernel as torch and Caffe hold it."""
    axes = "hwoi->iohw" if name.startswith("upscore") else "hwio->oihw"
    return np.ascontiguousarray(np.einsum(axes, kernel))


def torch_crfrnn(tree):
    tensors = {}
    for name, kernel, bias in backbone(tree):
        tensors[f"{name}.weight"] = channels_first(name, kernel)
        if bias is not None:
            tensors[f"{name}.bias"] = bias
    tensors["crfrnn.spatial_ker_weights"] = tree["crf/spatial_weights"]
    tensors["crfrnn.bilateral_ker_weights"] = tree["crf/bilateral_weights"]
    tensors["crfrnn.compatibility_matrix"] = -tree["crf/compatibility"]
    return tensors


def keras_crfrnn(tree):
    tensors = {}
    for name, kernel, bias in backbone(tree):
        layer = HYPHENS.get(name, name)
        tensors[f"{layer}/kernel"] = kernel  # as we do
        if bias is not None:
            tensors[f"{layer}/bias"] = bias
    tensors["crfrnn/spatial_ker_weights"] = tree["crf/spatial_weights"]
    tensors["crfrnn/bilateral_ker_weights"] = tree["crf/bilateral_weights"]
    tensors["crfrnn/compatibility_matrix"] = tree["crf/compatibility"]
    return tensors


def caffe_crfrnn(tree):
    tensors = {}
    for name, kernel, bias in backbone(tree):
        layer = HYPHENS.get(name, name)
        tensors[f"{layer}/0"] = channels_first(name, kernel)
        if bias is not None:
            tensors[f"{layer}/1"] = bias
    for index, name in enumerate(CRF):
        tensors[f"inference1/{index}"] = tree[f"crf/{name}"][None, None]
    return tensors


def vgg_tensors(tree, program):
    """VGG-16 with its classifier, as four programs hold it."""
    tensors = {}
    rng = np.random.default_rng(1)
    fc8 = rng.normal(size=(9, 10)).astype(np.float32), np.ones(10, np.float32)
    layers = [*backbone(tree), ("fc8", fc8[0][None, None], fc8[1])]
    top = {
        "torchvision": ("classifier.0", "classifier.3", "classifier.6"),
        "pytorch-vgg": ("classifier.1", "classifier.4", "classifier.6"),
        "keras": ("fc1", "fc2", "predictions"),
    }.get(program, ("fc6", "fc7", "fc8"))
    for name, kernel, bias in layers:
        height, width, inputs, outputs = kernel.shape
        is_dense = name.startswith("fc")
        if program in ("keras", "npz"):
            suffixes = ("/kernel", "/bias") if program == "keras" else ("_W", "_b")
            shape = (height * width * inputs, outputs) if is_dense else kernel.shape
            kernel = kernel.reshape(shape)
        else:
            suffixes = ("/0", "/1") if program == "caffe" else (".weight", ".bias")
            kernel = np.einsum("hwio->oihw", kernel)
            kernel = kernel.reshape(outputs, -1) if is_dense else kernel
        layer = name
        if is_dense:
            layer = top[int(name[2]) - 6]
        elif program in ("torchvision", "pytorch-vgg"):
            layer = CONVOLUTIONS[name][2]
        elif program == "keras":
            layer = CONVOLUTIONS[name][3]
        tensors[layer + suffixes[0]], tensors[layer + suffixes[1]] = kernel, bias
    return tensors


def write_torch_zip(path, pickled, storages=(), method=zipfile.ZIP_STORED):
    """A .pth around a pickle, with storages {key: bytes}."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for key, data in dict(storages).items():
            archive.writestr(f"archive/data/{key}", data)


def write_keras(path, tensors, *, top=None, old=False, numbered=False):
    """An .h5 as Keras 2 writes it, or Keras 1 (old).

    h5py makes texts of varying length of a list, and of one length of an array; older
    ones made the latter of both.
    """
    import h5py

    def texts(names):
        made = [name.encode() for name in names]
        return np.array(made) if old else made

    layers = {}
    for name, array in tensors.items():
        layer, role = name.split("/")
        layers.setdefault(layer, []).append((role, array))
    with h5py.File(path, "w") as file:
        group = file.create_group(top) if top else file
        names = texts([*layers, "pool1"])
        if numbered:
            group.attrs["layer_names0"] = names[:3]
            group.attrs["layer_names1"] = names[3:]
        else:
            group.attrs["layer_names"] = names
        group.create_group("pool1").attrs["weight_names"] = []
        for layer, arrays in layers.items():
            inner = group.create_group(layer)
            kind = {"kernel": "W", "bias": "b"}
            places = [
                f"{layer}_{kind[role]}_1:0" if old else f"{layer}/{role}:0"
                for role, _ in arrays
            ]
            inner.attrs["weight_names"] = texts(places)
            for place, (_, array) in zip(places, arrays, strict=True):
                inner[place] = array


def varint(value):
    data = b""
    while value >= 0x80:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def chunk(number, data):
    """A protobuf field of bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(array, *, old=False):
    """A BlobProto; old ones have four sizes in fields of their own."""
    array = np.asarray(array, "<f4")
    if old:
        sizes = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(varint(n << 3) + varint(s) for n, s in enumerate(sizes, 1))
    else:
        shape = chunk(7, chunk(1, b"".join(varint(size) for size in array.shape)))
    return shape + chunk(5, array.tobytes())


def caffe_bytes(tensors, *, old=False):
    """A .caffemodel, written by hand."""
    layers = {}
    for name, array in tensors.items():
        layers.setdefault(name.split("/")[0], []).append(array)
    number, name_field, blobs_field = (2, 4, 6) if old else (100, 1, 7)
    network = chunk(1, b"network")
    for name, arrays in layers.items():
        data = chunk(name_field, name.encode())
        data += b"".join(chunk(blobs_field, blob(array, old=old)) for array in arrays)
        network += chunk(number, data)
    return network


def npz_bytes(tensors):
    stream = io.BytesIO()
    np.savez(stream, **tensors)
    return stream.getvalue()


def legacy_header():
    """The first pickles of PyTorch's old layout."""
    magic = 0x1950A86A20F9469CFC6C
    return b"".join(
        (
            b"\x80\x02\x8a\x0a" + magic.to_bytes(10, "little") + b".",
            b"\x80\x02M" + struct.pack("<H", 1001) + b".",
            b"\x80\x02}.",
        )
    )
