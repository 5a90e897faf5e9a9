"""What a checkpoint says of itself: nothing of a stranger's is run.

The checkpoints are written by the package and then changed as a stranger could.
"""

import json
import re
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from small_networks import save_checkpoint, save_image

from configs import shapes
from crfrnn_jax import predict
from crfrnn_jax.data import load_dataset
from crfrnn_jax.data.scenes import CLASS_NAMES
from crfrnn_jax.models import build_segmenter
from crfrnn_jax.training.checkpoints import CheckpointError, load_for_evaluation
from crfrnn_jax.training.evaluate import evaluate
from crfrnn_jax.training.initial import initial_params
from crfrnn_jax.training.networks import load_network
from crfrnn_jax.training.tune import tune

LABELS = len(CLASS_NAMES)  # of the data set "shapes"
MODULE = "a_strangers_module"
CLASS = f"{MODULE}:Net"
GRID = {name: (1.0,) for name in ("theta_alpha", "theta_beta", "theta_gamma")}
GRID |= {"bilateral_weight": (1.0,), "spatial_weight": (1.0,)}
SEARCH = {"factor": 2.0, "rounds": 0, "folds": 1}


def open_to_change(workdir, stage, **options):
    """A checkpoint without digests, which a stranger could write to match."""
    path, model, params = save_checkpoint(workdir, stage, **options)
    (path / "digests.json").unlink()
    return path, model, params


def change_meta(path, change):
    file = path / "meta" / "metadata"
    meta = json.loads(file.read_text())
    change(meta)
    file.write_text(json.dumps(meta))


def put(key, value):
    """A change of a key; None takes it out."""

    def change(meta):
        *sections, last = key.split(".")
        for section in sections:
            meta = meta[section]
        if value is None:
            del meta[last]
        else:
            meta[last] = value

    return change


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """A checkpoint whose network's class lies in a module beside it."""
    (tmp_path / f"{MODULE}.py").write_text("from crfrnn_jax.models import FCN as Net\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path, _, _ = open_to_change(tmp_path, "end_to_end", labels=LABELS)
    change_meta(path, put("config.model.name", CLASS))
    change_meta(path, put("config.data.dir", str(tmp_path / "data")))
    yield path
    sys.modules.pop(MODULE, None)


def draw_scenes(path):
    load_dataset(ConfigDict(load_for_evaluation(path)[1]["config"]["data"]))


def own_config(name):
    config = shapes.get_config()
    config.model = ConfigDict({"name": name})
    config.data.update(num_train=1, num_val=1, size=32)
    return config


def test_predict_imports_no_module_that_a_checkpoint_names(strangers, tmp_path):
    save_image(tmp_path / "a.png")
    usage = [str(tmp_path / "a.png"), "--weights", str(strangers)]
    usage += ["--out", str(tmp_path / "out")]
    for flags in ([], ["--backbone", f"{MODULE}:Other"], ["--backbone", "fcn"]):
        told = f"{re.escape(str(strangers))}: config.model.name: .* --backbone {CLASS}"
        with pytest.raises(SystemExit, match=told):
            predict.main([*usage, *flags])
        assert MODULE not in sys.modules
    assert not (tmp_path / "out").exists()
    assert load_network(strangers, backbone=CLASS).num_labels == LABELS
    assert MODULE in sys.modules


@pytest.mark.parametrize("override", [None, own_config("fcn"), own_config("x:Net")])
def test_evaluation_imports_no_module_that_a_checkpoint_names(
    strangers, tmp_path, override
):
    if override is not None and override.model.name == "fcn":
        override.model = shapes.get_config().model
    told = rf"{strangers.name}: config.model.name: .*model.name='{CLASS}'"
    with pytest.raises(ValueError, match=told):
        evaluate(None, strangers, tmp_path / "results", override=override)
    with pytest.raises(ValueError, match=told):
        tune(strangers, tmp_path / "out.txt", GRID, **SEARCH, override=override)
    assert MODULE not in sys.modules
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "results").exists()


def test_a_config_of_ones_own_that_names_the_class_is_trust(strangers, tmp_path):
    change_meta(strangers, put("config.data.num_train", 1))
    change_meta(strangers, put("config.data.num_val", 1))
    change_meta(strangers, put("config.data.size", 32))
    override = own_config(CLASS)
    override.data.dir = str(tmp_path / "data")
    override.eval.panels = 1
    evaluate(None, strangers, tmp_path / "results", override=override)
    assert MODULE in sys.modules
    assert (tmp_path / "results" / "results.md").exists()


