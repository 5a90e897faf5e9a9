"""Made-up trees of the form in which the data sets are published."""

import json

import numpy as np
import scipy.io
from ml_collections import ConfigDict
from PIL import Image

SHAPE = (12, 16)
# Colours whose greys are not their indices.
PALETTE = [(37 * i + 11 * c) % 256 for i in range(256) for c in range(3)]


def save_image(path, shape=SHAPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (*shape, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def mask_of(label, border=255):
    """A square of a label within a border, on background: uint8 [12, 16]."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:10, 3:11] = border
    mask[3:9, 4:10] = label
    return mask


def save_list(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def save_palette(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    image.putpalette(PALETTE)
    assert image.mode == "P"
    image.save(path)


def make_voc(folder, train, val, test=()):
    """VOC 2012 under `folder`; image i has a square of label 1 + i."""
    root = folder / "VOCdevkit" / "VOC2012"
    for split, names in {"train": train, "val": val, "test": test}.items():
        if names:
            save_list(root / f"ImageSets/Segmentation/{split}.txt", names)
    for label, name in enumerate((*train, *val), 1):
        save_palette(root / f"SegmentationClass/{name}.png", mask_of(label))
    for name in (*train, *val, *test):
        save_image(root / f"JPEGImages/{name}.jpg")
    return root


def make_sbd(folder, train, val):
    """SBD under `folder`; every image has a square of label 20."""
    root = folder / "benchmark_RELEASE" / "dataset"
    save_list(root / "train.txt", train)
    save_list(root / "val.txt", val)
    (root / "cls").mkdir()
    for name in (*train, *val):
        save_image(root / f"img/{name}.jpg")
        fields = {
            "Boundaries": np.zeros((20, 1), object),
            "Segmentation": mask_of(20, border=20),
            "CategoriesPresent": np.array([[20]], np.uint8),
        }
        scipy.io.savemat(
            root / f"cls/{name}.mat", {"GTcls": fields}, do_compression=True
        )
    return root


def make_coco(folder, images, annotations, categories, split="train"):
    """COCO 2014 under `folder`, of images named by number, each 12 x 16 pixels."""
    root = folder / "coco2014"
    names = [f"COCO_{split}2014_{number:012d}.jpg" for number in images]
    for name in names:
        save_image(root / f"{split}2014/{name}")
    content = {
        "images": [
            {"id": number, "file_name": name, "height": SHAPE[0], "width": SHAPE[1]}
            for number, name in zip(images, names, strict=True)
        ],
        "annotations": annotations,
        "categories": categories,
    }
    path = root / f"annotations/instances_{split}2014.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return root


def voc_config(folder, out, **changes):
    keys = {"name": "voc2012", "dir": str(folder), "prepared_dir": str(out)}
    keys["counts"] = {"train": 0, "val": 0}
    return ConfigDict({**keys, **changes})


def sbd_config(folder, out, **changes):
    return voc_config(folder, out, **{"name": "sbd", "voc_dir": "", **changes})


def coco_config(folder, out, **changes):
    counts = {"listed_train": 0, "train": 0, "listed_val": 0, "val": 0}
    keys = {"name": "coco2014", "min_pixels": 20, "counts": counts}
    return voc_config(folder, out, **{**keys, **changes})


def names_of(source):
    return [source[i]["name"] for i in range(len(source))]
