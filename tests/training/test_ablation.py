"""The ablations of configs/ablations.py on the tiny config: what each changes."""

import json

import jax
import numpy as np
import pytest
from tiny import make_tiny_config

from configs import camvid, shapes
from configs.ablations import ABLATIONS, REFERENCE
from crfrnn_jax.evaluation.comparison import Outcome, format_outcomes
from crfrnn_jax.training import ablation as module
from crfrnn_jax.training import loop
from crfrnn_jax.training.ablation import Ablation, ablate, ablated
from crfrnn_jax.training.checkpoints import latest_checkpoint, load_for_evaluation
from crfrnn_jax.training.configuration import check_config

SEED = 3


def _count(monkeypatch, where, name):
    """The arguments by keyword of every call of a function from now on."""
    original, calls = getattr(where, name), []

    def counted(*arguments, **options):
        calls.append(options)
        return original(*arguments, **options)

    monkeypatch.setattr(where, name, counted)
    return calls


def _config(data_dir):
    """Tinier still: most of the time goes into compiling, for each ablation anew."""
    config = make_tiny_config(data_dir)
    config.model.update(widths=(8, 8), blocks=(0, 0), num_skips=1)
    config.end_to_end.update(steps=2, checkpoint_every=1)
    config.postprocessing.candidates = config.postprocessing.candidates[:2]
    return config


# Those that are run to the end here; each that trains has to compile anew.
RUN = ("reference", "test_5_iterations", "unshared_parameters", "frozen_network")
RUN = {n: ABLATIONS[n] for n in (*RUN, "plain", "untrained_crf", "postprocessing")}


def _ablate(data_dir, workdir, ablations, seeds=(SEED,)):
    return ablate(
        _config(data_dir), workdir, ablations, reference=REFERENCE, seeds=seeds
    )


@pytest.fixture(autouse=True, scope="module")
def _no_validation():
    """What is seen during training is not of interest here, and takes a third."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(loop, "validate", lambda *_: {})
        yield


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """The table, where all lies, and the train steps' options."""
    workdir = tmp_path_factory.mktemp("ablations")
    with pytest.MonkeyPatch.context() as monkeypatch:
        steps = _count(monkeypatch, loop, "make_train_step")
        table = _ablate(data_dir, workdir, RUN)
    return table, workdir, steps


def _params(workdir, name, stage="end_to_end"):
    params, _ = load_for_evaluation(
        latest_checkpoint(workdir / f"seed_{SEED}" / name, stage)
    )
    return jax.device_get(params)


def _moved(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return [bool((a != b).any()) for a, b in pairs]


@pytest.mark.parametrize("config_module", [shapes, camvid])
@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_is_of_every_config(config_module, name):
    config = config_module.get_config()
    check_config(ablated(config, name, ABLATIONS[name]))


def test_shared_stages_are_trained_once_and_the_others_from_them(run):
    _, workdir, steps = run
    trained = {path.parent.name for path in workdir.glob("seed_*/*/checkpoints")}
    assert trained == {"base", "unshared_parameters", "frozen_network"}
    # The base's three stages, and one for each other run.
    assert [step["use_crf"] for step in steps] == [False, False, True, True, True]


class PreparedError(Exception):
    """Stops a stage that is about to be trained."""


MATRIX = (8, 8)
FULL = ((MATRIX, MATRIX), 2, "softmax", 0.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scalar_weights", (((), MATRIX), 2, "softmax", 0.0)),
        ("per_label_weights", (((8,), MATRIX), 2, "softmax", 0.0)),
        ("potts", ((MATRIX, None), 2, "softmax", 0.0)),
        ("symmetric", FULL),
        ("unshared_parameters", (((5, 8, 8), (5, 8, 8)), 5, "softmax", 0.0)),
        ("frozen_network", FULL),
        ("train_10_iterations", ((MATRIX, MATRIX), 10, "softmax", 0.0)),
        ("relu_normalisation", ((MATRIX, MATRIX), 2, "relu", 0.0)),
        ("robust_likelihood", ((MATRIX, MATRIX), 2, "softmax", 0.1)),
    ],
)
def test_what_is_trained_is_what_the_ablation_names(
    run, data_dir, monkeypatch, name, expected
):
    """Shapes of weights and compatibility, iterations, normalisation, robustness."""
    caught = []

    def prepare(model, _, **options):
        caught.append((model, options))
        raise PreparedError

    monkeypatch.setattr(loop, "make_train_step", prepare)
    _, workdir, _ = run
    base = workdir / f"seed_{SEED}" / "base"
    config = _config(data_dir)
    config.seed = SEED
    config = module._from_the_base(ablated(config, name, ABLATIONS[name]), base)
    with pytest.raises(PreparedError):
        loop.train(config, workdir / f"{name} alone")
    ((model, options),) = caught
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    crf = jax.eval_shape(model.init, jax.random.key(0), images)["params"]["crf"]
    shapes = {key: value.shape for key, value in crf.items()}
    assert shapes["spatial_weights"] == shapes["bilateral_weights"]
    forms = shapes["bilateral_weights"], shapes.get("compatibility")
    layer = model.crf
    assert expected == (
        forms,
        layer.num_iterations,
        layer.normalisation,
        options["robustness"],
    )
    assert (layer.compatibility_form == "symmetric") == (name == "symmetric")
    assert options["use_crf"]


