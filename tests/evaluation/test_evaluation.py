import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from crfrnn_jax.crf import CRFParams, crf_rnn
from crfrnn_jax.data import SegmentationData
from crfrnn_jax.evaluation.panels import (
    colour_difference,
    colour_labels,
    palette,
    save_panels,
)
from crfrnn_jax.evaluation.prediction import (
    CRFSetting,
    likeliest_labels,
    postprocess,
)
from crfrnn_jax.evaluation.report import format_tables
from crfrnn_jax.evaluation.scoring import score
from crfrnn_jax.evaluation.tuning import tune_postprocessing

IGNORE = 255


def _halves(seed):
    """A noisy picture of two halves, its labels, and blurred logits of them."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((16, 16), np.int32)
    labels[:, 8:] = 1
    image = np.where(labels[..., None] == 1, 180, 60) + rng.normal(0, 4, (16, 16, 3))
    logits = np.stack([-(labels - 0.5), labels - 0.5], -1)
    logits = logits + rng.normal(0, 0.6, logits.shape)
    labels[0] = IGNORE
    return {"image": image.astype(np.uint8), "label": labels}, logits


@pytest.fixture
def examples():
    pairs = [_halves(seed) for seed in range(3)]
    logits = {pair[0]["image"].tobytes(): pair[1] for pair in pairs}

    def unary(image):
        return jnp.asarray(logits[image.tobytes()], jnp.float32)

    return [pair[0] for pair in pairs], unary


@pytest.fixture
def data():
    return SegmentationData(("left", "right"), IGNORE, {})


def _score(predictors, data, examples, **options):
    return score(
        lambda device: predictors, data, examples, jax.devices()[:1], **options
    )


def test_scores_add_up_over_the_examples(examples, data):
    examples, unary = examples
    predictors = {
        "truth": lambda image: (image[..., 0] > 120).astype(int),
        "unary": lambda image: np.asarray(unary(image).argmax(-1)),
    }
    scores = _score(predictors, data, examples, trimap_widths=(1, 20))
    assert scores["truth"].mean_iou == 1.0
    valid = sum((example["label"] != IGNORE).sum() for example in examples)
    assert scores["unary"].confusion.sum() == valid
    np.testing.assert_array_equal(scores["unary"].trimaps[1], scores["unary"].confusion)
    assert scores["unary"].trimaps[0].sum() == 2 * 15 * 3


def test_tuning_takes_the_setting_that_scores_best(examples, data):
    examples, unary = examples
    useless = CRFSetting(10.0, 20.0, 1.0, 0.0, 0.0)
    useful = CRFSetting(10.0, 20.0, 1.0, 4.0, 0.0)
    results = {}
    chosen = tune_postprocessing(
        lambda device: unary,
        data,
        examples,
        jax.devices()[:1],
        [useless, useful],
        num_iterations=5,
        report=results.__setitem__,
    )
    assert chosen == useful
    plain = _score(
        {"plain": lambda image: np.asarray(unary(image).argmax(-1))}, data, examples
    )
    assert results[useless] == plain["plain"].mean_iou
    assert results[useful] > results[useless]


def test_postprocessing_is_the_crf_of_its_setting(examples):
    examples, unary = examples
    image = examples[0]["image"]
    setting = CRFSetting(9.0, 15.0, 2.0, 3.0, 1.5)
    identity = jnp.eye(2)
    expected = crf_rnn(
        image,
        unary(image),
        CRFParams(1.5 * identity, 3.0 * identity, -identity),
        num_iterations=3,
        theta_alpha=9.0,
        theta_beta=15.0,
        theta_gamma=2.0,
    )
    np.testing.assert_array_equal(
        postprocess(image, unary(image), setting, 3), expected.argmax(-1)
    )


def test_palette_is_pascal_vocs():
    # Background, aeroplane, bicycle, ..., potted plant, ..., tv monitor.
    expected = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 16: (0, 64, 0)}
    expected |= {20: (0, 64, 128), 255: (224, 224, 192)}
    for label, colour in expected.items():
        assert tuple(palette(256)[label]) == colour


def test_difference_tells_mended_broken_and_wrong_apart():
    truth = np.array([[0, 0, 0, 0, IGNORE]])
    before, after = np.array([[0, 1, 0, 1, 0]]), np.array([[0, 0, 1, 1, 1]])
    picture = colour_difference(truth, before, after, IGNORE)[0]
    assert tuple(picture[0]) == (255, 255, 255)
    assert len(np.unique(picture, axis=0)) == 5
    assert picture[1].argmax() == 1  # mended: green
    assert picture[2].argmax() == 0  # broken: red


def test_panels_hold_the_pictures_they_name(examples, data, tmp_path):
    examples, _ = examples
    predictors = {
        "a": lambda image: np.zeros((16, 16), int),
        "b": lambda image: (image[..., 0] > 120).astype(int),
    }
    save_panels(tmp_path / "new" / "panels.png", predictors, data, examples[:2])
    with Image.open(tmp_path / "new" / "panels.png") as picture:
        sheet = np.asarray(picture)
    truth = colour_labels(examples[0]["label"], 2)
    scale = 10  # 16 px are enlarged to at least 160
    # Five columns of 164 px, two rows of 178, 14 of which are the title.
    assert sheet.shape == (2 * 178, 5 * 164, 3)
    np.testing.assert_array_equal(sheet[14:174:scale, 164 : 164 + 160 : scale], truth)


def test_tables_show_every_row_and_class(examples, data):
    examples, _ = examples
    scores = _score(
        {"plain": lambda image: np.zeros((16, 16), int)},
        data,
        examples,
        trimap_widths=tuple(range(1, 11)),
    )
    tables = format_tables(scores, data.class_names)
    # Half of the pixels are right: IoU 50 % and 0 %.
    assert "| plain FCN | 25.00 | 50.00 |" in tables
    assert "| left | 50.00 |" in tables
    assert "| right | 0.00 |" in tables


def test_logits_that_are_nan_are_not_taken_for_label_0():
    with pytest.raises(ValueError, match="logits: expected numbers, got NaN"):
        likeliest_labels(jnp.full((2, 2, 3), jnp.nan))
