import numpy as np
import pytest

from crfrnn_jax.data import shapes
from crfrnn_jax.data.scenes import make_scene
from crfrnn_jax.data.shapes import ShapesConfig, prepare_shapes


def small(**changes):
    return ShapesConfig(
        **{"num_train": 4, "num_val": 2, "size": 48, "seed": 1} | changes
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare_shapes(small(), tmp_path_factory.mktemp("tfds"))


@pytest.mark.parametrize(("number", "split", "count"), [(0, "train", 4), (1, "val", 2)])
def test_stored_scenes_are_the_drawn_ones_in_order(prepared, number, split, count):
    source = prepared[split]
    assert len(source) == count
    for i in range(count):
        image, label = make_scene(np.random.default_rng([1, number, i]), 48)
        example = source[i]
        assert example.keys() == {"image", "label", "name"}
        assert example["image"].dtype == np.uint8
        assert example["label"].dtype == np.int32
        assert example["name"] == f"{split}_{i:06d}"
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(example["label"], label)


def test_splits_share_no_scene(prepared):
    images = [
        source[i]["image"].tobytes() for source in prepared.values() for i in (0, 1)
    ]
    assert len(set(images)) == 4


def test_configs_that_differ_never_share_a_folder():
    changes = [{}, {"num_train": 42}, {"num_val": 5}, {"size": 64}, {"seed": 2}]
    assert len({small(**change).name for change in changes}) == len(changes)


def test_preparation_happens_once(tmp_path, monkeypatch):
    first = prepare_shapes(small(), tmp_path)
    monkeypatch.setattr(shapes, "make_scene", None)
    again = prepare_shapes(small(), tmp_path)
    np.testing.assert_array_equal(again["val"][1]["image"], first["val"][1]["image"])


def test_interrupted_preparation_is_started_again(tmp_path, monkeypatch):
    def interrupted(rng, size, drawn=iter(range(5))):  # noqa: B008
        next(drawn)  # runs out in the middle of the validation split
        return make_scene(rng, size)

    monkeypatch.setattr(shapes, "make_scene", interrupted)
    with pytest.raises(RuntimeError):
        prepare_shapes(small(), tmp_path)
    monkeypatch.setattr(shapes, "make_scene", make_scene)
    sources = prepare_shapes(small(), tmp_path)
    assert {split: len(source) for split, source in sources.items()} == {
        "train": 4,
        "val": 2,
    }


@pytest.mark.parametrize("pattern", ["dataset_info.json", "*val.array_record*"])
def test_damaged_files_are_named(tmp_path, pattern):
    prepare_shapes(small(), tmp_path)
    (path,) = tmp_path.rglob(pattern)
    path.unlink()
    with pytest.raises(ValueError, match=rf"{path.parent}.*remove the folder"):
        prepare_shapes(small(), tmp_path)


@pytest.mark.parametrize("field", ["num_train", "num_val", "size"])
def test_too_small_settings_are_named(field):
    with pytest.raises(ValueError, match=rf"config\.data\.{field}: .* got 0"):
        small(**{field: 0})
