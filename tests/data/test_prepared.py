import json
import time
from functools import partial

import numpy as np
import pytest
from PIL import Image
from trees import SHAPE, mask_of, save_image

from crfrnn_jax.data.prepared import Item, prepare

MADE_FROM = {"data_set": "squares", "split": "train", "rule": 1}
NAMES = ("one", "two", "three", "four", "five", "six")


class Maker:
    """Items of made-up images, and a record of the masks that were made."""

    def __init__(self, folder):
        self.images = {name: folder / f"{name}.jpg" for name in NAMES}
        self.masks = {name: mask_of(i) for i, name in enumerate(NAMES)}
        self.made = []
        for image in self.images.values():
            save_image(image)

    def make(self, name):
        mask = self.masks[name]
        if isinstance(mask, Exception):
            raise mask
        self.made.append(name)
        return mask

    def items(self):
        for name in NAMES:
            yield Item(name, self.images[name], partial(self.make, name))


@pytest.fixture
def maker(tmp_path):
    return Maker(tmp_path / "raw")


@pytest.fixture
def run(tmp_path, maker):
    return lambda made_from=MADE_FROM: prepare(
        tmp_path / "out", made_from, maker.items(), 6
    )


def index_of(tmp_path):
    return next((tmp_path / "out" / "squares").glob("train-*")) / "index.json"


def test_examples_come_in_the_order_of_the_items(run, maker, tmp_path):
    source = run()
    assert len(source) == 6
    for i, name in enumerate(NAMES):
        example = source[i]
        assert example["name"] == name
        assert example["image"].shape == (*SHAPE, 3)
        assert example["image"].dtype == np.uint8
        assert example["label"].dtype == np.int32
        np.testing.assert_array_equal(example["label"], mask_of(i))
    with Image.open(source.examples[1].mask) as mask:
        assert mask.mode == "L"
    index = json.loads(index_of(tmp_path).read_text())
    assert (index["listed"], index["prepared"]) == (6, 6)
    assert index["made_from"] == {**MADE_FROM, "version": 2}
    assert not [path for path in tmp_path.rglob(".*")]


def test_a_second_time_nothing_is_listed_or_made(run, maker):
    first = run().examples
    maker.items = lambda: (pytest.fail("listed again") for _ in range(1))
    assert run().examples == first
    assert sorted(maker.made) == sorted(NAMES)


def test_what_was_interrupted_goes_on_where_it_stopped(run, maker, tmp_path):
    good, maker.masks["four"] = maker.masks["four"], RuntimeError("stopped")
    with pytest.raises(RuntimeError, match="stopped"):
        run()
    done = set(maker.made)
    assert "four" not in done
    assert "one" in done
    assert not index_of(tmp_path).exists()  # half is not taken for whole
    maker.made, maker.masks["four"] = [], good
    source = run()
    assert set(maker.made) == set(NAMES) - done
    np.testing.assert_array_equal(source[3]["label"], mask_of(3))
    np.testing.assert_array_equal(source[0]["label"], mask_of(0))


def test_an_error_stops_the_rest(maker, tmp_path):
    def make(i):
        time.sleep(0.01)
        made.append(i)
        if i == 0:
            raise RuntimeError("stopped")
        return mask_of(1)

    made = []
    items = [Item(f"{i}", maker.images["one"], partial(make, i)) for i in range(1000)]
    with pytest.raises(RuntimeError, match="stopped"):
        prepare(tmp_path / "out", MADE_FROM, items, 6)
    assert len(made) < 200


def test_a_truncated_mask_of_an_interrupted_run_is_made_again(run, maker, tmp_path):
    source = run()
    index_of(tmp_path).unlink()
    mask = source.examples[2].mask
    mask.write_bytes(mask.read_bytes()[:-20])
    maker.made = []
    np.testing.assert_array_equal(run()[2]["label"], mask_of(2))
    assert maker.made == ["three"]


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_a_mask_damaged_since_is_made_again(run, maker, damage):
    mask = run().examples[2].mask
    if damage == "cut":
        mask.write_bytes(mask.read_bytes()[:-20])
    else:
        mask.unlink()
    maker.made = []
    np.testing.assert_array_equal(run()[2]["label"], mask_of(2))
    assert maker.made == ["three"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"examples": [{}]}'])
def test_a_damaged_index_is_written_again(run, maker, tmp_path, content):
    run()
    index_of(tmp_path).write_text(content)
    maker.made = []
    assert len(run()) == 6
    assert maker.made == []
    assert json.loads(index_of(tmp_path).read_text())["prepared"] == 6


def test_masks_made_from_something_else_are_apart(run, maker):
    first = run().examples
    maker.masks["one"] = mask_of(5)
    other = run({**MADE_FROM, "rule": 2})
    assert other.examples[0].mask != first[0].mask
    np.testing.assert_array_equal(other[0]["label"], mask_of(5))
    np.testing.assert_array_equal(run()[0]["label"], mask_of(0))


def test_items_without_a_mask_are_left_out(run, maker, tmp_path):
    maker.masks["two"] = maker.masks["six"] = None
    expected = ["one", "three", "four", "five"]
    for _ in range(2):
        assert [example.name for example in run().examples] == expected
    index = json.loads(index_of(tmp_path).read_text())
    assert (index["listed"], index["prepared"]) == (6, 4)


def test_an_image_gone_since_is_named(run, maker):
    run()
    maker.images["five"].unlink()
    with pytest.raises(FileNotFoundError, match=r"five\.jpg: .*index\.json lists"):
        run()


def test_an_image_changed_since_is_named(run, maker, tmp_path):
    run()
    save_image(maker.images["five"], (24, 32))
    with pytest.raises(ValueError, match=r"five\.jpg: .*prepared, got .*; remove") as e:
        run()
    assert str(index_of(tmp_path).parent) in str(e.value)


def test_a_missing_image_is_named(run, maker):
    maker.images["five"].unlink()
    with pytest.raises(FileNotFoundError, match=r"five\.jpg: expected an image"):
        run()


def test_a_damaged_image_is_named(run, maker):
    maker.images["five"].write_bytes(maker.images["five"].read_bytes()[:200])
    with pytest.raises(ValueError, match=r"five\.jpg: expected a readable image"):
        run()


def test_images_are_as_they_are_stored(run, maker):
    image = Image.open(maker.images["one"]).copy()
    exif = Image.Exif()
    exif[0x0112] = 3  # shown upside down
    image.save(maker.images["one"], exif=exif, quality=95)
    np.testing.assert_array_equal(
        run()[0]["image"], np.asarray(Image.open(maker.images["one"]))
    )


def test_a_label_out_of_range_names_the_image(run, maker):
    maker.masks["two"] = mask_of(6)
    with pytest.raises(ValueError, match=r"two\.jpg: .*below 6 or 255, got \[6\] in "):
        run()


def test_a_mask_of_another_size_names_the_image(run, maker):
    maker.masks["two"] = mask_of(1).T
    with pytest.raises(ValueError, match=r"two\.jpg: .*\[12, 16\], got \[16, 12\]"):
        run()


def test_without_a_folder_the_users_cache_is_used(maker, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = prepare("", MADE_FROM, maker.items(), 6)
    place = tmp_path / "cache" / "crfrnn_jax" / "prepared" / "squares"
    assert source.examples[0].mask.is_relative_to(place)
