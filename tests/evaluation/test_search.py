"""The search against brute force, its folds, and its file of progress."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crfrnn_jax.data import SegmentationData
from crfrnn_jax.evaluation import tuning
from crfrnn_jax.evaluation.prediction import CRFSetting, postprocess
from crfrnn_jax.evaluation.search import Progress, cross_validate, search
from crfrnn_jax.evaluation.tuning import setting_scorer
from crfrnn_jax.metrics import confusion_matrix, mean_iou

IGNORE = 255
GRID = {
    "theta_alpha": (4.0, 8.0),
    "theta_beta": (20.0,),
    "theta_gamma": (1.0,),
    "bilateral_weight": (0.0, 2.0),
    "spatial_weight": (0.0, 1.0),
}

DEVICES = jax.devices()[:1]


def on_any(unary):
    return lambda device: unary


def _halves(seed, size):
    """A noisy picture of two halves, its labels, and blurred logits of them."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, 12), np.int32)
    labels[:, 6:] = 1
    image = np.where(labels[..., None] == 1, 150, 90) + rng.normal(0, 9, (size, 12, 3))
    logits = np.stack([-(labels - 0.5), labels - 0.5], -1)
    logits = logits + rng.normal(0, 0.9, logits.shape)
    labels[0] = IGNORE
    return {"image": image.astype(np.uint8), "label": labels}, logits


@pytest.fixture
def given():
    """Examples of two sizes, the unaries of their images, and the data."""
    pairs = [_halves(seed, size) for seed, size in enumerate((7, 12, 7, 7, 12))]
    logits = {pair[0]["image"].tobytes(): pair[1] for pair in pairs}

    def unary(image):
        return jnp.asarray(logits[image.tobytes()], jnp.float32)

    data = SegmentationData(("left", "right"), IGNORE, {})
    return [pair[0] for pair in pairs], unary, data


def _one_by_one(given, setting):
    examples, unary, data = given
    return [
        confusion_matrix(
            labels=example["label"],
            predictions=postprocess(
                example["image"],
                unary(example["image"]),
                setting,
                3,
                multiple_of=4,
            ),
            num_labels=2,
            ignore_label=data.ignore_label,
        )
        for example in examples
    ]


def test_many_images_at_a_time_are_the_same_one_by_one(given):
    examples, unary, data = given
    compiled = tuning._confusions._cache_size()
    score = setting_scorer(
        on_any(unary), data, examples, DEVICES, num_iterations=3, multiple_of=4
    )
    for setting in (
        CRFSetting(4.0, 20.0, 1.0, 2.0, 1.0),
        CRFSetting(8.0, 10.0, 2.0, 0.0, 3.0),
    ):
        expected = _one_by_one(given, setting)
        np.testing.assert_array_equal(score(setting), expected)
    # One program for each size, 8 and 12 once padded, whatever the setting.
    assert tuning._confusions._cache_size() - compiled == 2


def test_nan_is_an_error_and_so_is_a_label_out_of_range(given):
    examples, unary, data = given
    score = setting_scorer(
        on_any(lambda image: unary(image) * jnp.nan),
        data,
        examples,
        DEVICES,
        num_iterations=3,
        multiple_of=4,
    )
    with pytest.raises(ValueError, match="logits: expected numbers, got NaN"):
        score(CRFSetting(4.0, 20.0, 1.0, 2.0, 1.0))
    examples[0]["label"] = np.full((7, 12), 2)
    with pytest.raises(ValueError, match=r"labels: expected 0\.\.1, got \[2\]"):
        setting_scorer(on_any(unary), data, examples, DEVICES, num_iterations=1)
    with pytest.raises(ValueError, match="examples: expected one at least"):
        setting_scorer(on_any(unary), data, [], DEVICES, num_iterations=1)


def test_the_search_is_brute_force_and_its_folds_are_held_out(given):
    examples, unary, data = given
    score = setting_scorer(
        on_any(unary), data, examples, DEVICES, num_iterations=3, multiple_of=4
    )

    def score_folds(setting):
        confusions = score(setting)
        return np.stack([confusions[0::2].sum(0), confusions[1::2].sum(0)])

    found = cross_validate(score_folds, GRID, factor=2.0, rounds=0)
    scores = {}
    for alpha in GRID["theta_alpha"]:
        for bilateral in GRID["bilateral_weight"]:
            for spatial in GRID["spatial_weight"]:
                setting = CRFSetting(alpha, 20.0, 1.0, bilateral, spatial)
                scores[setting] = np.stack(_one_by_one(given, setting))
    total = {setting: mean_iou(c.sum(0)) for setting, c in scores.items()}
    assert found.mean_iou == max(total.values())
    assert found.setting == max(total, key=total.__getitem__)
    folds = [slice(0, None, 2), slice(1, None, 2)]
    seen = [mean_iou(scores[found.setting][fold].sum(0)) for fold in folds]
    assert found.seen == pytest.approx(np.mean(seen))
    held_out = []
    for fold, rest in zip(folds, reversed(folds), strict=True):
        chosen = max(scores, key=lambda setting: mean_iou(scores[setting][rest].sum(0)))
        held_out.append(mean_iou(scores[chosen][fold].sum(0)))
    assert found.held_out == pytest.approx(np.mean(held_out))


