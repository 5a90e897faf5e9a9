"""Runs that are told to stop, killed, or meet a full disk and damaged files."""

import fcntl
import json
import os
import random
import signal
import subprocess
import time

import jax
import killing
import numpy as np
import pytest
from jax.experimental import multihost_utils
from small_networks import save_checkpoint
from tiny import make_folder_config

from crfrnn_jax.training import loop
from crfrnn_jax.training.checkpoints import (
    CheckpointError,
    latest_checkpoint,
    load_for_evaluation,
)

STEPS = 12


@pytest.fixture(scope="module")
def in_one_go(data_dir, tmp_path_factory):
    """The work directory of a run that nothing happens to."""
    workdir = tmp_path_factory.mktemp("in_one_go")
    killing.run_to_the_end(workdir, data_dir, steps=STEPS)
    return workdir


def _assert_same_end(one, other):
    jax.tree.map(
        np.testing.assert_array_equal,
        killing.final_params(one),
        killing.final_params(other),
    )


def test_a_run_that_is_killed_ends_where_one_in_one_go_does(
    in_one_go, data_dir, tmp_path
):
    """Three times here; twenty times by the script of that module."""
    rng = random.Random(0)
    killing.kill_until_done(tmp_path, data_dir, 3, rng, steps=STEPS)
    _assert_same_end(in_one_go, tmp_path)


def test_sigterm_is_a_checkpoint_and_the_same_command_goes_on(
    in_one_go, data_dir, tmp_path
):
    process = killing.start(tmp_path, data_dir, steps=STEPS)
    log = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 600
    while not log.exists() or log.read_text().count("\n") < 3:
        assert process.poll() is None, (tmp_path / "said.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 128 + signal.SIGTERM
    said = (tmp_path / "said.txt").read_text().splitlines()[-1]
    assert said.startswith("train.py: stopped by SIGTERM after step ")
    step = int(said.split("step ")[1].split(" ")[0])
    assert killing.newest(tmp_path) == f"fcn {step}"
    killing.run_to_the_end(tmp_path, data_dir, steps=STEPS)
    _assert_same_end(in_one_go, tmp_path)


class _StopAt:
    """Stands for `StopSignal`: SIGTERM comes as a step's validation begins."""

    step = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def listen(self):
        type(self).step += 1

    def is_due(self):
        return False

    def is_told(self):
        return self.step == 4


def test_a_validation_that_is_broken_off_is_made_up_for(
    tiny_config, tmp_path, monkeypatch
):
    tiny_config.stages = ("fcn",)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "StopSignal", _StopAt)
        with pytest.raises(loop.StoppedError, match="after step 4 of stage 'fcn'"):
            loop.train(tiny_config, tmp_path)
    assert latest_checkpoint(tmp_path, "fcn").name == "4"
    for _ in range(2):  # and once alone
        loop.train(tiny_config, tmp_path)
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        scored = [
            line for line in map(json.loads, lines) if "val_mean_iou_plain" in line
        ]
        assert [line["step"] for line in scored] == [4]


def test_saving_asks_nobody_whether_to_stop(tmp_path, monkeypatch):
    """JAX counts who asks, and Orbax would by itself, with other numbers than ours."""
    asked = []
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", asked.append)
    save_checkpoint(tmp_path, "plain")
    assert asked == []


def _interrupted(config, workdir, monkeypatch, step):
    """A run of the first stage that stops before a step."""
    original = loop.make_train_step

    def make(*arguments, **options):
        train_step = original(*arguments, **options)

        def interruptible(state, batch):
            if int(state.step) + 1 == step:
                raise KeyboardInterrupt
            return train_step(state, batch)

        return interruptible

    with monkeypatch.context() as patch:
        patch.setattr(loop, "make_train_step", make)
        with pytest.raises(KeyboardInterrupt):
            loop.train(config, workdir)


