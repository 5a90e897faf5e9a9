"""What is fuzzed: each reader of files that may be anybody's, and the configs."""

import io
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.io
from harness import Target
from ml_collections import ConfigDict
from mutate import damaged, png
from PIL import Image
from trees_damaged import damaged_trees

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "weights")]

import weight_files  # noqa: E402
from test_pth import FLOATS, pickled  # noqa: E402

from configs import camvid, paper_data, shapes, voc_crfrnn, voc_crfrnn_modern  # noqa: E402
from crfrnn_jax.checks import InputError  # noqa: E402
from crfrnn_jax.data.coco import _COCO_NAMES, _listed  # noqa: E402
from crfrnn_jax.data.folder import read_image, read_mask  # noqa: E402
from crfrnn_jax.data.placed import read_matlab  # noqa: E402
from crfrnn_jax.data.voc import CLASS_NAMES  # noqa: E402
from crfrnn_jax.training.carried import evaluation_config, network_config  # noqa: E402
from crfrnn_jax.training.checkpoints import CheckpointError, check_meta  # noqa: E402
from crfrnn_jax.training.configuration import check_config  # noqa: E402
from crfrnn_jax.weights import load_weights, save_weights  # noqa: E402
from crfrnn_jax.weights.caffemodel import read_caffemodel  # noqa: E402
from crfrnn_jax.weights.keras import read_keras  # noqa: E402
from crfrnn_jax.weights.pth import read_pth  # noqa: E402

RECORDED = TESTS / "weights" / "recorded"
TENSORS = {
    "conv/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv/bias": np.arange(2, dtype=np.float32),
}
LABELS = np.arange(48, dtype=np.uint8).reshape(6, 8) % 5
# Pillow's warnings of damaged files are no errors.
warnings.simplefilter("ignore")


