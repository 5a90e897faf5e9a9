import numpy as np
import pytest
from trees import PALETTE, make_voc, mask_of, names_of, save_palette, voc_config

from crfrnn_jax.data import load_dataset, voc_test_images
from crfrnn_jax.data.voc import CLASS_NAMES

TRAIN, VAL, TEST = ("2007_1", "2008_1"), ("2007_2",), ("2008_9", "2008_3")


@pytest.fixture
def root(tmp_path):
    return make_voc(tmp_path, TRAIN, VAL, TEST)


def test_palette_masks_become_their_indices(root, tmp_path):
    counts = {"train": 2, "val": 1}
    data = load_dataset(voc_config(tmp_path, tmp_path / "out", counts=counts))
    assert data.num_labels == 21
    assert data.class_names[0] == "background"
    assert data.ignore_label == 255
    assert names_of(data.splits["train"]) == list(TRAIN)
    assert names_of(data.splits["val"]) == list(VAL)
    for split, i, label in (("train", 0, 1), ("train", 1, 2), ("val", 0, 3)):
        example = data.splits[split][i]
        assert 255 in example["label"]  # the border
        np.testing.assert_array_equal(example["label"], mask_of(label))


def test_class_names_are_in_the_order_of_the_labels():
    """Alphabetical, as VOC's documentation has it, and known by some of its indices."""
    assert list(CLASS_NAMES[1:]) == sorted(CLASS_NAMES[1:])
    known = {5: "bottle", 7: "car", 11: "diningtable", 15: "person", 20: "tvmonitor"}
    assert {label: CLASS_NAMES[label] for label in known} == known
    assert len(PALETTE) == 3 * 256


@pytest.mark.parametrize("place", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_folder_may_be_any_of_the_devkits(root, tmp_path, place):
    data = load_dataset(voc_config(tmp_path / place, tmp_path / "out"))
    assert len(data.splits["train"]) == 2


def test_counts_are_held_against_the_config(root, tmp_path):
    config = voc_config(tmp_path, tmp_path / "out", counts={"train": 1464, "val": 0})
    with pytest.raises(ValueError, match=r"counts\.train: expected 1464 .*found 2;"):
        load_dataset(config)
    assert not (tmp_path / "out").exists()  # before anything is made


def test_missing_data_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"VOCtrainval_11-May-2012\.tar"):
        load_dataset(voc_config(tmp_path, tmp_path / "out"))


def test_a_mask_of_no_class_is_an_error(root, tmp_path):
    save_palette(root / "SegmentationClass/2008_1.png", mask_of(21))
    with pytest.raises(ValueError, match=r"2008_1\.jpg: .*below 21 .*got \[21\]"):
        load_dataset(voc_config(tmp_path, tmp_path / "out"))


def test_a_missing_mask_is_named(root, tmp_path):
    (root / "SegmentationClass/2008_1.png").unlink()
    with pytest.raises(ValueError, match=r"2008_1\.png: expected a readable image"):
        load_dataset(voc_config(tmp_path, tmp_path / "out"))


def test_test_images_alone_need_no_masks(tmp_path):
    make_voc(tmp_path, (), (), TEST)
    assert [name for name, _ in voc_test_images(tmp_path, count=2)] == list(TEST)
    config = voc_config(tmp_path, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"VOC2012, got no SegmentationClass\n"):
        load_dataset(config)


def test_test_images_are_listed_without_masks(root, tmp_path):
    images = voc_test_images(tmp_path, count=2)
    assert images == [(name, root / f"JPEGImages/{name}.jpg") for name in TEST]
    assert voc_test_images(tmp_path, count=0) == images
    with pytest.raises(ValueError, match=r"test\.txt: expected 1456 images, found 2"):
        voc_test_images(tmp_path)
    images[1][1].unlink()
    with pytest.raises(FileNotFoundError, match=r"2008_3\.jpg: .*\n.*not downloaded"):
        voc_test_images(tmp_path, count=2)
    (root / "ImageSets/Segmentation/test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.txt: .*\n.*not downloaded"):
        voc_test_images(tmp_path)