def test_over_fitting_is_seen_in_the_folds():
    """Each fold has a setting of its own that is right there and wrong elsewhere."""
    right, wrong = np.diag([5, 5]), np.array([[0, 5], [5, 0]])

    def score_folds(setting):
        return np.stack([right if setting.theta_alpha == k else wrong for k in (1, 2)])

    grid = {name: (1.0,) for name in CRFSetting._fields} | {"theta_alpha": (1, 2)}
    found = cross_validate(score_folds, grid, factor=2.0, rounds=0)
    assert (found.mean_iou, found.seen, found.held_out) == (1 / 3, 0.5, 0.0)


def test_one_fold_is_no_cross_validation():
    grid = {name: (1.0,) for name in CRFSetting._fields}
    found = cross_validate(lambda _: np.eye(2)[None], grid, factor=2.0, rounds=0)
    assert (found.seen, found.held_out) == (1.0, None)


def test_refinement_comes_near_a_maximum_between_the_grids_values():
    best = CRFSetting(23.0, 11.0, 1.9, 2.2, 0.7)
    asked = []

    def objective(setting):
        asked.append(setting)
        pairs = zip(setting, best, strict=True)
        return -sum(np.log(given / wanted) ** 2 for given, wanted in pairs)

    grid = {
        "theta_alpha": (10.0, 40.0),
        "theta_beta": (5.0, 10.0),
        "theta_gamma": (1.0, 2.0),
        "bilateral_weight": (1.0, 3.0),
        "spatial_weight": (0.5, 1.0),
    }
    coarse = search(objective, grid, factor=2.0, rounds=0)
    assert len(asked) == 2**5
    fine = search(objective, grid, factor=2.0, rounds=5)
    assert objective(fine) > objective(coarse)
    np.testing.assert_allclose(fine, best, rtol=0.1)


def test_progress_is_gone_on_with(tmp_path):
    path = tmp_path / "new" / "tuned.progress.jsonl"
    scored = {"images": 4}
    settings = [CRFSetting(10.0 + i, 2.0, 3.0, 4.0, 5.5) for i in range(3)]
    asked = []

    def score_setting(setting):
        asked.append(setting)
        return (
            np.full((4, 2, 2), int(setting.theta_alpha)) * np.arange(4)[:, None, None]
        )

    def all_of(settings):
        score_folds = Progress(path, scored).score_folds(
            score_setting, 2, lambda *_: None
        )
        return [score_folds(setting) for setting in settings]

    first = all_of([*settings[:2], settings[0]])
    assert asked == settings[:2]
    np.testing.assert_array_equal(first[0][:, 0, 0], [10 * (0 + 2), 10 * (1 + 3)])
    text = path.read_text()
    path.write_text(text + text.splitlines()[-1][:20])  # cut off in a line
    again = all_of(settings)
    assert asked == settings
    np.testing.assert_array_equal(again[:2], first[:2])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [len(line) for line in lines] == [1, 2, 2, 2]

    with pytest.raises(ValueError, match=r"progress.jsonl: .*scored.images: 4 -> 5$"):
        Progress(path, {"images": 5})
    path.write_text('{"stage": "fcn"}\n')
    with pytest.raises(ValueError, match="got another file"):
        Progress(path, scored)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"theta_beta": (1.0, 0.0)}, {}, r"theta_beta: expected numbers above 0, got"),
        ({"spatial_weight": (-1.0,)}, {}, "spatial_weight: expected .* at least 0"),
        ({"theta_alpha": ()}, {}, r"theta_alpha: expected .*, got \[\]"),
        ({"bilateral_weight": (np.nan,)}, {}, r"bilateral_weight: .* got \[nan\]"),
        ({}, {"factor": 1.0}, "factor: expected a number above 1, got 1.0"),
        ({}, {"rounds": -1}, "rounds: expected at least 0, got -1"),
    ],
)
def test_names_what_is_wrong(change, options, message):
    options = {"factor": 2.0, "rounds": 1, **options}
    with pytest.raises(ValueError, match=message):
        search(lambda _: 0.0, GRID | change, **options)
