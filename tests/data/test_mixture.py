import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_coco import CATEGORIES, annotation, box
from trees import (
    coco_config,
    make_coco,
    make_sbd,
    make_voc,
    mask_of,
    names_of,
    save_image,
    save_list,
    sbd_config,
    voc_config,
)

from configs import paper_data
from crfrnn_jax.data import load_dataset

ROOT = Path(__file__).parents[2]
VOC_TRAIN, VOC_VAL = ("2007_1", "2008_1"), ("2007_2", "2008_2", "2008_3")
SBD_TRAIN, SBD_VAL = ("2008_2", "2008_7"), ("2008_3", "2008_1")
COCO = "COCO_train2014_000000000009"


@pytest.fixture
def folder(tmp_path):
    make_voc(tmp_path, VOC_TRAIN, VOC_VAL)
    make_sbd(tmp_path, SBD_TRAIN, SBD_VAL)
    make_coco(tmp_path, [9], [annotation(9, "cat", [box(0, 0, 9, 9)])], CATEGORIES)
    return tmp_path


def mixture(folder, **changes):
    parts = {"voc": voc_config("", ""), "sbd": sbd_config("", "")}
    parts["coco"] = coco_config("", "")
    keys = {"name": "mixture", "parts": parts, "val": "sbd", "train": ("voc", "sbd")}
    return voc_config(folder, folder / "out", **{**keys, **changes})


def test_the_first_part_of_an_image_counts(folder):
    data = load_dataset(mixture(folder, counts={"train": 5, "val": 1}))
    train, val = data.splits["train"], data.splits["val"]
    assert names_of(train) == ["2007_1", "2008_1", "2008_2", "2008_7", "2008_3"]
    assert names_of(val) == ["2007_2"]
    # The image in both has VOC's mask, with its border; that of SBD alone has SBD's.
    np.testing.assert_array_equal(train[1]["label"], mask_of(2))
    np.testing.assert_array_equal(train[4]["label"], mask_of(20, border=20))
    np.testing.assert_array_equal(val[0]["label"], mask_of(3))
    assert data.num_labels == 21


def test_the_order_of_the_parts_is_that_of_the_key(folder):
    train = load_dataset(mixture(folder, train=("sbd", "voc"))).splits["train"]
    assert names_of(train) == [*SBD_TRAIN, *SBD_VAL, "2007_1"]
    np.testing.assert_array_equal(train[3]["label"], mask_of(20, border=20))


def test_validation_images_are_not_trained_on(folder):
    data = load_dataset(mixture(folder, val="voc"))
    assert names_of(data.splits["val"]) == list(VOC_VAL)
    assert names_of(data.splits["train"]) == ["2007_1", "2008_1", "2008_7"]


def test_a_part_to_train_on_and_another_to_validate_on(folder):
    # COCO's validation images are not there, nor needed.
    data = load_dataset(mixture(folder, train=("coco",)))
    assert names_of(data.splits["train"]) == [COCO]
    assert names_of(data.splits["val"]) == ["2007_2"]


def test_parts_may_have_their_own_folders(folder, tmp_path):
    parts = {"voc": voc_config(folder, tmp_path / "elsewhere")}
    config = mixture(folder, parts=parts, train=("voc",), val="voc", dir="")
    data = load_dataset(config)
    assert names_of(data.splits["train"]) == list(VOC_TRAIN)
    masks = [example.mask for example in data.splits["train"].examples]
    assert all(mask.is_relative_to(tmp_path / "elsewhere") for mask in masks)
    assert config.parts.voc.dir == str(folder)  # the config is left as it was
    config = mixture(folder)
    load_dataset(config)
    assert config.parts.voc.dir == ""


