"""Losses and scores that are no numbers: the run stops, or skips and counts."""

import json

import jax
import numpy as np
import pytest
from tiny import make_folder_config

from crfrnn_jax.evaluation.prediction import likeliest_labels
from crfrnn_jax.training import loop, validation
from crfrnn_jax.training.checkpoints import latest_checkpoint, load_for_evaluation
from crfrnn_jax.training.recording import NonFiniteLossError, Recorder


def _with_a_step_that_is_not_finite(monkeypatch, number):
    """The labels of one step's images are none of the data set: a loss of NaN."""
    original, steps = loop.put_batch, []

    def put(mesh, batch):
        steps.append(1)
        if len(steps) == number:
            batch = batch | {"label": np.full_like(batch["label"], 200)}
        return original(mesh, batch)

    monkeypatch.setattr(loop, "put_batch", put)


def test_a_loss_that_is_not_finite_leaves_the_names_of_its_images(
    data_dir, tmp_path, monkeypatch
):
    config = make_folder_config(tmp_path / "photos", data_dir)
    _with_a_step_that_is_not_finite(monkeypatch, 3)
    with pytest.raises(
        NonFiniteLossError, match=r"step 3: loss nan, .*nonfinite\.json"
    ):
        loop.train(config, tmp_path / "run")
    (line,) = (tmp_path / "run" / "nonfinite.jsonl").read_text().splitlines()
    line = json.loads(line)
    assert (line["stage"], line["step"], line["loss"]) == ("fcn", 3, "nan")
    assert len(line["images"]) == 2
    assert {name.split(" ")[0] for name in line["images"]} == {"photo"}
    assert latest_checkpoint(tmp_path / "run", "fcn").name == "2"


def test_a_hundred_steps_in_a_row_are_not_skipped(tmp_path):
    recorder = Recorder(tmp_path, "fcn", 0, skips=True)
    finite, broken = ({"loss": loss, "gradient_norm": 1.0} for loss in (1.0, np.nan))
    for step in range(1, 100):
        recorder.add(step, broken, ["a"])
    recorder.add(100, finite, ["a"])
    for step in range(101, 200):
        recorder.add(step, broken, ["a"])
    assert recorder.take()["skipped"] == 198
    recorder.add(200, broken, ["a"])
    with pytest.raises(NonFiniteLossError, match=r"step 200: 100 steps in a row"):
        recorder.take()


def test_a_validation_without_numbers_says_what_to_try(
    tiny_config, tmp_path, monkeypatch
):
    """Of a network that is no number any more, and not where an image is gone."""

    def not_even_one(*_, **__):
        return lambda image: likeliest_labels(np.full((*image.shape[:2], 8), np.nan))

    monkeypatch.setattr(validation, "plain_predictor", not_even_one)
    with pytest.raises(
        NonFiniteLossError, match=r"'fcn', step 4: .* lower --config\.fcn"
    ):
        loop.train(tiny_config, tmp_path)


def test_or_it_is_skipped_and_counted(data_dir, tmp_path, monkeypatch):
    config = make_folder_config(tmp_path / "photos", data_dir)
    config.nonfinite, config.log_every = "skip", 2
    _with_a_step_that_is_not_finite(monkeypatch, 3)
    loop.train(config, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    logged = [line for line in map(json.loads, lines) if "loss" in line]
    assert [line["skipped"] for line in logged] == [0, 1]
    assert all(np.isfinite(line["loss"]) for line in logged)  # of the others
    assert len((tmp_path / "run" / "nonfinite.jsonl").read_text().splitlines()) == 1
    params, _ = load_for_evaluation(latest_checkpoint(tmp_path / "run", "fcn"))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
