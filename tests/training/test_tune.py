"""tune.py as a user runs it, on a tiny run, and what eval.py makes of its file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import make_tiny_config

from crfrnn_jax.evaluation.prediction import CRFSetting
from crfrnn_jax.training import loop
from crfrnn_jax.training import tune as module
from crfrnn_jax.training.checkpoints import latest_checkpoint
from crfrnn_jax.training.tune import as_flag, tune

ROOT = Path(__file__).parents[2]
GRID = {
    "theta_alpha": (10.0, 20.0),
    "theta_beta": (15.0,),
    "theta_gamma": (1.5,),
    "bilateral_weight": (3.0,),
    "spatial_weight": (0.0,),
}
SEARCH = {"factor": 2.0, "rounds": 1, "folds": 2}


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """The work directory of a network alone."""
    workdir = tmp_path_factory.mktemp("run")
    config = make_tiny_config(data_dir)
    config.stages = ("fcn", "plain")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(loop, "validate", lambda *_: {})
        loop.train(config, workdir)
    return workdir


def test_the_search_is_resumed_and_its_file_is_one_of_flags(run, tmp_path, monkeypatch):
    checkpoint, out = latest_checkpoint(run, "plain"), tmp_path / "tuned.txt"
    found = tune(checkpoint, out, GRID, **SEARCH)
    assert out.read_text() == as_flag(found.setting) + "\n"
    progress = tmp_path / "tuned.txt.progress.jsonl"
    first, *lines = [json.loads(line) for line in progress.read_text().splitlines()]
    assert first["scored"]["images"] == [2, 12]
    settings = [CRFSetting(**line["setting"]) for line in lines]
    assert found.setting in settings
    assert len(set(settings)) == len(settings)

    def never(*_, **__):
        def score(setting):
            raise AssertionError(setting)

        return score

    monkeypatch.setattr(module, "setting_scorer", never)
    assert tune(checkpoint, out, GRID, **SEARCH) == found
    with pytest.raises(ValueError, match=r"given: scored.folds: 2 -> 1$"):
        tune(checkpoint, out, GRID, **SEARCH | {"folds": 1})


def test_what_is_wrong_is_named_before_anything_is_written(run, tmp_path):
    checkpoint, out = latest_checkpoint(run, "plain"), tmp_path / "tuned.txt"
    with pytest.raises(ValueError, match="folds: expected at most the 2 images, got 3"):
        tune(checkpoint, out, GRID, **SEARCH | {"folds": 3})
    with pytest.raises(ValueError, match="factor: expected a number above 1"):
        tune(checkpoint, out, GRID, **SEARCH | {"factor": 0.5})
    with pytest.raises(ValueError, match="theta_beta: expected numbers above 0"):
        tune(checkpoint, out, GRID | {"theta_beta": (0.0,)}, **SEARCH)
    with pytest.raises(ValueError, match="out: expected a file, got the folder"):
        tune(checkpoint, tmp_path, GRID, **SEARCH)
    assert not list(tmp_path.iterdir())


def _run(script, *arguments):
    return subprocess.run(
        [sys.executable, ROOT / script, *arguments],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


def test_eval_takes_the_file_of_flags(run, tmp_path):
    checkpoint, out = latest_checkpoint(run, "plain"), tmp_path / "tuned.txt"
    grid = [f"--{name}={values[0]}" for name, values in GRID.items()]
    common = ["--rounds=0", "--folds=1", *grid]
    tuned = _run("tune.py", f"--checkpoint={checkpoint}", f"--out={out}", *common)
    assert tuned.returncode == 0, tuned.stderr
    setting = CRFSetting(*(values[0] for values in GRID.values()))
    assert tuned.stdout.splitlines()[-1] == f"In {out}: {as_flag(setting)}"
    config = [f"--config={ROOT / 'configs/shapes.py'}", f"--flagfile={out}"]
    config += ["--config.eval.panels=1", "--config.postprocessing.train_images=1"]
    done = _run("eval.py", f"--workdir={run}", *config)
    assert done.returncode == 0, done.stderr
    results = json.loads((run / "evaluation" / "results.json").read_text())
    assert results["postprocessing"] == setting._asdict()


def test_numbers_that_are_none_are_named(tmp_path):
    done = _run(
        "tune.py", "--checkpoint=x", f"--out={tmp_path / 'a'}", "--theta_beta=a"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "tune.py: --theta_beta: expected numbers, 10,20, got ['a']"
    )