def test_to_start_from_a_checkpoint_imports_nothing(strangers):
    config = shapes.get_config()
    config.model.update(widths=(8, 8), blocks=(0, 0), num_skips=1)
    config.crf.method = "exact"
    model = build_segmenter(config, LABELS)
    init = ConfigDict({"file": str(strangers), "skip": ()})
    initial_params(model, jax.random.key(0), init)
    assert MODULE not in sys.modules


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("config", 3, "config: expected a section of keys, got 3"),
        ("config", None, "meta.config: expected a value, got none"),
        ("config.model", [], "config.model: expected a section"),
        ("class_names", 5, "meta.class_names: expected names in a tuple"),
        ("class_names", [1], "meta.class_names: expected names in a tuple"),
        ("stage", "crf", "meta.stage: expected one of"),
        ("stage", ["fcn"], "meta.stage: expected one of"),
        ("stage", "", "meta.stage: expected one of"),
        ("config.end_to_end", None, "config.end_to_end: expected a value, got none"),
        ("config.end_to_end.steps", "9", "config.end_to_end.steps: .* got '9'"),
        ("config.end_to_end.use_crf", None, "config.end_to_end.use_crf: expected a"),
        # Stages that go back to each other, for ever.
        ("config.fcn.start_from", "end_to_end", "config.fcn.start_from: .* one of"),
    ],
)
def test_a_meta_of_another_form_is_told(tmp_path, key, value, message):
    path, _, _ = open_to_change(tmp_path, "end_to_end")
    change_meta(path, put(key, value))
    told = rf"{re.escape(str(path))}: .* another version .*: {message}"
    with pytest.raises(CheckpointError, match=told):
        load_for_evaluation(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("canvas", None, "config.canvas: expected a value, got none"),
        ("crf.theta_delta", 2.0, "config.crf.theta_delta: .* did you mean 'theta"),
        ("crf.theta_beta", "3", "config.crf.theta_beta: expected a finite number"),
        ("model.widths", [8, "8"], "config.model.widths: expected a tuple of"),
        ("model.width", 8, "config.model.width: .*did you mean 'widths'"),
        ("model.name", "resnet", "config.model.name: expected one of"),
        ("model.num_skips", 9, "num_skips: expected 1 to the number of stages"),
        ("eval.multiple_of", None, "config.eval.multiple_of: expected a value"),
        ("eval.multiple_of", 0, "config.eval.multiple_of: expected at least 1"),
        ("eval.multiples_of", 0, "config.eval.multiples_of: .* known"),
        ("a.b", 1, "config: expected keys of a config"),
    ],
)
def test_a_config_of_another_version_is_told_before_prediction(
    tmp_path, key, value, message
):
    path, _, _ = open_to_change(tmp_path, "end_to_end")
    change = put(f"config.{key}", value)
    if key == "a.b":
        change = lambda meta: meta["config"].update({key: value})  # noqa: E731
    change_meta(path, change)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .*{message}"):
        load_network(path)


def test_what_prediction_does_not_read_may_be_of_another_version(tmp_path):
    path, _, _ = open_to_change(tmp_path, "end_to_end")
    for key in ("log_every", "postprocessing", "data", "plain", "fcn.momentum"):
        change_meta(path, put(f"config.{key}", None))
    change_meta(path, put("config.new", 1))
    assert load_network(path).num_labels == 5


def test_evaluation_names_the_difference_of_parameters(tmp_path):
    path, _, _ = open_to_change(tmp_path, "end_to_end")
    change_meta(path, put("config.model.widths", [8, 16]))
    change_meta(path, put("config.data.dir", str(tmp_path / "data")))
    for key in ("num_train", "num_val"):
        change_meta(path, put(f"config.data.{key}", 1))
    draw_scenes(path)
    message = r"another shape: backbone/Conv_1/kernel \(expected \[3, 3, 8, 16\]"
    with pytest.raises(ValueError, match=message):
        evaluate(None, path, tmp_path / "results")
    with pytest.raises(ValueError, match=message):
        tune(path, tmp_path / "out.txt", GRID, **SEARCH)


