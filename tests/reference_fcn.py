"""VGG-16 FCNs in float64 NumPy, written apart from the package, layer by layer.

As Caffe computes them: maps are [channels, height, width], convolution kernels
[out, in, height, width], transposed convolutions' [in, out, height, width].
"""

import numpy as np

CONVOLUTIONS = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}


def layer_shapes(num_labels, widths, hidden, stride):
    """The shape of each layer's kernel, and whether the layer has a bias."""
    shapes, before = {}, 3
    for stage, count in CONVOLUTIONS.items():
        for i in range(1, count + 1):
            shapes[f"conv{stage}_{i}"] = (widths[stage - 1], before, 3, 3), True
            before = widths[stage - 1]
    shapes["fc6"] = (hidden, before, 7, 7), True
    shapes["fc7"] = (hidden, hidden, 1, 1), True
    shapes["score_fr"] = (num_labels, hidden, 1, 1), True
    square = (num_labels, num_labels)
    if stride <= 16:
        shapes["upscore2"] = (*square, 4, 4), True
        shapes["score_pool4"] = (num_labels, widths[3], 1, 1), True
    if stride == 8:
        shapes["upscore_pool4"] = (*square, 4, 4), False
        shapes["score_pool3"] = (num_labels, widths[2], 1, 1), True
    shapes[f"upscore{stride}"] = (*square, 2 * stride, 2 * stride), False
    return shapes


def random_layers(rng, num_labels, widths, hidden, stride):
    """Kernels and biases by layer, scaled so that the scores are of order one."""
    layers = {}
    for name, (shape, has_bias) in layer_shapes(
        num_labels, widths, hidden, stride
    ).items():
        fan_in = shape[0] * 4 if name.startswith("up") else np.prod(shape[1:])
        kernel = rng.normal(size=shape) * np.sqrt(2 / fan_in)
        if name == "conv1_1":
            kernel /= 60  # about the spread of an image's intensities
        bias = rng.normal(size=shape[0]) * 0.1 if has_bias else None
        layers[name] = (
            kernel.astype(np.float32),
            None if bias is None else bias.astype(np.float32),
        )
    return layers


def fcn(image, layers, stride, pool4_scale=1.0, pool3_scale=1.0):
    """Scores [height, width, labels] of an RGB image [height, width, 3] in 0..255."""
    height, width = image.shape[:2]
    x = image.astype(np.float64)[..., ::-1] - [103.939, 116.779, 123.68]
    x = x.transpose(2, 0, 1)
    pools = {}
    for stage, count in CONVOLUTIONS.items():
        for i in range(1, count + 1):
            padding = 100 if (stage, i) == (1, 1) else 1
            x = np.maximum(_convolve(x, layers[f"conv{stage}_{i}"], padding), 0)
        x = pools[stage] = _pool(x)
    x = np.maximum(_convolve(x, layers["fc6"], 0), 0)
    x = np.maximum(_convolve(x, layers["fc7"], 0), 0)
    x = _convolve(x, layers["score_fr"], 0)
    if stride <= 16:
        x = _deconvolve(x, layers["upscore2"], 2)
        skip = _convolve(pools[4] * pool4_scale, layers["score_pool4"], 0)
        x = x + skip[:, 5:, 5:][:, : x.shape[1], : x.shape[2]]
    if stride == 8:
        x = _deconvolve(x, layers["upscore_pool4"], 2)
        skip = _convolve(pools[3] * pool3_scale, layers["score_pool3"], 0)
        x = x + skip[:, 9:, 9:][:, : x.shape[1], : x.shape[2]]
    x = _deconvolve(x, layers[f"upscore{stride}"], stride)
    crop = {32: 19, 16: 27, 8: 31}[stride]
    return x[:, crop:, crop:][:, :height, :width].transpose(1, 2, 0)


def _convolve(x, layer, padding):
    kernel, bias = (part.astype(np.float64) for part in layer)
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding)])
    rows, columns = (x.shape[1 + a] - kernel.shape[2 + a] + 1 for a in (0, 1))
    out = np.zeros((kernel.shape[0], rows, columns))
    for i in range(kernel.shape[2]):
        for j in range(kernel.shape[3]):
            window = x[:, i : i + rows, j : j + columns]
            out += np.tensordot(kernel[:, :, i, j], window, 1)
    return out + bias[:, None, None]


def _pool(x):
    channels, height, width = x.shape
    out = np.empty((channels, -(-height // 2), -(-width // 2)))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            window = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            out[:, i, j] = window.max((1, 2))
    return out


def _deconvolve(x, layer, stride):
    kernel, bias = layer
    size = kernel.shape[2]
    sides = ((n - 1) * stride + size for n in x.shape[1:])
    out = np.zeros((kernel.shape[1], *sides))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            patch = np.tensordot(x[:, i, j], kernel.astype(np.float64), 1)
            top, left = i * stride, j * stride
            out[:, top : top + size, left : left + size] += patch
    return out if bias is None else out + bias[:, None, None]
