import numpy as np
import pytest
import scipy.io
from trees import SHAPE, names_of, save_image, save_list, voc_config

from crfrnn_jax.data import load_dataset
from crfrnn_jax.data.context import CLASS_NAMES, label_table

# As published; the list of the categories spells three classes otherwise.
PUBLISHED = {"aeroplane": 2, "bedclothes": 19, "cloth": 80, "person": 284}
PUBLISHED |= {"table": 397, "wood": 458, "wool": 459}


@pytest.fixture
def root(tmp_path):
    """Pascal Context under `tmp_path`, with labels.txt of 459 categories."""
    others = {"diningtable", "bedcloth", "clothes", *PUBLISHED}
    rest = iter([name for name in CLASS_NAMES if name not in others])
    names = {number: name for name, number in PUBLISHED.items()}
    lines = [
        f"{number}: {names.get(number) or next(rest, f'other {number}')}"
        for number in range(1, 460)
    ]
    save_list(tmp_path / "labels.txt", lines)
    voc = tmp_path / "VOCdevkit" / "VOC2010"
    (tmp_path / "trainval").mkdir()
    for split, names_of_split in {"train": ("a", "b"), "val": ("c",)}.items():
        save_list(voc / f"ImageSets/Main/{split}.txt", names_of_split)
        for name in names_of_split:
            save_image(voc / f"JPEGImages/{name}.jpg")
            save_map(tmp_path, name, np.full(SHAPE, 284))
    return tmp_path


def save_map(root, name, categories):
    content = {"LabelMap": categories.astype(np.uint16)}
    scipy.io.savemat(root / f"trainval/{name}.mat", content)


def config(root, **changes):
    keys = {"name": "pascal_context", "voc_dir": "", **changes}
    return voc_config(root, root / "out", **keys)


def test_59_classes_without_background(root):
    categories = np.full(SHAPE, 284)
    categories[0] = 0  # not labelled
    categories[1] = 459  # wool, which is none of the 59
    categories[2] = 397
    categories[3] = 19
    categories[4] = 80
    categories[5] = 2
    categories[6] = 458
    save_map(root, "b", categories)
    counts = {"train": 2, "val": 1}
    data = load_dataset(config(root, counts=counts))
    assert data.num_labels == 59
    assert data.ignore_label == 255
    assert names_of(data.splits["train"]) == ["a", "b"]
    assert names_of(data.splits["val"]) == ["c"]
    label = data.splits["train"][1]["label"]
    assert (label[:2] == 255).all()
    rows = ["diningtable", "bedcloth", "clothes", "aeroplane", "wood", "person"]
    assert [CLASS_NAMES[row[0]] for row in label[2:8]] == rows
    assert (label == label[:, :1]).all()
    assert label[5, 0] == 0


def test_every_class_has_one_category(root):
    table = label_table(root / "labels.txt")
    assert table.shape == (460,)
    assert sorted(table[table != 255]) == list(range(59))
    assert len(set(CLASS_NAMES)) == 59


def test_a_class_without_a_category_is_an_error(root):
    path = root / "labels.txt"
    path.write_text(path.read_text().replace(": table", ": desk"))
    with pytest.raises(ValueError, match=r"labels\.txt: .*'table', got none"):
        load_dataset(config(root))


def test_a_category_that_is_not_listed_names_the_file(root):
    save_map(root, "c", np.full(SHAPE, 460))
    with pytest.raises(ValueError, match=r"c\.mat: .*0\.\.459, got \[460\]"):
        load_dataset(config(root))


def test_another_variable_names_the_file(root):
    scipy.io.savemat(root / "trainval/c.mat", {"labelmap": np.ones(SHAPE)})
    with pytest.raises(ValueError, match=r"c\.mat: .*with LabelMap"):
        load_dataset(config(root))


def test_counts_and_missing_data(root, tmp_path):
    with pytest.raises(ValueError, match=r"counts\.val: expected 5105 .* found 1"):
        load_dataset(config(root, counts={"train": 0, "val": 5105}))
    for key in ("dir", "voc_dir"):
        with pytest.raises(FileNotFoundError, match=rf"data\.{key}: (.*\n)*.*roozbeh"):
            load_dataset(config(root, **{key: str(tmp_path / "nowhere")}))