def _truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("what", "damage", "told"),
    [
        ("params/**/*", _truncate, "is damaged in params/"),
        ("params/**/*", _flip_a_bit, "is damaged in params/"),
        ("params/**/*", os.unlink, "is damaged in params/"),
        ("training/**/*", _flip_a_bit, "is damaged in training/"),
        ("meta/*", _truncate, "is damaged in meta/metadata"),
        ("digests.json", _truncate, "is not whole, it has no digests.json"),
        ("digests.json", os.unlink, "is not whole, it has no digests.json"),
    ],
)
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(
    what, damage, told, tiny_config, tmp_path, monkeypatch, caplog
):
    tiny_config.stages = ("fcn",)
    tiny_config.fcn.checkpoint_every = 1
    _interrupted(tiny_config, tmp_path / "run", monkeypatch, step=4)
    expected = load_for_evaluation(latest_checkpoint(tmp_path / "run", "fcn"))[0]
    newest = tmp_path / "run" / "checkpoints" / "fcn" / "3"
    files = [path for path in newest.glob(what) if path.is_file()]
    damage(max(files, key=lambda path: path.stat().st_size))
    caplog.clear()
    _interrupted(tiny_config, tmp_path / "run", monkeypatch, step=4)
    (line,) = [r.getMessage() for r in caplog.records if "goes on from" in r.message]
    assert str(newest) in line
    assert told in line
    assert [path.name for path in (tmp_path / "run/damaged").iterdir()] == ["0_fcn_3"]
    again = load_for_evaluation(latest_checkpoint(tmp_path / "run", "fcn"))[0]
    jax.tree.map(np.testing.assert_array_equal, expected, again)


def test_where_no_checkpoint_is_whole_nothing_is_begun_anew(
    tiny_config, tmp_path, monkeypatch
):
    tiny_config.stages = ("fcn",)
    tiny_config.fcn.checkpoint_every = 1
    _interrupted(tiny_config, tmp_path, monkeypatch, step=4)
    for step in ("2", "3"):
        (tmp_path / "checkpoints" / "fcn" / step / "digests.json").unlink()
    with pytest.raises(CheckpointError, match="None of the stage's is left; remove"):
        loop.train(tiny_config, tmp_path)
    assert latest_checkpoint(tmp_path, "fcn").name == "3"
    assert (tmp_path / "metrics.jsonl").read_text().count("loss") == 3


def test_an_evaluation_of_a_damaged_checkpoint_is_refused(
    tiny_config, tmp_path, monkeypatch
):
    tiny_config.stages = ("fcn",)
    _interrupted(tiny_config, tmp_path, monkeypatch, step=3)
    newest = latest_checkpoint(tmp_path, "fcn")
    _flip_a_bit(max(newest.glob("params/d/*"), key=lambda path: path.stat().st_size))
    with pytest.raises(CheckpointError, match=r"fcn/2: .* damaged in params/d/"):
        load_for_evaluation(newest)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes, where the user may have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_told_and_leaves_the_checkpoint_before(
    small_disk, tiny_config, tmp_path
):
    tiny_config.stages = ("fcn",)
    tiny_config.fcn.update(steps=40, checkpoint_every=10, eval_every=40)
    workdir = small_disk / "run"
    _fill_but(small_disk, 600_000, workdir)
    with pytest.raises((CheckpointError, OSError), match=r"written|No space left"):
        loop.train(tiny_config, workdir)
    load_for_evaluation(workdir / "checkpoints" / "fcn" / "10")
    (small_disk / "filling").unlink()
    loop.train(tiny_config, workdir)
    assert latest_checkpoint(workdir, "fcn").name == "40"


def _fill_but(folder, left, workdir):
    """Leaves so many bytes free."""
    workdir.mkdir()
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    (folder / "filling").write_bytes(bytes(free - left))


def test_a_work_directory_that_can_not_be_written_to_is_named(small_disk, tiny_config):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(OSError, match=f"Read-only file system: '{small_disk}/run'"):
        loop.train(tiny_config, small_disk / "run")


def test_two_runs_on_one_work_directory_are_refused(tiny_config, tmp_path):
    with (tmp_path / ".lock").open("w") as file:
        file.write("process 12 on a-host\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=r"workdir: .*process 12 on a-host holds"):
            loop.train(tiny_config, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_an_image_that_is_gone_is_named_and_nothing_hangs(
    data_dir, tmp_path, monkeypatch
):
    config = make_folder_config(tmp_path / "photos", data_dir)
    config.fcn.update(steps=100, checkpoint_every=10)
    original = loop.make_train_step

    def make(*arguments, **options):
        train_step = original(*arguments, **options)

        def step_after(state, batch):
            (tmp_path / "photos/train/images/photo 2.png").unlink(missing_ok=True)
            return train_step(state, batch)

        return step_after

    monkeypatch.setattr(loop, "make_train_step", make)
    with pytest.raises(ValueError, match=r"photo 2\.png: expected a readable image"):
        loop.train(config, tmp_path / "run")