def test_count_of_the_mixture(folder):
    config = mixture(folder, counts={"train": 11685, "val": 1})
    with pytest.raises(ValueError, match=r"counts\.train: expected 11685 .* found 5"):
        load_dataset(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": ("voc", "sdb")}, r"config\.data\.train: .*got 'sdb'"),
        ({"train": ("voc")}, r"config\.data\.train: .*in a tuple.*got 'voc'"),
        ({"train": ()}, r"config\.data\.train: .*got \(\)"),
        ({"val": "x"}, r"config\.data\.val: .*got 'x'"),
    ],
)
def test_wrong_keys_are_named(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(mixture(folder, **changes))


def test_errors_of_a_part_name_its_key(folder):
    config = mixture(folder)
    config.parts.sbd.counts.train = 9
    with pytest.raises(
        ValueError, match=r"data\.parts\.sbd\.counts\.train: expected 9"
    ):
        load_dataset(config)
    del config.parts.sbd.counts
    with pytest.raises(
        ValueError, match=r"data\.parts\.sbd: expected .* got no counts;"
    ):
        load_dataset(config)
    config.parts.sbd.name = "mixture"
    with pytest.raises(ValueError, match=r"data\.parts\.sbd\.name: .*got 'mixture'"):
        load_dataset(config)
    config = mixture(folder, dir="")
    with pytest.raises(ValueError, match=r"data\.parts\.sbd\.dir: .*none\nSBD is not"):
        load_dataset(config)


def test_parts_of_other_classes_are_an_error(folder):
    from crfrnn_jax.data.context import CLASS_NAMES

    spelled = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
    names = [spelled.get(name, name) for name in CLASS_NAMES]
    save_list(folder / "labels.txt", [f"{i}: {n}" for i, n in enumerate(names, 1)])
    (folder / "trainval").mkdir()
    voc = folder / "VOCdevkit/VOC2010"
    save_list(voc / "ImageSets/Main/train.txt", [])
    save_image(voc / "JPEGImages/a.jpg")
    config = mixture(folder)
    config.parts.context = sbd_config("", "", name="pascal_context")
    config.train = ("voc", "context")
    with pytest.raises(
        ValueError, match=r"parts\.context: expected the classes of part"
    ):
        load_dataset(config)


@pytest.mark.parametrize("variant", paper_data.VARIANTS)
def test_the_papers_mixtures(folder, variant):
    config = paper_data.get_config(variant).data
    config.update({"dir": str(folder), "prepared_dir": str(folder / "out")})
    with pytest.raises(ValueError, match=r"parts\.sbd\.counts\.val: expected 346 "):
        load_dataset(config)
    config.counts = {"train": 0, "val": 0}
    config.parts.coco.min_pixels = 20
    for part in config.parts.values():
        part.counts = ConfigDict(dict.fromkeys(part.counts, 0))
    count = {"voc_sbd": 5, "coco": 1, "voc_sbd_coco": 6}[variant]
    assert len(load_dataset(config).splits["train"]) == count
    assert paper_data.VARIANTS["voc_sbd_coco"][1] == 11685 + 66099


def test_the_examples_in_the_documentation_are_the_configs():
    text = (ROOT / "docs" / "data.md").read_text()
    data = paper_data.get_data()
    del data.parts.coco
    for example, expected in zip(
        re.findall(r"```python\n(.*?)```", text, re.DOTALL),
        (
            paper_data.get_data().parts.coco,
            data,
            paper_data.get_data("voc_sbd_coco"),
        ),
        strict=True,
    ):
        config = ConfigDict()
        exec(example, {"ConfigDict": ConfigDict, "config": config})
        assert config.data == expected


def test_prepare_script(folder):
    keys = [f"data.{key}=0" for key in ("counts.train", "counts.val")]
    keys += [
        f"data.parts.{part}.counts.{split}=0"
        for part in ("voc", "sbd")
        for split in ("train", "val")
    ]
    keys += [f"data.dir={folder}", f"data.prepared_dir={folder / 'out'}"]
    config = f"--config={ROOT / 'configs/paper_data.py'}"
    command = [sys.executable, ROOT / "prepare.py", config]
    command += [f"--config.{key}" for key in keys]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "train: 5 images\nval: 1 images" in done.stdout
    assert "sbd train" in done.stdout  # progress
    assert len(list((folder / "out").rglob("index.json"))) == 3
