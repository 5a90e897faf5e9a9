import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from crfrnn_jax.data import load_dataset, train_batches


def test_shapes_from_a_config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keys = {"name": "shapes", "num_train": 3, "num_val": 1, "size": 48, "seed": 0}
    data = load_dataset(ConfigDict({**keys, "dir": ""}))
    assert data.num_labels == len(data.class_names) == 8
    assert data.ignore_label == 255
    assert {split: len(source) for split, source in data.splits.items()} == {
        "train": 3,
        "val": 1,
    }
    assert (tmp_path / "crfrnn_jax" / "tfds").is_dir()
    augment = ConfigDict({"flip": True, "scale": (0.8, 1.2), "color": 0.2})
    iterator = train_batches(data, batch_size=2, crop=(32, 32), augment=augment, seed=0)
    assert next(iterator)["image"].shape == (2, 32, 32, 3)
    iterator.close()


def test_folder_from_a_config(tmp_path):
    for split in ("train", "val"):
        for kind, shape in (("images", (5, 6, 3)), ("labels", (5, 6))):
            (tmp_path / split / kind).mkdir(parents=True)
            image = Image.fromarray(np.ones(shape, np.uint8))
            image.save(tmp_path / split / kind / "one.png")
    config = {"name": "folder", "dir": str(tmp_path), "ignore_label": 9}
    data = load_dataset(ConfigDict({**config, "class_names": ("sky", "sea")}))
    assert data.class_names == ("sky", "sea")
    assert data.ignore_label == 9
    assert (data.splits["val"][0]["label"] == 1).all()


def test_unknown_name_is_an_error():
    with pytest.raises(ValueError, match=r"config\.data\.name: .*shapes.*got 'voc'"):
        load_dataset(ConfigDict({"name": "voc"}))


def test_missing_key_is_an_error():
    shapes = {"name": "shapes", "num_train": 1, "num_val": 1, "size": 32, "dir": ""}
    with pytest.raises(ValueError, match=r"config\.data: expected .*, got no seed; a"):
        load_dataset(ConfigDict(shapes))
    with pytest.raises(ValueError, match=r"'voc2012', got no prepared_dir, counts; .*"):
        load_dataset(ConfigDict({**shapes, "name": "voc2012"}))


def test_one_string_for_the_class_names_is_an_error():
    """As of a tuple without its comma: it would be taken for one class a letter."""
    config = {"name": "folder", "dir": "x", "class_names": ("box"), "ignore_label": 9}
    with pytest.raises(ValueError, match=r"config\.data\.class_names: .*tuple.*'box'"):
        load_dataset(ConfigDict(config))


def test_folder_without_a_place_is_an_error():
    config = {"name": "folder", "dir": "", "class_names": ("a",), "ignore_label": 9}
    with pytest.raises(ValueError, match=r"config\.data\.dir: expected the folder"):
        load_dataset(ConfigDict(config))
