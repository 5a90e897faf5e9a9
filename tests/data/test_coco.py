import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as rle_masks
from trees import SHAPE, coco_config, make_coco, names_of

from crfrnn_jax.data import load_dataset
from crfrnn_jax.data.coco import Instance, draw_mask
from crfrnn_jax.data.voc import CLASS_NAMES

# As COCO has them, and some more, with ids that are in no order.
NAMES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck"),
    *("boat", "bird", "cat", "dog", "horse", "sheep", "cow", "bottle", "chair"),
    *("couch", "potted plant", "dining table", "tv", "zebra"),
)
CATEGORIES = [{"id": 90 - 2 * i, "name": name} for i, name in enumerate(NAMES)]
IDS = {category["name"]: category["id"] for category in CATEGORIES}


def box(top, left, bottom, right):
    """A polygon of the pixels with top <= row < bottom and left <= column < right."""
    return [left, top, right, top, right, bottom, left, bottom]


def boxed(top, left, bottom, right):
    mask = np.zeros(SHAPE, bool)
    mask[top:bottom, left:right] = True
    return mask


def runs(mask):
    """COCO's run lengths, column by column, beginning with the background's."""
    counts, value = [0], 0
    for pixel in mask.flatten(order="F"):
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def compressed(mask):
    encoded = rle_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(SHAPE), "counts": encoded["counts"].decode()}


def annotation(image, name, segmentation, iscrowd=0):
    keys = {"image_id": image, "category_id": IDS[name], "iscrowd": iscrowd}
    return {**keys, "segmentation": segmentation}


def draw(*instances):
    return draw_mask([Instance(*one) for one in instances], *SHAPE)


def test_every_form_of_a_segmentation_is_the_same_mask():
    expected = np.where(boxed(2, 3, 9, 12), 7, 0)
    for segmentation in (
        [box(2, 3, 9, 12)],
        [box(2, 3, 9, 6), box(2, 6, 9, 12)],  # an object in two parts
        runs(boxed(2, 3, 9, 12)),
        compressed(boxed(2, 3, 9, 12)),
    ):
        mask = draw((7, False, segmentation))
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected)


def test_smaller_instances_lie_over_larger_ones_and_both_over_crowds():
    large, small = (11, False, [box(0, 0, 10, 10)]), (5, False, [box(2, 2, 5, 5)])
    crowd = (15, True, runs(boxed(0, 5, 4, 16)))
    expected = np.zeros(SHAPE, int)
    expected[0:4, 5:16] = 255
    expected[0:10, 0:10] = 11
    expected[2:5, 2:5] = 5
    for order in ((large, small, crowd), (crowd, small, large), (small, crowd, large)):
        np.testing.assert_array_equal(draw(*order), expected)
    # The small crowd does not hide the large object.
    crowd = (15, True, runs(boxed(4, 4, 6, 6)))
    assert (draw(large, crowd)[4:6, 4:6] == 11).all()


def test_no_instances_is_background():
    assert not draw().any()


@pytest.fixture
def folder(tmp_path):
    annotations = [
        annotation(9, "airplane", [box(0, 0, 4, 4)]),
        annotation(9, "potted plant", [box(4, 4, 12, 8)]),
        annotation(9, "zebra", [box(0, 8, 12, 16)]),
        annotation(25, "person", [box(0, 0, 4, 5)]),  # 20 pixels
        annotation(30, "person", [box(0, 0, 1, 19 - 3)]),  # 16
        annotation(34, "person", runs(boxed(0, 0, 12, 16)), iscrowd=1),
        annotation(36, "zebra", [box(0, 0, 12, 16)]),
        annotation(42, "tv", compressed(boxed(3, 3, 12, 16))),
        annotation(42, "couch", runs(boxed(0, 0, 2, 16)), iscrowd=1),
    ]
    make_coco(tmp_path, [25, 9, 30, 34, 36, 42, 49], annotations, CATEGORIES)
    make_coco(
        tmp_path, [7], [annotation(7, "cat", [box(0, 0, 9, 9)])], CATEGORIES, "val"
    )
    return tmp_path


def test_masks_of_a_tree(folder):
    counts = {"listed_train": 7, "train": 3, "listed_val": 1, "val": 1}
    data = load_dataset(coco_config(folder, folder / "out", counts=counts))
    assert data.class_names == CLASS_NAMES
    assert data.ignore_label == 255
    train = data.splits["train"]
    names = [f"COCO_train2014_{number:012d}" for number in (25, 9, 42)]
    assert names_of(train) == names
    expected = np.zeros(SHAPE, int)
    expected[0:4, 0:4] = CLASS_NAMES.index("aeroplane")
    expected[4:12, 4:8] = CLASS_NAMES.index("pottedplant")
    np.testing.assert_array_equal(train[1]["label"], expected)
    expected = np.zeros(SHAPE, int)
    expected[3:12, 3:16] = CLASS_NAMES.index("tvmonitor")
    expected[0:2] = 255
    np.testing.assert_array_equal(train[2]["label"], expected)
    assert names_of(data.splits["val"]) == ["COCO_val2014_000000000007"]


def test_every_class_has_a_category(tmp_path):
    others = {
        "aeroplane": "airplane",
        "diningtable": "dining table",
        "motorbike": "motorcycle",
        "pottedplant": "potted plant",
        "sofa": "couch",
        "tvmonitor": "tv",
    }
    annotations = [
        annotation(number, others.get(name, name), [box(0, 0, 12, 16)])
        for number, name in enumerate(CLASS_NAMES[1:], 1)
    ]
    for split in ("train", "val"):
        make_coco(tmp_path, range(1, 21), annotations, CATEGORIES, split)
    data = load_dataset(coco_config(tmp_path, tmp_path / "out"))
    source = data.splits["train"]
    assert [source[i]["label"].max() for i in range(20)] == list(range(1, 21))


