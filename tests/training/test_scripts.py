"""The scripts as a user runs them: the default run, shrunk, whole; and their errors."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


def _run(script, *arguments):
    return subprocess.run(
        [sys.executable, ROOT / script, *arguments],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The work directory of a whole run of train.py with its lattice CRF."""
    directory = tmp_path_factory.mktemp("scripts")
    arguments = [f"--config.data.dir={directory / 'data'}"]
    arguments += ["--config.data.num_train=8", "--config.data.num_val=3"]
    arguments += ["--config.data.size=32", "--config.log_every=1"]
    arguments += ["--config.eval.panels=2", "--config.postprocessing.train_images=1"]
    for stage in ("fcn", "plain", "end_to_end"):
        settings = {"steps": 2, "batch_size": 2, "crop": "(32,32)", "warmup_steps": 1}
        arguments += [f"--config.{stage}.{k}={v}" for k, v in settings.items()]
    workdir = directory / "run"
    done = _run(
        "train.py",
        f"--config={ROOT / 'configs/shapes.py'}",
        f"--workdir={workdir}",
        *arguments,
    )
    assert done.returncode == 0, done.stderr
    return workdir


def test_eval_needs_the_work_directory_alone(run):
    done = _run("eval.py", f"--workdir={run}")
    assert done.returncode == 0, done.stderr
    for title in ("plain FCN", "FCN + CRF as post-processing", "end-to-end CRF-RNN"):
        assert title in done.stdout
    results = json.loads((run / "evaluation" / "results.json").read_text())
    assert list(results["rows"]) == ["plain", "postprocessing", "end_to_end"]
    for row in results["rows"].values():
        assert 0 <= row["mean_iou"] <= 1
        assert len(row["trimap_mean_iou"]) == 10
        assert len(row["iou_per_class"]) == len(results["class_names"])
    for name in ("panels.png", "trimap.png"):
        with Image.open(run / "evaluation" / name) as picture:
            assert len(np.unique(np.asarray(picture.convert("RGB")))) > 10


def test_eval_of_an_unfinished_run_says_so_in_its_results(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints/end_to_end")
    (copy / "checkpoints/plain/2").rename(copy / "checkpoints/plain/1")
    done = _run("eval.py", f"--workdir={copy}")
    assert done.returncode == 0, done.stderr
    line = "plain: unfinished, step 1 of 2"
    assert line in (copy / "evaluation" / "results.md").read_text().splitlines()
    results = json.loads((copy / "evaluation" / "results.json").read_text())
    assert results["unfinished"] == [line]


def test_eval_takes_one_checkpoint_wherever_it_lies(run, tmp_path):
    shutil.copytree(run / "checkpoints/end_to_end/2", tmp_path / "best" / "2")
    done = _run("eval.py", f"--checkpoint={tmp_path / 'best' / '2'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "best" / "evaluation_2" / "results.md").exists()
    assert "end-to-end CRF-RNN" in done.stdout
    assert "plain FCN" not in done.stdout


def _only_line(stderr):
    (line,) = [line for line in stderr.splitlines() if ".py: " in line]
    assert "Traceback" not in stderr
    return line


def test_eval_without_a_checkpoint_says_so(tmp_path):
    done = _run("eval.py", f"--workdir={tmp_path}")
    assert done.returncode == 1
    assert "no checkpoint of stage 'plain' or" in _only_line(done.stderr)
    (tmp_path / "file").touch()
    done = _run("eval.py", f"--workdir={tmp_path / 'file'}")
    assert done.returncode == 1
    assert "workdir: expected a folder, got the file" in _only_line(done.stderr)
    done = _run("eval.py", "--checkpoint=/")
    assert done.returncode == 1
    assert "/: no whole checkpoint there" in _only_line(done.stderr)


def test_eval_of_a_broken_checkpoint_says_which(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    step = copy / "checkpoints/end_to_end/2"
    for path in step.glob("params/**/*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = _run("eval.py", f"--checkpoint={step}")
    assert done.returncode == 1
    line = _only_line(done.stderr)
    assert str(step) in line
    assert "damaged" in line


def test_eval_without_its_data_names_what_is_missing(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for path in copy.glob("checkpoints/*/*/meta/metadata"):
        meta = json.loads(path.read_text())
        meta["config"]["data"] = {
            "name": "folder",
            "dir": str(tmp_path / "gone"),
            "class_names": ["a", "b"],
            "ignore_label": 9,
        }
        path.write_text(json.dumps(meta))
        (path.parents[1] / "digests.json").unlink()
    done = _run("eval.py", f"--workdir={copy}")
    assert done.returncode == 1
    assert str(tmp_path / "gone") in _only_line(done.stderr)
    done = _run("eval.py", f"--workdir={copy}", f"--config={ROOT}/configs/shapes.py")
    assert done.returncode == 1
    assert "the run's data set, 'folder', got 'shapes'" in _only_line(done.stderr)
    override = [f"--config={ROOT / 'configs/camvid.py'}"]
    override += [f"--config.data.dir={tmp_path / 'moved'}"]
    done = _run("eval.py", f"--workdir={copy}", *override)
    assert done.returncode == 1
    assert str(tmp_path / "moved") in _only_line(done.stderr)


def test_train_names_a_wrong_key_and_a_missing_folder(tmp_path):
    config = f"--config={ROOT / 'configs/camvid.py'}"
    missing = _run(
        "train.py", config, f"--workdir={tmp_path}", f"--config.data.dir={tmp_path}/no"
    )
    assert missing.returncode == 1
    assert f"{tmp_path}/no" in _only_line(missing.stderr)
    joined = ["--coordinator=localhost:1", "--num_processes=2", "--process_id=2"]
    alone = _run("train.py", config, f"--workdir={tmp_path}", *joined)
    assert alone.returncode == 1
    assert "--process_id: expected 0 to 1, of 2 processes" in _only_line(alone.stderr)
    typing_error = _run("train.py", config, "--workdir=x", "--config.fcn.stepz=3")
    assert typing_error.returncode == 1
    assert 'Did you mean "steps"' in _only_line(typing_error.stderr)
