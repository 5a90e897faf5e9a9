"""Eight devices, and two processes of four, against one: the scripts as users run them.

The devices are those that XLA makes of a CPU.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from crfrnn_jax.training.checkpoints import latest_checkpoint, load_for_evaluation
from crfrnn_jax.training.initial import flat_names

ROOT = Path(__file__).parents[2]
# Eleven images are no multiple of eight devices.
NUM_VAL = 11


def _environment(devices):
    flag = f"--xla_force_host_platform_device_count={devices}"
    return os.environ | {"XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}


def _start(script, *arguments, devices=1, processes=1):
    """Starts a script of the project, in one process or several that are joined.

    In the arguments PROCESS stands for the number of each.
    """
    with socket.socket() as server:  # a port that is free, a moment later still
        server.bind(("localhost", 0))
        port = server.getsockname()[1]
    started = []
    for index in range(processes):
        own = [argument.replace("PROCESS", str(index)) for argument in arguments]
        command = [sys.executable, ROOT / script, *own]
        if processes > 1:
            command += [f"--coordinator=localhost:{port}", f"--process_id={index}"]
            command += [f"--num_processes={processes}"]
        # To a file: a pipe that nobody reads yet would fill, and stop the process.
        said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        process = subprocess.Popen(
            command, env=_environment(devices), stdout=said, stderr=subprocess.STDOUT
        )
        started.append((process, said))
    return started


def _finish(started, status=0):
    """Waits for the processes, each of which has to end with a status.

    Returns what each of them said.
    """
    texts = []
    for process, said in started:
        code = process.wait(timeout=1200)
        with said:
            said.seek(0)
            texts.append(said.read())
        assert code == status, texts[-1]
    return texts


def _run(script, *arguments, **where):
    _finish(_start(script, *arguments, **where))


def _training(directory, data, *, mesh, steps=3):
    """The arguments of a run."""
    arguments = [f"--config.data.dir={data}", "--config.data.num_train=24"]
    arguments += [f"--config.data.num_val={NUM_VAL}", "--config.data.size=32"]
    arguments += ["--config.model.widths=(8,16)", "--config.model.blocks=(0,1)"]
    arguments += ["--config.stages=('end_to_end',)", "--config.log_every=1"]
    arguments += ["--config.crf.num_iterations=2", "--config.crf.method=exact"]
    arguments += ["--config.eval.num_iterations=2", "--config.eval.panels=1"]
    arguments += [f"--config.eval.validation_images={NUM_VAL}"]
    arguments += [f"--config.mesh.{key}={value}" for key, value in mesh.items()]
    settings = {"steps": steps, "batch_size": 8, "crop": "(32,32)", "warmup_steps": 1}
    settings |= {"checkpoint_every": 2, "eval_every": 100, "start_from": ""}
    arguments += [f"--config.end_to_end.{k}={v}" for k, v in settings.items()]
    config = f"--config={ROOT / 'configs/shapes.py'}"
    return [config, f"--workdir={directory}", *arguments]


def _train(directory, data, *, mesh, **where):
    _run("train.py", *_training(directory, data, mesh=mesh), **where)
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data):
    """The work directory of a run on one device."""
    mesh = {"data": 1, "parameters": 1}
    return _train(tmp_path_factory.mktemp("alone"), data, mesh=mesh)


@pytest.fixture(scope="module")
def on_eight(tmp_path_factory, data):
    mesh = {"data": 8, "parameters": 1}
    return _train(tmp_path_factory.mktemp("eight"), data, mesh=mesh, devices=8)


@pytest.fixture(scope="module")
def in_two_processes(tmp_path_factory, data):
    """The same of two processes of four devices, each parameter divided over two."""
    mesh = {"data": 4, "parameters": 2}
    return _train(
        tmp_path_factory.mktemp("two"), data, mesh=mesh, devices=4, processes=2
    )


def _log(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("run", ["on_eight", "in_two_processes"])
def test_many_devices_train_as_one(run, alone, request):
    """Losses, gradients and parameters, to the rounding of sums in another order."""
    workdir = request.getfixturevalue(run)
    for one, many in zip(_log(alone), _log(workdir), strict=True):
        assert one.keys() == many.keys()
        for name in one.keys() & {"loss", "gradient_norm", "learning_rate"}:
            np.testing.assert_allclose(many[name], one[name], rtol=1e-5)
        for name in (name for name in one if name.startswith("val_")):
            np.testing.assert_allclose(many[name], one[name], atol=1e-3)
    _assert_same_params(workdir, alone)


def _assert_same_params(workdir, alone):
    expected, params = (
        flat_names(load_for_evaluation(latest_checkpoint(run, "end_to_end"))[0])
        for run in (alone, workdir)
    )
    for name, leaf in expected.items():
        np.testing.assert_allclose(params[name], leaf, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("where", [{"devices": 8}, {"devices": 4, "processes": 2}])
def test_each_image_is_evaluated_once_wherever(where, alone, tmp_path):
    """The very same numbers: an image's own do not depend on its device."""

    def evaluate(name, **where):
        step = tmp_path / name / "3"
        shutil.copytree(alone / "checkpoints" / "end_to_end" / "3", step)
        _run("eval.py", f"--checkpoint={step}", **where)
        return json.loads((tmp_path / name / "evaluation_3/results.json").read_text())

    assert evaluate("many", **where)["rows"] == evaluate("one")["rows"]


