import json
import shutil

import jax
import numpy as np
import pytest
from tiny import make_tiny_config

from crfrnn_jax.models import build_segmenter
from crfrnn_jax.training import loop
from crfrnn_jax.training.checkpoints import (
    CheckpointError,
    latest_checkpoint,
    load_for_evaluation,
)
from crfrnn_jax.training.initial import flat_names, fresh_params
from crfrnn_jax.training.journal import Journal
from crfrnn_jax.training.recording import NonFiniteLossError
from crfrnn_jax.weights import save_weights


class InterruptionError(Exception):
    """Stands for whatever may stop a run."""


def _interrupt_at(monkeypatch, stage, step):
    """Stops the run when a step of a stage is about to begin."""
    original = loop.make_train_step

    def make(model, optimizer, *, use_crf, **options):
        train_step = original(model, optimizer, use_crf=use_crf, **options)

        def interruptible(state, batch):
            here = "end_to_end" if use_crf else "network alone"
            if here == stage and int(state.step) + 1 == step:
                raise InterruptionError
            return train_step(state, batch)

        return interruptible

    monkeypatch.setattr(loop, "make_train_step", make)


def _final(workdir, stage):
    params, meta = load_for_evaluation(latest_checkpoint(workdir, stage))
    return jax.device_get(params), meta


