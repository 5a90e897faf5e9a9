"""Small networks as files of weights and checkpoints, and images for them."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from configs import shapes
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.models import VGGFCN, Segmenter, build_segmenter
from crfrnn_jax.training.checkpoints import StageCheckpoints
from crfrnn_jax.training.initial import flat_names
from crfrnn_jax.training.steps import TrainState
from crfrnn_jax.weights import save_weights
from crfrnn_jax.weights.layers import Sizes

SIZES = Sizes(widths=(4, 4, 6, 6, 8), hidden=10)


def random_params(model, seed=0):
    """Parameters of a model: a score that starts at zero would like no label better."""
    images = np.zeros((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    rng = np.random.default_rng(seed)

    def draw(leaf):
        return rng.normal(0, 0.1, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, shapes)


def save_network(path, layout, *, labels=3, stride=8, change=lambda tensors: None):
    """A small network as `crfrnn_jax.weights convert` would write it."""
    crf = CRFRNN(labels) if layout.startswith("crfrnn") else None
    backbone = VGGFCN(labels, stride, widths=SIZES.widths, hidden=SIZES.hidden)
    model = Segmenter(backbone, crf)
    params = random_params(model)
    tensors = {name: np.asarray(leaf) for name, leaf in flat_names(params).items()}
    change(tensors)
    save_weights(path, tensors, {"layout": layout, "labels": labels})
    return model, params


def save_checkpoint(workdir, stage, *, labels=5, **crf):
    """A checkpoint as a run of the default config, shrunk, would write it."""
    config = shapes.get_config()
    config.model.update(widths=(8, 8), blocks=(0, 0), num_skips=1)
    config.crf.update(method="exact", **crf)
    config.eval.update(num_iterations=3, multiple_of=16)
    model = build_segmenter(config, labels)
    params = random_params(model)
    state = TrainState(params, {}, jax.random.key(0), jnp.asarray(7))
    checkpoints = StageCheckpoints(workdir, stage)
    meta = {"config": config.to_dict(), "stage": stage, "data": ""}
    checkpoints.save(state, meta | {"class_names": [str(i) for i in range(labels)]})
    checkpoints.close()
    return workdir / "checkpoints" / stage / "7", model, params


def save_image(path, height=21, width=34):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([height, width])
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def pixels_of(path):
    """An image's mode, and its pixels as they are stored."""
    with Image.open(path) as picture:
        return picture.mode, np.asarray(picture)
