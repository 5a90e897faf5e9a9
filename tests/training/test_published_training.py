"""The published way of training and today's, with a small VGG on tiny scenes."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import published, voc_crfrnn_modern
from crfrnn_jax.training.checkpoints import latest_checkpoint, load_for_evaluation
from crfrnn_jax.training.initial import flat_names
from crfrnn_jax.training.loop import train

SMALL = {"widths": (4, 4, 4, 4, 4), "hidden": 8}


def on_tiny_scenes(config, data_dir):
    config.data = ConfigDict(
        dict(name="shapes", num_train=12, num_val=4, size=32, seed=0, dir=str(data_dir))
    )
    config.model.update(SMALL)
    config.crf.update(num_iterations=2, method="exact")
    config.init.file = ""
    config.log_every = 1
    config.eval.update(num_iterations=2, validation_images=2, panels=1)
    for name in config.stages:
        config[name].update(steps=3, warmup_steps=0, checkpoint_every=3, eval_every=3)
    return config


def params_after(workdir, stage):
    params, _ = load_for_evaluation(latest_checkpoint(workdir, stage))
    return flat_names(params)


def losses(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]


@pytest.fixture(scope="module")
def published_run(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("published")
    config = on_tiny_scenes(published.add_crf_stages(published.get_base()), data_dir)
    config.canvas = 40
    for name, rate in (("plain", 1e-6), ("end_to_end", 1e-7)):
        config[name].update(
            crop=(40, 40),
            learning_rate=rate,
            weights_learning_rate=10_000 * rate * config[name].use_crf,
            compatibility_learning_rate=1000 * rate * config[name].use_crf,
        )
    train(config, workdir)
    return workdir


def test_the_published_loss_is_a_sum_over_the_pixels(published_run):
    """At first all scores are zero: log 8 a pixel of the 40 x 40, less the ignored."""
    first = losses(published_run)[0]
    assert 0.5 * 1600 * np.log(8) < first < 1600 * np.log(8)


def test_the_last_upscaling_stays_bilinear_and_the_rest_learns(published_run):
    plain, after = (params_after(published_run, s) for s in ("plain", "end_to_end"))
    for name, value in after.items():
        moved = np.abs(np.asarray(value) - plain[name]).max() > 0
        if "upscore8" in name:
            assert not moved
        if name.startswith("crf/") or "score_fr" in name:
            assert moved, name


def test_the_modern_way_trains_in_half_precision_on_masked_crops(data_dir, tmp_path):
    config = on_tiny_scenes(voc_crfrnn_modern.get_config(), data_dir)
    config.stages = ("fcn", "end_to_end")
    for name in config.stages:
        config[name].update(batch_size=2, crop=(48, 40))
    train(config, tmp_path)
    assert np.isfinite(losses(tmp_path)).all()
    for name, value in params_after(tmp_path, "end_to_end").items():
        assert value.dtype == np.float32, name