def test_the_least_number_of_pixels(folder):
    out = folder / "out"
    for least, count in ((0, 7), (17, 3), (21, 2), (200, 0)):
        config = coco_config(folder, out, min_pixels=least)
        assert len(load_dataset(config).splits["train"]) == count
    with pytest.raises(ValueError, match=r"config\.data\.min_pixels: .* got -1"):
        load_dataset(coco_config(folder, out, min_pixels=-1))


@pytest.mark.parametrize("name", ["listed_train", "train", "listed_val", "val"])
def test_counts(folder, name):
    counts = {"listed_train": 7, "train": 3, "listed_val": 1, "val": 1}
    config = coco_config(folder, folder / "out", counts={**counts, name: 99})
    with pytest.raises(ValueError, match=rf"data\.counts\.{name}: expected 99"):
        load_dataset(config)


def test_changed_annotations_are_noticed(folder):
    config = coco_config(folder, folder / "out")
    load_dataset(config)
    path = folder / "coco2014/annotations/instances_train2014.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = [box(0, 0, 2, 4)]
    path.write_text(json.dumps(content))
    label = load_dataset(config).splits["train"][1]["label"]
    assert (label == CLASS_NAMES.index("aeroplane")).sum() == 8


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 4, 4]], "polygons of three points or more"),
        ([[0, 0, 4, 4, 4, 0, 1]], "polygons of three points or more"),
        ([], "polygons of three points or more"),
        ({"size": [12, 15], "counts": [180]}, r"size \[12, 16\], got \[12, 15\]"),
        ({"size": [12, 16], "counts": [180]}, "runs of 192 pixels"),
        # What pycocotools would write beyond the mask, or from before it.
        ({"size": [12, 16], "counts": [-8, 200]}, "runs of 0 pixels or more"),
        ({"size": [12, 16], "counts": "0`l0"}, "runs of 192 pixels"),
        ({"size": [12, 16], "counts": "@@@@"}, "runs of 0 pixels or more"),
        ({"size": [12, 16], "counts": "o" * 20}, "COCO's compressed form"),
        ({"size": [12, 16], "counts": "0P"}, "COCO's compressed form, whole"),
        ([[0, 0, 1e9, 0, 4, 4]], "points of the image's 12 x 16 pixels, got 1000000"),
        ([[0, 0, float("nan"), 0, 4, 4]], "points of the image's .*, got nan"),
        ("text", "COCO_train2014_000000000025"),
    ],
)
def test_a_bad_annotation_names_file_and_image(tmp_path, segmentation, message):
    make_coco(tmp_path, [25], [annotation(25, "cat", segmentation)], CATEGORIES)
    pattern = r"instances_train2014\.json: image COCO_train2014_0{10}25\.jpg: .*"
    with pytest.raises(ValueError, match=pattern) as caught:
        load_dataset(coco_config(tmp_path, tmp_path / "out"))
    if segmentation != "text":
        caught.match(message)


@given(st.lists(st.integers(1, 70), min_size=1, max_size=12))
def test_compressed_runs_are_those_of_pycocotools(lengths):
    flat = np.repeat(np.arange(len(lengths)) % 2, lengths)
    mask = flat.reshape(len(flat), 1).astype(bool)
    encoded = rle_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    segmentation = {"size": list(mask.shape), "counts": encoded["counts"].decode()}
    drawn = draw_mask([Instance(1, False, segmentation)], *mask.shape)
    np.testing.assert_array_equal(drawn, mask)


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "x/a.jpg", "", 5])
def test_no_file_outside_of_the_images_is_named(tmp_path, name):
    root = make_coco(tmp_path, [1], [], CATEGORIES)
    path = root / "annotations/instances_train2014.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances_train2014\.json: expected "):
        load_dataset(coco_config(tmp_path, tmp_path / "out"))


def test_two_images_of_one_name_would_share_a_mask(tmp_path):
    make_coco(tmp_path, [1, 1], [], CATEGORIES)
    with pytest.raises(ValueError, match=r"train2014\.json: expected each image once"):
        load_dataset(coco_config(tmp_path, tmp_path / "out"))


def test_an_image_of_more_pixels_than_are_read_has_no_mask(tmp_path):
    root = make_coco(tmp_path, [1], [], CATEGORIES)
    path = root / "annotations/instances_train2014.json"
    content = json.loads(path.read_text())
    content["images"][0].update(height=10**6, width=10**6)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"expected at most 268435456 pixels"):
        load_dataset(coco_config(tmp_path, tmp_path / "out"))


@pytest.mark.parametrize(
    "content", ["{", "[" * 100_000, "[]", "{}", '{"categories": 3}']
)
def test_a_damaged_json_is_named(folder, content):
    path = folder / "coco2014/annotations/instances_train2014.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"instances_train2014\.json: expected "):
        load_dataset(coco_config(folder, folder / "out"))


def test_a_missing_category_is_named(tmp_path):
    make_coco(tmp_path, [1], [], [one for one in CATEGORIES if one["name"] != "couch"])
    with pytest.raises(ValueError, match=r"train2014\.json: .* category 'couch'"):
        load_dataset(coco_config(tmp_path, tmp_path / "out"))


def test_a_missing_image_is_named(folder):
    (folder / "coco2014/train2014/COCO_train2014_000000000042.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"0042\.jpg: expected an image"):
        load_dataset(coco_config(folder, folder / "out"))


def test_missing_data_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"(.*\n)*.*annotations_trainval2014"):
        load_dataset(coco_config(tmp_path, tmp_path / "out"))