def test_parameters_come_to_the_first_device(tmp_path):
    path, _, saved = open_to_change(tmp_path, "plain")
    params, _ = load_for_evaluation(path)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, saved)
    for leaf in jax.tree.leaves(params):
        assert leaf.devices() == {jax.devices()[0]}


def test_a_folder_without_parameters_is_refused(tmp_path):
    path, _, _ = open_to_change(tmp_path, "plain")
    (path / "params" / "_METADATA").unlink()
    with pytest.raises(CheckpointError, match="damaged, or of another model"):
        load_for_evaluation(path)


def test_arrays_that_the_folder_can_not_hold_are_refused(tmp_path):
    """A store of zarr without a chunk is zeros of any size."""
    path, _, _ = open_to_change(tmp_path, "plain")
    for file in path.glob("params/manifest.ocdbt"):
        file.unlink()
    file = path / "params" / "_METADATA"
    metadata = json.loads(file.read_text())
    metadata["use_ocdbt"] = False
    name = "('backbone', 'Conv_0', 'kernel')"
    metadata["tree_metadata"] = {name: metadata["tree_metadata"][name]}
    file.write_text(json.dumps(metadata))
    store = path / "params" / "backbone.Conv_0.kernel"
    store.mkdir()
    array = {"zarr_format": 2, "shape": [2**40], "chunks": [2**20], "dtype": "<f4"}
    array |= {"compressor": None, "fill_value": 0, "filters": None, "order": "C"}
    (store / ".zarray").write_text(json.dumps(array))
    with pytest.raises(CheckpointError, match=r"claims more bytes than such a file"):
        load_for_evaluation(path)


def test_no_array_lies_outside_of_the_folder(tmp_path):
    path, _, _ = open_to_change(tmp_path, "plain")
    (path / "params" / "manifest.ocdbt").unlink()
    file = path / "params" / "_METADATA"
    metadata = json.loads(file.read_text())
    metadata["use_ocdbt"] = False
    up = "../" * 4 + "outside"
    (first, *_) = metadata["tree_metadata"].values()
    first["key_metadata"] = [{"key": key, "key_type": 2} for key in (up, "secret")]
    metadata["tree_metadata"] = {str((up, "secret")): first}
    file.write_text(json.dumps(metadata))
    store = tmp_path / "outside.secret"
    store.mkdir()
    array = {"zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "<f4"}
    array |= {"compressor": None, "fill_value": 0, "filters": None, "order": "C"}
    (store / ".zarray").write_text(json.dumps(array))
    with pytest.raises(CheckpointError, match="Invalid file path"):
        load_for_evaluation(path)


def test_no_data_is_made_where_only_a_checkpoint_says(tmp_path):
    path, _, _ = open_to_change(tmp_path, "end_to_end", labels=LABELS)
    change_meta(path, put("config.data.dir", str(tmp_path / "data")))
    told = r"nothing is made in a folder that only a checkpoint names"
    elsewhere = shapes.get_config()
    for override in (None, elsewhere):
        with pytest.raises(FileNotFoundError, match=told):
            evaluate(None, path, tmp_path / "results", override=override)
        with pytest.raises(FileNotFoundError, match=told):
            tune(path, tmp_path / "out.txt", GRID, **SEARCH, override=override)
    assert not (tmp_path / "data").exists()


def test_results_are_not_written_through_links(tmp_path):
    path, _, _ = open_to_change(tmp_path, "end_to_end", labels=LABELS)
    change_meta(path, put("config.data.dir", str(tmp_path / "data")))
    for key in ("num_train", "num_val", "size"):
        change_meta(path, put(f"config.data.{key}", 32 if key == "size" else 1))
    draw_scenes(path)
    results, outside = tmp_path / "results", tmp_path / "outside"
    results.mkdir()
    outside.write_text("as it was")
    names = ("results.json", "results.md", "trimap.png", "panels.png")
    for name in names:
        (results / name).symlink_to(outside)
    evaluate(None, path, results)
    assert outside.read_text() == "as it was"
    assert not any((results / name).is_symlink() for name in names)
    (tmp_path / "linked").symlink_to(results)
    with pytest.raises(ValueError, match=r"linked: expected a folder, got a symbolic"):
        evaluate(None, path, tmp_path / "linked")