def _log(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    loop.train(make_tiny_config(data_dir), workdir)
    return workdir


def test_a_resumed_run_lands_on_the_numbers_of_one_never_stopped(
    uninterrupted, tiny_config, tmp_path, monkeypatch
):
    workdir = tmp_path / "interrupted"
    # Each time one step past a checkpoint, so that a step is done again.
    for stage, step in (("network alone", 4), ("end_to_end", 4)):
        with monkeypatch.context() as patch:
            _interrupt_at(patch, stage, step)
            with pytest.raises(InterruptionError):
                loop.train(tiny_config, workdir)
    loop.train(tiny_config, workdir)

    for stage in tiny_config.stages:
        one, _ = _final(uninterrupted, stage)
        other, _ = _final(workdir, stage)
        jax.tree.map(np.testing.assert_array_equal, one, other)
    losses = {
        (line["stage"], line["step"]): line["loss"]
        for line in _log(uninterrupted)
        if "loss" in line
    }
    assert len(losses) == 10
    logged = [line for line in _log(workdir) if "loss" in line]
    assert len(logged) == 10  # the steps done again are there once
    for line in logged:
        assert line["loss"] == losses[line["stage"], line["step"]]


def test_every_stage_compiles_its_step_once(tiny_config, tmp_path, monkeypatch):
    original, train_steps = loop.make_train_step, []

    def make(*arguments, **options):
        train_steps.append(original(*arguments, **options))
        return train_steps[-1]

    monkeypatch.setattr(loop, "make_train_step", make)
    loop.train(tiny_config, tmp_path)
    assert [step._cache_size() for step in train_steps] == [1, 1, 1]


def test_a_log_cut_off_in_a_line_is_gone_on_with(tmp_path):
    log = tmp_path / "metrics.jsonl"
    lines = [{"stage": "fcn", "step": step} for step in (1, 2)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"stage": "f')
    with Journal(tmp_path, "plain", 0, 1) as journal:
        journal.write(1, {"loss": 0.5})
    assert _log(tmp_path) == [*lines, {"stage": "plain", "step": 1, "loss": 0.5}]


def test_stages_train_what_they_should(uninterrupted, tiny_config):
    fcn, meta = _final(uninterrupted, "fcn")
    plain, _ = _final(uninterrupted, "plain")
    end_to_end, _ = _final(uninterrupted, "end_to_end")
    assert meta["config"]["fcn"]["steps"] == tiny_config.fcn.steps
    assert meta["class_names"][0] == "background"

    def differs(one, other):
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        return [bool((a != b).any()) for a, b in pairs]

    # Alone, the network moves and the CRF does not; end to end, both do.
    assert all(differs(fcn["backbone"], plain["backbone"]))
    assert not any(differs(fcn["crf"], plain["crf"]))
    assert all(differs(fcn["backbone"], end_to_end["backbone"]))
    assert all(differs(fcn["crf"], end_to_end["crf"]))
    panels = sorted(path.name for path in (uninterrupted / "panels").iterdir())
    assert panels == ["end_to_end_000004.png", "fcn_000004.png", "plain_000002.png"]


def test_a_run_of_another_config_is_refused_and_the_difference_named(
    uninterrupted, tiny_config
):
    tiny_config.fcn.learning_rate = 0.5
    tiny_config.model.widths = (8, 8, 24)
    with pytest.raises(CheckpointError) as error:
        loop.train(tiny_config, uninterrupted)
    assert "config.fcn.learning_rate: 0.002 -> 0.5" in str(error.value)
    assert "config.model.widths: [8, 8, 16] -> [8, 8, 24]" in str(error.value)


def test_a_stage_made_from_another_first_stage_is_refused(
    uninterrupted, tiny_config, tmp_path
):
    """The first stage is trained anew: what came of the old one is not its own."""
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted, workdir)
    shutil.rmtree(workdir / "checkpoints" / "fcn")
    tiny_config.fcn.steps = 6
    with pytest.raises(CheckpointError, match=r"plain: .*config.fcn.steps: 4 -> 6"):
        loop.train(tiny_config, workdir)


def test_a_file_for_the_work_directory_is_refused(tiny_config, tmp_path):
    (tmp_path / "notes.md").touch()
    with pytest.raises(ValueError, match=r"workdir: expected a folder, .* file .*md"):
        loop.train(tiny_config, tmp_path / "notes.md" / "run")


def test_a_run_that_is_done_does_nothing_more(uninterrupted, tiny_config):
    log = (uninterrupted / "metrics.jsonl").read_text()
    tiny_config.eval.panels = 2  # how a run is looked at may change
    loop.train(tiny_config, uninterrupted)
    assert (uninterrupted / "metrics.jsonl").read_text() == log


def test_a_run_on_other_data_is_refused(uninterrupted, tiny_config, monkeypatch):
    load = loop.load_dataset

    def load_fewer(config):
        data = load(config)
        return data._replace(splits=data.splits | {"val": [data.splits["val"][0]]})

    monkeypatch.setattr(loop, "load_dataset", load_fewer)
    with pytest.raises(CheckpointError, match=r"another data set, of .*'val': 4.*: 1}"):
        loop.train(tiny_config, uninterrupted)


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(
    tiny_config, tmp_path
):
    tiny_config.fcn.learning_rate = 1e30
    tiny_config.fcn.warmup_steps = 0
    with pytest.raises(
        NonFiniteLossError,
        match=r"stage 'fcn', step \d+.*config\.fcn\.learning_rate",
    ):
        loop.train(tiny_config, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints" / "fcn").glob("[0-9]*"):
        params, _ = load_for_evaluation(path)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_class_weights_lift_rare_classes():
    class Data:
        num_labels, ignore_label = 3, 9
        splits = {  # noqa: RUF012
            "train": [
                {"label": np.array([[0, 0, 0, 9]])},
                {"label": np.array([[0, 1, 9, 9]])},
            ]
        }

    weights = loop.class_weights(Data)
    expected = 1 / np.log(1.02 + np.array([4 / 5, 1 / 5, 0]))
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-6)


def test_a_resumed_stage_needs_no_file_that_it_started_from(
    tiny_config, tmp_path, monkeypatch
):
    weights = tmp_path / "start.npz"
    model = build_segmenter(tiny_config, 8)
    params = fresh_params(model, jax.random.key(9))
    tensors = {name: np.asarray(leaf) for name, leaf in flat_names(params).items()}
    save_weights(weights, tensors, {})
    tiny_config.stages, tiny_config.init.file = ("fcn",), str(weights)
    with monkeypatch.context() as patch:
        _interrupt_at(patch, "network alone", 3)
        with pytest.raises(InterruptionError):
            loop.train(tiny_config, tmp_path / "run")
    weights.unlink()
    loop.train(tiny_config, tmp_path / "run")
    assert _final(tmp_path / "run", "fcn")[1]["stage"] == "fcn"