def test_a_frozen_network_does_not_move_and_its_crf_does(run):
    _, workdir, _ = run
    start = _params(workdir, "base", "fcn")
    frozen = _params(workdir, "frozen_network")
    assert not any(_moved(start["backbone"], frozen["backbone"]))
    assert all(_moved(start["crf"], frozen["crf"]))
    assert all(_moved(start["backbone"], _params(workdir, "base")["backbone"]))


def test_a_run_from_the_base_is_the_bases_own_stage(run, data_dir, tmp_path):
    """The same start, the same batches: what differs is the ablation alone."""
    _, workdir, _ = run
    base = workdir / f"seed_{SEED}" / "base"
    config = _config(data_dir)
    config.seed = SEED
    loop.train(module._from_the_base(config, base), tmp_path)
    params, _ = load_for_evaluation(latest_checkpoint(tmp_path, "end_to_end"))
    jax.tree.map(np.testing.assert_array_equal, params, _params(workdir, "base"))


def _scored(workdir, name):
    path = workdir / f"seed_{SEED}" / name / "results.json"
    return json.loads(path.read_text())["scored"]


def test_what_is_scored_is_what_the_ablation_names(run):
    _, workdir, _ = run
    iterations = {name: _scored(workdir, name)["num_iterations"] for name in RUN}
    assert iterations["test_5_iterations"] == iterations["unshared_parameters"] == 5
    assert iterations["reference"] == iterations["frozen_network"] == 2
    for name, ablation in RUN.items():
        scored = _scored(workdir, name)
        assert scored["row"] == ablation.row
        assert f"checkpoints/{ablation.stage}/" in scored["checkpoint"]


def test_the_table_has_every_row_and_is_written(run):
    table, workdir, _ = run
    rows = [line.split(" | ")[0][2:] for line in table.splitlines()[2:]]
    assert rows == list(RUN)
    assert (workdir / "results.md").read_text() == table
    results = json.loads((workdir / "results.json").read_text())
    assert results["seeds"] == [SEED]
    assert list(results["rows"]) == list(RUN)
    assert results["rows"]["reference"]["difference"] == 0
    assert not list(workdir.rglob("*.partial"))


def test_what_is_done_is_neither_trained_nor_scored_again(run, data_dir, monkeypatch):
    table, workdir, _ = run
    steps = _count(monkeypatch, loop, "make_train_step")
    scores = _count(monkeypatch, module, "score")
    assert _ablate(data_dir, workdir, RUN) == table
    assert not steps
    assert not scores