def test_a_search_is_the_same_in_two_processes(alone, tmp_path):
    """Its images are divided over the devices, five over four: it finds the same."""
    config = [f"--config={ROOT / 'configs/shapes.py'}", "--rounds=0", "--folds=2"]
    config += ["--config.postprocessing.train_images=5", "--theta_alpha=5,10"]
    config += ["--theta_beta=10", "--theta_gamma=1", "--spatial_weight=1"]
    found = []
    for name, where in (("one", {}), ("two", {"devices": 2, "processes": 2})):
        step, out = alone / "checkpoints" / "end_to_end" / "3", tmp_path / name
        _run("tune.py", f"--checkpoint={step}", f"--out={out}", *config, **where)
        found.append((out.read_text(), _progress(out)))
    assert found[0] == found[1]


def _progress(out):
    """The confusion matrices of every setting, as they were written down."""
    return (out.parent / f"{out.name}.progress.jsonl").read_text()


def test_processes_that_differ_in_folder_or_config_all_end(alone, data, tmp_path):
    """Each would go its own way, and wait for the others for ever."""
    arguments = _training(tmp_path / "PROCESS", data, mesh={"data": 2})
    for said in _finish(_start("train.py", *arguments, processes=2), status=1):
        assert "expected the same holder of the work directory in every process" in said
    arguments = _training(tmp_path / "one", data, mesh={"data": 2})
    arguments += ["--config.seed=PROCESS"]
    for said in _finish(_start("train.py", *arguments, processes=2), status=1):
        assert "config: expected the same config in every process" in said

    # Of a search, one finds the progress and the other none.
    step, done = alone / "checkpoints" / "end_to_end" / "3", tmp_path / "0" / "tuned"
    config = [f"--config={ROOT / 'configs/shapes.py'}", "--rounds=0", "--folds=1"]
    config += ["--config.postprocessing.train_images=2", "--theta_alpha=5"]
    config += ["--theta_beta=10", "--theta_gamma=1", "--spatial_weight=1"]
    config += ["--bilateral_weight=1", f"--checkpoint={step}"]
    _run("tune.py", f"--out={done}", *config)
    config += [f"--out={tmp_path / 'PROCESS' / 'tuned'}"]
    for said in _finish(_start("tune.py", *config, processes=2), status=1):
        assert "the same number of settings in every process, got [1, 0]" in said


@pytest.mark.parametrize(
    ("run", "mesh", "where"),
    [
        ("on_eight", {"data": 1, "parameters": 2}, {"devices": 2}),
        ("in_two_processes", {"data": 1, "parameters": 1}, {}),
    ],
)
def test_a_run_goes_on_with_other_devices(
    run, mesh, where, alone, data, request, tmp_path
):
    """From step 2, in the shares that there are then."""
    workdir = tmp_path / "run"
    shutil.copytree(request.getfixturevalue(run), workdir)
    shutil.rmtree(workdir / "checkpoints" / "end_to_end" / "3")
    _train(workdir, data, mesh=mesh, **where)
    _assert_same_params(workdir, alone)


def test_two_processes_stop_at_the_same_step_and_go_on(data, tmp_path):
    """Though only one of them is told, as where a scheduler takes one host away.

    And once more, where steps are not counted from the start.
    """
    mesh, where = {"data": 2, "parameters": 1}, {"devices": 1, "processes": 2}
    arguments = _training(tmp_path, data, mesh=mesh, steps=60)
    step = 0
    for told in range(2):
        started = _start("train.py", *arguments, **where)
        log, deadline = tmp_path / "metrics.jsonl", time.monotonic() + 600
        while not log.exists() or log.read_text().count("\n") < step + 3:
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process, _ in started)
            time.sleep(0.01)
        started[told][0].send_signal(signal.SIGTERM)
        _finish(started, status=128 + signal.SIGTERM)
        before, step = step, int(latest_checkpoint(tmp_path, "end_to_end").name)
        assert before + 3 <= step < 60
    _run("train.py", *arguments, **where)
    assert latest_checkpoint(tmp_path, "end_to_end").name == "60"
    assert [line["step"] for line in _log(tmp_path) if "loss" in line] == [
        *range(1, 61)
    ]
