import numpy as np
import pytest
from trees import make_sbd, make_voc, mask_of, names_of, save_list, sbd_config

from crfrnn_jax.data import load_dataset

# Of VOC's validation images, SBD holds one in its "train" and one in its "val".
VOC_TRAIN, VOC_VAL = ("2007_1", "2008_1"), ("2007_2", "2008_2", "2008_3", "2007_4")
SBD_TRAIN, SBD_VAL = ("2008_2", "2008_7"), ("2008_3", "2008_1")


@pytest.fixture
def root(tmp_path):
    make_voc(tmp_path, VOC_TRAIN, VOC_VAL)
    return make_sbd(tmp_path, SBD_TRAIN, SBD_VAL)


def test_training_images_are_all_of_sbd(root, tmp_path):
    counts = {"train": 4, "val": 2}
    data = load_dataset(sbd_config(tmp_path, tmp_path / "out", counts=counts))
    source = data.splits["train"]
    assert names_of(source) == [*SBD_TRAIN, *SBD_VAL]
    for i in range(4):
        np.testing.assert_array_equal(source[i]["label"], mask_of(20, border=20))
    assert data.num_labels == 21
    assert data.ignore_label == 255


def test_validation_images_are_those_of_voc_that_sbd_lacks(root, tmp_path):
    source = load_dataset(sbd_config(tmp_path, tmp_path / "out")).splits["val"]
    assert names_of(source) == ["2007_2", "2007_4"]
    # With VOC's masks, where the validation images hold labels 3 to 6.
    np.testing.assert_array_equal(source[0]["label"], mask_of(3))
    np.testing.assert_array_equal(source[1]["label"], mask_of(6))


def test_reduced_validation_split_must_count_what_the_config_says(root, tmp_path):
    counts = {"train": 4, "val": 346}
    config = sbd_config(tmp_path, tmp_path / "out", counts=counts)
    with pytest.raises(ValueError, match=r"counts\.val: expected 346 images, found 2"):
        load_dataset(config)


@pytest.mark.parametrize(
    "place", [".", "benchmark_RELEASE", "benchmark_RELEASE/dataset"]
)
def test_the_folders_may_lie_apart(root, tmp_path, place):
    config = sbd_config(tmp_path / place, tmp_path / "out", voc_dir=str(tmp_path))
    assert len(load_dataset(config).splits["val"]) == 2


def test_missing_data_says_where_to_get_it(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"data\.dir: .*\n(.*\n)*.*benchmark\.t"
    ):
        load_dataset(sbd_config(tmp_path, tmp_path / "out"))
    make_sbd(tmp_path, SBD_TRAIN, SBD_VAL)
    with pytest.raises(FileNotFoundError, match=r"data\.voc_dir: .*\n.*VOC 2012"):
        load_dataset(sbd_config(tmp_path, tmp_path / "out"))


def test_a_damaged_mask_is_named(root, tmp_path):
    path = root / "cls/2008_7.mat"
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(ValueError, match=r"2008_7\.mat: .*GTcls\.Segmentation"):
        load_dataset(sbd_config(tmp_path, tmp_path / "out"))


def test_an_image_in_both_lists_is_an_error(root, tmp_path):
    save_list(root / "val.txt", ["2008_2"])
    with pytest.raises(ValueError, match=r"no image in both train\.txt and val\.txt"):
        load_dataset(sbd_config(tmp_path, tmp_path / "out"))
