from types import SimpleNamespace

import numpy as np
import pytest

from crfrnn_jax.data import SegmentationData, eval_examples, train_batches


class Numbered:
    """Examples whose label is their own index everywhere."""

    def __init__(self, count, size):
        self.count, self.size = count, size

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {
            "image": np.random.default_rng(index).integers(
                0, 256, (*self.size, 3), np.uint8
            ),
            "label": np.full(self.size, index, np.int32),
            "name": str(index),
        }


def numbered(count=10, size=(12, 14)):
    source = Numbered(count, size)
    return SegmentationData(("a", "b"), 255, {"train": source, "val": source})


def changes(**kept):
    return SimpleNamespace(**{"flip": True, "scale": (0.8, 1.3), "color": 0.3} | kept)


OFF = {"flip": False, "scale": (1.0, 1.0), "color": 0.0}


def batches(count, *, data=None, state=None, **options):
    """The next batches of a fresh iterator, and the state after them."""
    settings = {"batch_size": 4, "crop": (8, 8), "augment": changes(), "seed": 0}
    iterator = train_batches(data or numbered(), **settings | options)
    if state is not None:
        iterator.set_state(state)
    taken = [next(iterator) for _ in range(count)]
    state = iterator.get_state()
    iterator.close()
    return taken, state


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["label"], b["label"])
        np.testing.assert_array_equal(a["mask"], b["mask"])


@pytest.mark.parametrize("crop", [(8, 10), (12, 14), (20, 30)])
def test_batches_have_the_crop_s_shape(crop):
    ((batch,), _) = batches(1, crop=crop)
    assert batch.keys() == {"image", "label", "mask", "name"}
    assert batch["name"].shape == (4,)
    assert batch["mask"].shape == (4, *crop)
    assert batch["mask"].dtype == bool
    assert batch["image"].shape == (4, *crop, 3)
    assert batch["label"].shape == (4, *crop)
    assert batch["image"].dtype == np.uint8
    assert batch["label"].dtype == np.int32


def test_a_canvas_takes_the_place_of_random_sizes_and_crops():
    ((batch,), _) = batches(1, crop=(28, 28), canvas=28, augment=changes(**OFF))
    assert batch["image"].shape == (4, 28, 28, 3)
    assert batch["mask"][:, :24].all()
    assert not batch["mask"][:, 24:].any()
    assert (batch["label"][:, 24:] == 255).all()


def test_a_crop_other_than_the_canvas_is_refused():
    with pytest.raises(ValueError, match=r"crop: .* canvas, \(9, 9\), got \(8, 8\)"):
        batches(1, canvas=9)


def test_resumed_stream_is_the_uninterrupted_one():
    whole, _ = batches(12)
    for steps in (1, 5):  # within the first epoch and beyond it
        _, state = batches(steps)
        rest, _ = batches(12 - steps, state=state)
        assert_same(whole[steps:], rest)


def test_seed_decides():
    assert_same(batches(3)[0], batches(3)[0])
    images = [batches(1, seed=seed)[0][0]["image"] for seed in (0, 1)]
    assert (images[0] != images[1]).any()


def test_every_epoch_holds_all_examples_in_another_order():
    taken, _ = batches(30, batch_size=1, augment=changes(**OFF))
    epochs = np.array([batch["label"][0, 0, 0] for batch in taken]).reshape(3, 10)
    for epoch in epochs:
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_every_epoch_changes_the_same_example_otherwise():
    taken, _ = batches(6, data=numbered(count=1), batch_size=1)
    assert len({batch["image"].tobytes() for batch in taken}) == 6


def test_changes_can_be_turned_off():
    data = numbered(count=1)
    taken, _ = batches(
        3, data=data, batch_size=1, crop=(12, 14), augment=changes(**OFF)
    )
    for batch in taken:
        np.testing.assert_array_equal(
            batch["image"][0], data.splits["train"][0]["image"]
        )


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"crop": (8, 0)}, "crop width"),
        ({"augment": changes(scale=(1.5, 0.5))}, "augment.scale"),
        ({"augment": changes(color=2.0)}, "augment.color"),
    ],
)
def test_wrong_arguments_are_named(wrong, name):
    with pytest.raises(ValueError, match=name):
        batches(1, **wrong)


@pytest.mark.parametrize(
    ("limit", "names"),
    [
        (None, "0123456789"),
        (1, "0"),
        (3, "036"),
        (5, "02468"),
        (50, "0123456789"),
    ],
)
def test_eval_examples_are_in_order_and_evenly_spread(limit, names):
    examples = list(eval_examples(numbered(), "val", limit=limit))
    assert [example["name"] for example in examples] == list(names)
    assert all(example["image"].shape == (12, 14, 3) for example in examples)


def test_eval_examples_name_a_wrong_split():
    with pytest.raises(ValueError, match=r"split: expected one of .* got 'test'"):
        next(eval_examples(numbered(), "test"))