def test_a_stopped_run_goes_on(run, data_dir, tmp_path, monkeypatch):
    names = (REFERENCE, "untrained_crf")
    chosen = {name: ABLATIONS[name] for name in names}
    original = module.score
    with monkeypatch.context() as patch:

        def score_once(*arguments, **options):
            patch.setattr(module, "score", stop)
            return original(*arguments, **options)

        def stop(*arguments, **options):
            raise KeyboardInterrupt

        patch.setattr(module, "score", score_once)
        with pytest.raises(KeyboardInterrupt):
            _ablate(data_dir, tmp_path, chosen)
    so_far = (tmp_path / "results.md").read_text()
    steps = _count(monkeypatch, loop, "make_train_step")
    table = _ablate(data_dir, tmp_path, chosen)
    assert not steps
    # The same numbers as where more ablations ran beside them.
    expected = run[0].splitlines()
    assert table.splitlines() == [
        *expected[:3],
        expected[2 + list(RUN).index("untrained_crf")],
    ]
    assert so_far.splitlines()[:3] == expected[:3]
    assert so_far.splitlines()[3] == "| untrained_crf | - | - | - | - | - |"


def test_another_evaluation_scores_again_and_trains_nothing(run, data_dir, monkeypatch):
    _, workdir, _ = run
    steps = _count(monkeypatch, loop, "make_train_step")
    scores = _count(monkeypatch, module, "score")
    path = workdir / f"seed_{SEED}" / REFERENCE / "results.json"
    kept = path.read_text()
    config = _config(data_dir)
    config.eval.num_iterations = 1
    ablate(config, workdir, {REFERENCE: Ablation()}, reference=REFERENCE, seeds=[SEED])
    path.write_text(kept)
    assert (len(steps), len(scores)) == (0, 1)


def test_a_loss_that_diverges_leaves_a_gap(run, data_dir, monkeypatch):
    _, workdir, _ = run
    wild = Ablation({"end_to_end.learning_rate": 1e30, "end_to_end.warmup_steps": 0})
    chosen = {REFERENCE: Ablation(), "wild": wild, "plain": ABLATIONS["plain"]}
    table = _ablate(data_dir, workdir, chosen)
    assert "| wild | - | - | - | - | - |" in table
    assert table.splitlines()[-1] in run[0]


def test_means_spreads_and_differences_are_over_the_seeds():
    outcomes = {
        "reference": Outcome((0.5, 0.6, 0.7), (0.1, 0.2, 0.3)),
        "other": Outcome((0.4, None, 0.65), (0.1, None, 0.2)),
    }
    table = format_outcomes(outcomes, reference="reference", seeds=(0, 1, 5))
    assert table.splitlines() == [
        "| mean IoU | seed 0 | seed 1 | seed 5 | mean | spread (max - min) "
        "| less reference | trimap 1 px, mean |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| reference | 50.00 | 60.00 | 70.00 | 60.00 | 20.00 | +0.00 | 20.00 |",
        # Of the seeds that both have: (-10 - 5) / 2.
        "| other | 40.00 | - | 65.00 | 52.50 | 25.00 | -7.50 | 15.00 |",
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Ablation({"crf.weight_form": "scalar"}), "'wrong' with .*weight_form"),
        (Ablation({"crf.num_iterations": "x"}), "keys and types of the config's"),
        (Ablation({"fcn.steps": 5}), "override fcn.steps: .* got 'fcn'"),
        (Ablation({"crf.theta_beta": 2.0}, stage="plain"), "got 'crf'"),
        (Ablation({"end_to_end.steps": 0}), "config.end_to_end.steps: .* got 0"),
        (Ablation(stage="finetune"), "config.stages: .* got 'finetune'"),
    ],
)
def test_a_wrong_ablation_is_named_before_anything_runs(
    data_dir, tmp_path, wrong, message
):
    with pytest.raises(ValueError, match=message):
        _ablate(data_dir, tmp_path, {REFERENCE: Ablation(), "wrong": wrong})
    assert not list(tmp_path.iterdir())


def test_a_file_for_the_work_directory_is_refused(data_dir, tmp_path):
    (tmp_path / "notes.md").touch()
    with pytest.raises(ValueError, match=r"workdir: expected a folder, .* file .*md"):
        _ablate(data_dir, tmp_path / "notes.md", RUN)


@pytest.mark.parametrize("seeds", [(), (1, 1), (-1,)])
def test_wrong_seeds_are_refused(data_dir, tmp_path, seeds):
    with pytest.raises(ValueError, match="seeds: expected"):
        _ablate(data_dir, tmp_path, RUN, seeds=seeds)
