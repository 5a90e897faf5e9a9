"""A network to predict with, from published weights or from a checkpoint of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from crfrnn_jax.checks import InputError, naming
from crfrnn_jax.evaluation.prediction import WindowUnary, refined_of
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.models import VGGFCN, Segmenter, build_segmenter
from crfrnn_jax.training.carried import network_config
from crfrnn_jax.training.checkpoints import load_for_evaluation
from crfrnn_jax.training.initial import flat_names
from crfrnn_jax.weights import load_weights
from crfrnn_jax.weights.layers import Sizes
from crfrnn_jax.weights.limits import reading

# How an image is brought to a network: as its authors do, or whole at any size.
INPUTS = ("published", "modern")
# Of the CRF-RNN authors: the square's side, and the iterations at test.
_CANVAS, _ITERATIONS = 500, 10
# Sides of "modern" images are padded to multiples of it: few sizes, few compilations.
_MODERN_MULTIPLE = 64


class Network(NamedTuple):
    """A network with its parameters, and how images are brought to it.

    Attributes:
      model: the segmenter, whose `canvas` is 0 for images of any size.
      params: its parameters, on the first device.
      num_labels: number of labels.
      num_iterations: of the CRF, where there is one.
      multiple_of: images are padded to sides that it divides, without a canvas.
    """

    model: Segmenter
    params: Any
    num_labels: int
    num_iterations: int
    multiple_of: int

    def logits_of(self) -> WindowUnary:
        """The logits of an image, after the CRF where there is one."""
        return refined_of(
            self.model,
            self.params,
            self.num_iterations,
            multiple_of=self.multiple_of,
        )


class _Published(NamedTuple):
    """What the first part of a layout's name says of the network."""

    stride: int
    crf: bool
    canvas: int


# The FCN authors take each image at its own size.
_PUBLISHED = {
    "crfrnn": _Published(8, True, _CANVAS),
    "fcn8s": _Published(8, False, 0),
    "fcn16s": _Published(16, False, 0),
    "fcn32s": _Published(32, False, 0),
}


def load_network(
    path: Path,
    *,
    form: str | None = None,
    num_iterations: int | None = None,
    sizes: Sizes | None = None,
    backbone: str | None = None,
) -> Network:
    """Reads a network and all of its parameters.

    Args:
      path: an .npz that `crfrnn_jax.weights` wrote, or a checkpoint's folder.
      form: of the images, one of `INPUTS`. "published" is the CRF-RNN authors' canvas
        of 500, or for an FCN's weights the image as it is; "modern" takes images whole
        at any size. None is "published" for weights, for a checkpoint its config's
        `canvas` and `eval.multiple_of`.
      num_iterations: of the CRF; 10 unless given, for a checkpoint its config's
        `eval.num_iterations`.
      sizes: of the VGG-16 in a file of weights; VGG-16's own unless given.
      backbone: "package.module:Class" of a checkpoint's network, which is imported; a
        checkpoint that names another than this, or than one of this package's, is
        refused.

    Raises:
      FileNotFoundError, CheckpointError: there is none, or it can't be read.
      ValueError: naming the file, if it holds no whole network of that kind.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: expected a file of weights or a checkpoint's folder, got none"
        )
    if path.is_dir():
        network = _of_checkpoint(path, form, backbone)
    else:
        if backbone is not None:
            raise InputError(
                f"{path}: expected a checkpoint's folder, as a backbone is named, "
                f"{backbone!r}, got a file"
            )
        network = _of_weights(path, form, sizes or Sizes())
    if num_iterations is not None:
        network = network._replace(num_iterations=num_iterations)
    check_params(path, network.model, network.params, network.num_iterations)
    return network._replace(params=jax.device_put(network.params))


def _of_weights(path: Path, form: str | None, sizes: Sizes) -> Network:
    tensors, meta = load_weights(path)
    missing = [key for key in ("layout", "labels") if key not in meta]
    if missing:
        raise InputError(
            f"{path}: expected a file whose meta says of which network it is, got "
            f"none with {' and '.join(missing)}; it is for training to start from, "
            "config.init.file"
        )
    layout, labels = meta["layout"], meta["labels"]
    published = _PUBLISHED.get(str(layout).partition("-")[0])
    if published is None or not isinstance(labels, int):
        raise InputError(
            f"{path}: expected the weights of a CRF-RNN or an FCN, got those of "
            f"{layout}, which score no labels; they are for training to start from, "
            "config.init.file"
        )
    model = Segmenter(
        VGGFCN(labels, published.stride, widths=sizes.widths, hidden=sizes.hidden),
        CRFRNN(labels) if published.crf else None,
        0 if form == "modern" else published.canvas,
    )
    params = unflatten_dict(tensors, sep="/")
    multiple_of = _MODERN_MULTIPLE if form == "modern" else 1
    return Network(model, params, labels, _ITERATIONS, multiple_of)


def _of_checkpoint(path: Path, form: str | None, backbone: str | None) -> Network:
    params, meta = load_for_evaluation(path)
    config = network_config(path, meta, backbone=backbone)
    labels = len(meta["class_names"])
    model = build_segmenter(config, labels)
    multiple_of = config.eval.multiple_of
    if form == "modern":
        model, multiple_of = model.clone(canvas=0), _MODERN_MULTIPLE
    elif form == "published":
        model = model.clone(canvas=config.canvas or _CANVAS)
    if not config[meta["stage"]].use_crf:
        # As they started: what the stage has trained is the backbone.
        model = model.clone(crf=None)
        params = {name: tree for name, tree in params.items() if name != "crf"}
    return Network(model, params, labels, config.eval.num_iterations, multiple_of)


def check_params(
    path: Path, model: Segmenter, params: Any, num_iterations: int | None = None
) -> None:
    """Raises InputError unless the parameters are all of the network's and no others.

    Traces the network with a number of iterations, which fails here if it can't have as
    many; None is its own.
    """

    def score(module: Segmenter, images: jax.Array) -> jax.Array:
        logits = module.unary(images)
        return module.refine(images, logits, num_iterations=num_iterations)

    def init(key: jax.Array, images: jax.Array) -> Any:
        return model.init(key, images, method=score)["params"]

    image = np.zeros((1, 32, 32, 3), np.float32)
    with reading(path, "a network that can be traced"), naming(path):
        wanted = flat_names(jax.eval_shape(init, jax.random.key(0), image))
    given: Mapping[str, Any] = flat_names(params)
    kinds = {
        "missing": sorted(wanted.keys() - given.keys()),
        "of another shape": [
            f"{name} (expected {list(wanted[name].shape)}, got "
            f"{list(given[name].shape)})"
            for name in sorted(wanted.keys() & given.keys())
            if wanted[name].shape != given[name].shape
        ],
        "left over": sorted(given.keys() - wanted.keys()),
    }
    faults = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
    if faults:
        raise InputError(
            f"{path}: expected the parameters of this network, got {'; '.join(faults)}"
        )