def _saved(write: Callable[[io.BytesIO], object]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def _in_zip(pickle: bytes) -> bytes:
    """A .pth around a damaged pickle: damage to the zip is mostly seen by zipfile."""
    storages = {"0": FLOATS.tobytes()}
    return _saved(lambda file: weight_files.write_torch_zip(file, pickle, storages))


def _ours() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.npz"
        save_weights(path, {"a": FLOATS}, {"layout": "fcn8s"})
        return path.read_bytes()


def _keras(**options: bool) -> bytes:
    return _saved(lambda file: weight_files.write_keras(file, TENSORS, **options))


def _picture(array: np.ndarray, form: str, **options: object) -> bytes:
    image = Image.fromarray(array)
    return _saved(lambda file: image.save(file, format=form, **options))


def _palette() -> bytes:
    image = Image.fromarray(LABELS)
    image.putpalette([7 * i % 256 for i in range(15)])
    return _saved(lambda file: image.save(file, format="png"))


def _pictures() -> list[bytes]:
    rgb = np.stack([LABELS * 50, LABELS * 7, LABELS], -1)
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = [_picture(LABELS, form) for form in ("tiff", "bmp", "gif", "tga", "ppm")]
    packed = [
        _picture(rgb, "tiff", compression=kind)
        for kind in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")
    ]
    coloured = [
        _picture(rgb, form)
        for form in ("bmp", "gif", "webp", "jpeg2000", "ico", "pcx", "sgi", "dds")
    ]
    photographs = [_picture(rgb, "jpeg", exif=exif, progressive=p) for p in (0, 1)]
    deep = [_picture(LABELS.astype(np.uint16) * 999, "tiff")]
    frames = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
    animated = [
        _saved(
            lambda file, form=form: frames[0].save(
                file, format=form, save_all=True, append_images=frames[1:]
            )
        )
        for form in ("gif", "webp", "png")
    ]
    return grey + packed + coloured + photographs + deep + animated


def _matlab() -> list[bytes]:
    fields = {"Segmentation": LABELS, "Boundaries": np.zeros((5, 1), object)}
    return [
        _saved(
            lambda file, packed=packed, content=content: scipy.io.savemat(
                file, content, do_compression=packed
            )
        )
        for packed in (False, True)
        for content in ({"GTcls": fields}, {"GTcls": {"Segmentation": LABELS + 0.0}})
    ]


def _coco() -> list[dict[str, Any]]:
    """COCO's instances of an image, in each of the forms that they have."""
    runs = {"size": [6, 8], "counts": [3, 10, 5, 30]}
    packed = {"size": [6, 8], "counts": "3:5d0"}
    polygons = [[0, 0, 8, 0, 8, 6, 0.5, 6], [1, 1, 3, 1, 3, 4]]
    names = [_COCO_NAMES.get(name, name) for name in CLASS_NAMES[1:]]
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    image = {"id": 1, "file_name": "a.jpg", "height": 6, "width": 8}
    trees = []
    for forms in ([polygons], [runs, packed], [packed]):
        annotations = [
            {"image_id": 1, "category_id": i, "iscrowd": i % 2, "segmentation": form}
            for i, form in enumerate(forms, 3)
        ]
        trees.append({"images": [image], "annotations": annotations})
    # Most damage is to go where more than a name is read.
    return [{"categories": categories, "all": tree} for tree in trees]


def _metas() -> list[dict[str, Any]]:
    """Of checkpoints, as training writes them."""
    metas = []
    for module in (shapes, camvid, voc_crfrnn, voc_crfrnn_modern):
        config = module.get_config()
        described = json.loads(config.to_json_best_effort())
        stage = config.stages[-1]
        metas.append({"config": described, "stage": stage, "class_names": ["a", "b"]})
    data = paper_data.get_data("voc_sbd_coco")
    metas[2]["config"]["data"] = json.loads(data.to_json_best_effort())
    return metas


def _draw(path: Path) -> None:
    """All masks of COCO's instances."""
    tree = json.loads(path.read_bytes())
    if isinstance(tree.get("all"), dict):
        tree |= tree["all"]
    path.write_text(json.dumps(tree))
    config = SimpleNamespace(min_pixels=0, counts={"listed_train": 0})
    for item in _listed(path.parent, path, config, "config.data", "train"):
        item.make()


def _use_config(path: Path) -> None:
    """A checkpoint's meta as training, prediction and evaluation take it."""
    meta = json.loads(path.read_bytes())
    try:
        config = ConfigDict(meta["config"])
    except Exception:  # of a file, it would be an error in its own code
        config = None
    if config is not None:
        _raises_of_config(config)
    check_meta(path, meta)
    network_config(path, meta)
    evaluation_config(path, meta, None)


def _raises_of_config(config: ConfigDict) -> None:
    try:
        check_config(config)
    except InputError as error:
        if not str(error).startswith("config"):
            raise AssertionError(f"an error that names no key: {error}") from error


TARGETS = {
    "pth": Target(
        damaged([pickled(), pickled(shape=(6,), strides=(1,))], _in_zip),
        read_pth,
        (InputError,),
        ".pth",
    ),
    "pth_file": Target(
        damaged([p.read_bytes() for p in sorted(RECORDED.glob("*.pth"))]),
        read_pth,
        (InputError,),
        ".pth",
    ),
    "caffemodel": Target(
        damaged(
            [
                weight_files.caffe_bytes({"a/0": TENSORS["conv/bias"]}, old=old)
                for old in (False, True)
            ]
        ),
        read_caffemodel,
        (InputError,),
        ".caffemodel",
    ),
    "h5": Target(
        damaged([_keras(), _keras(old=True), _keras(numbered=True)]),
        read_keras,
        (InputError,),
        ".h5",
    ),
    "npz": Target(
        damaged([_ours()]),
        load_weights,
        (InputError,),
        ".npz",
    ),
    "mask": Target(
        damaged(
            [
                _picture(LABELS, "png"),
                _palette(),
                _picture(LABELS.astype(np.uint16) + 300, "png"),
            ],
            png,
        ),
        read_mask,
        (InputError,),
        ".png",
    ),
    "image": Target(damaged(_pictures()), read_image, (InputError,), ".jpg"),
    "mat": Target(
        damaged(_matlab()),
        lambda path: read_matlab(path, "GTcls", "Segmentation"),
        (InputError,),
        ".mat",
    ),
    "coco": Target(damaged_trees(_coco()), _draw, (InputError,), ".json"),
    "config": Target(
        damaged_trees(_metas()), _use_config, (InputError, CheckpointError), ".json"
    ),
}
# Readers in Python, which guided.py sees into; those in C it does not.
GUIDED = ("pth_file", "caffemodel", "h5", "npz", "mat")
