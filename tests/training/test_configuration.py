import copy
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs import (
    camvid,
    coco_voc_crfrnn,
    context_crfrnn,
    paper_data,
    shapes,
    voc_crfrnn,
    voc_crfrnn_modern,
    voc_fcn8s,
    voc_fcn16s,
    voc_fcn32s,
)
from crfrnn_jax.checks import InputError
from crfrnn_jax.data import load_dataset
from crfrnn_jax.models import build_segmenter
from crfrnn_jax.training.configuration import check_config
from crfrnn_jax.training.optimizers import make_optimizer
from crfrnn_jax.training.same_run import (
    ancestry,
    differences,
    make_places_absolute,
    take_places,
)

CONFIGS = {
    "shapes": shapes.get_config(),
    "camvid": camvid.get_config(),
    "voc_fcn32s": voc_fcn32s.get_config(),
    "voc_fcn16s": voc_fcn16s.get_config(),
    "voc_fcn8s": voc_fcn8s.get_config(),
    "voc_crfrnn": voc_crfrnn.get_config(),
    **{
        f"coco_voc_crfrnn:{step}": coco_voc_crfrnn.get_config(step)
        for step in ("fcn32s", "fcn8s", "crfrnn")
    },
    "context_crfrnn": context_crfrnn.get_config(),
    "voc_crfrnn_modern": voc_crfrnn_modern.get_config(),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_are_valid_and_locked(name):
    config = CONFIGS[name]
    check_config(config)
    config.lock()
    stage = config[config.stages[0]]
    with pytest.raises(AttributeError, match="learning_rat"):
        stage.learning_rat = 0.1


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_describe_a_network_whose_stages_find_their_parts(name):
    """Built, shaped and partitioned, so that no name in a config is of nothing."""
    config = CONFIGS[name]
    model = build_segmenter(config, num_labels=21)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    for stage in config.stages:
        jax.eval_shape(make_optimizer(config[stage]).init, params)


def test_the_published_stages_have_the_papers_numbers():
    config = CONFIGS["voc_crfrnn"]
    stage = config.end_to_end
    assert stage.learning_rate == 1e-13
    assert stage.weights_learning_rate == pytest.approx(1e-9)
    assert stage.compatibility_learning_rate == pytest.approx(1e-10)
    assert (stage.momentum, stage.weight_decay) == (0.99, 5e-4)
    assert (stage.reduction, stage.batch_size) == ("sum", 1)
    assert (config.crf.num_iterations, config.eval.num_iterations) == (5, 10)
    assert config.data.counts.to_dict() == {"train": 11685, "val": 346}
    assert CONFIGS["coco_voc_crfrnn:fcn8s"].data.counts.train == 77784


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fcn.steps", 0, r"config.fcn.steps: expected at least 1, got 0"),
        ("fcn.warmup_steps", 10**6, r"config.fcn.warmup_steps: expected 0 to "),
        ("fcn.crop", (320,), r"config.fcn.crop: expected \(height, width\).*\(320,\)"),
        ("plain.learning_rate", -1.0, r"config.plain.learning_rate: .* above 0"),
        ("end_to_end.start_from", "plane", r"config.end_to_end.start_from: .*'plane'"),
        ("fcn.checkpoint_every", 7, r"config.fcn.checkpoint_every: .* multiple of"),
        (
            "crf.theta_beta",
            0.0,
            r"config.crf.theta_beta: expected a number above 0, got 0",
        ),
        ("fcn.class_weighting", "a", r"config.fcn.class_weighting: .* got 'a'"),
        ("stages", ("fcn", "crf"), r"config.stages: .* got 'crf'"),
        ("log_every", 0, r"config.log_every: expected at least 1, got 0"),
        ("eval.panels", 0, r"config.eval.panels: expected at least 1, got 0"),
        ("crf.num_iterations", -1, r"config.crf.num_iterations: .* got -1"),
        ("postprocessing.candidates", (), r"config.postprocessing.candidates: .*one"),
        ("postprocessing.candidates", ((1, 2, 3, 4),), r"three widths.*\(1, 2, 3, 4\)"),
        ("postprocessing.candidates", ((1, 0, 3, 4, 5),), r"widths above 0 .*\(1, 0,"),
        ("stages", (), r"config.stages: expected one at least, got \(\)"),
        ("stages", ("fcn", "fcn"), r"config.stages: expected each once, got"),
        ("crf.share_parameters", False, r"config.eval.num_iterations: .* 5, got 10"),
        ("fcn.momentum", 1.0, r"config.fcn.momentum: .* 0 to below 1, got 1\.0"),
        ("fcn.optimizer", "adam", r"config.fcn.optimizer: .* got 'adam'"),
        ("canvas", 500, r"config.fcn.crop: expected the canvas, \(500, 500\)"),
        ("plain.eval_every", 7, r"config.plain.eval_every: .* multiple of"),
    ],
)
def test_names_the_key_that_is_wrong(key, value, message):
    config = shapes.get_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=message):
        check_config(config)


WRONG_TYPES = [
    ("seed", "0", "config.seed: expected an integer, got '0'"),
    ("seed", True, "config.seed: expected an integer, got True"),
    ("log_every", 2.0, "config.log_every: expected an integer, got 2.0"),
    ("canvas", None, "config.canvas: expected an integer, got None"),
    ("stages", "fcn", r"config.stages: expected names in a tuple.*got 'fcn'"),
    ("fcn.crop", 80, r"config.fcn.crop: expected \(height, width\).*, got 80"),
    ("fcn.crop", ("80", 80), "config.fcn.crop: expected an integer, got '80'"),
    ("fcn.steps", [100], r"config.fcn.steps: expected an integer, got \[100\]"),
    ("fcn.use_crf", "no", "config.fcn.use_crf: expected True or False, got 'no'"),
    ("fcn.frozen", (1,), r"config.fcn.frozen: expected names .*got \(1,\)"),
    ("fcn.start_from", 1, "config.fcn.start_from: expected a text, got 1"),
    ("fcn.learning_rate", "1e-3", "config.fcn.learning_rate: .* number above 0"),
    ("fcn.learning_rate", math.inf, "config.fcn.learning_rate: .*, got inf"),
    ("fcn.weight_decay", math.nan, "config.fcn.weight_decay: .*, got nan"),
    ("fcn.optimizer", 3, "config.fcn.optimizer: expected one of .*, got 3"),
    ("augment.flip", 1, "config.augment.flip: expected True or False, got 1"),
    ("augment.scale", 1.0, "config.augment.scale: .*two factors, got 1.0"),
    ("model.widths", "abc", "config.model.widths: .* integer.*s, got 'abc'"),
    ("model.num_skips", 2.0, "config.model.num_skips: .* integer .*, got 2.0"),
    ("model.name", 7, "config.model.name: expected a text, got 7"),
    ("crf.method", "fast", r"config.crf.method: .*'lattice'.*, got 'fast'"),
    ("crf.theta_beta", "3", "config.crf.theta_beta: .* number, got '3'"),
    ("crf.share_parameters", "yes", "config.crf.share_parameters: expected True"),
    ("init.file", None, "config.init.file: expected a text, got None"),
    ("eval", 3, "config.eval: expected a section of keys, got 3"),
    ("fcn", "fcn", "config.fcn: expected a section of keys, got 'fcn'"),
    ("postprocessing.candidates", ((1, 2, 3, "4", 5),), r"config.*three widths .*'4'"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG_TYPES)
def test_names_the_key_whose_value_is_of_another_type(key, value, message):
    config = shapes.get_config().to_dict()
    *sections, last = key.split(".")
    part = config
    for section in sections:
        part = part[section]
    part[last] = value
    with pytest.raises(ValueError, match=f"^{message}"):
        check_config(ConfigDict(config))


def _places_in(tree, path=()):
    """The paths of all sections and values of a nested dict."""
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from _places_in(value, (*path, key))


SHAPES = shapes.get_config().to_dict()
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(["a", "name", "steps"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.sampled_from(sorted(_places_in(SHAPES))), JUNK)
def test_no_value_whatever_leads_to_another_error(path, value):
    config = copy.deepcopy(SHAPES)
    part = config
    for section in path[:-1]:
        part = part[section]
    part[path[-1]] = value
    message = "config."
    try:
        check_config(ConfigDict(config))
    except InputError as error:
        message = str(error)
    assert message.startswith("config.")


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("sed", "'seed'"),
        ("fcn.learning_rat", "'learning_rate'"),
        ("augment.colour", "'color'"),
        ("model.width", "'widths'"),
        ("crf.theta_delta", "'theta_beta'"),
        ("init.files", "'file'"),
        ("eval.panel", "'panels'"),
        ("postprocessing.train_image", "'train_images'"),
        ("unheard", r"there are \['augment', 'canvas'"),
    ],
)
def test_names_the_key_that_is_unknown(key, near):
    config = shapes.get_config()
    config.update_from_flattened_dict({key: 1})
    with pytest.raises(ValueError, match=f"config.{key}: expected a key .*{near}"):
        check_config(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_trains", 3, "config.data.num_trains: .* did you mean 'num_train'"),
        ("size", "32", "config.data.size: expected an integer, got '32'"),
        ("dir", 5, "config.data.dir: expected a text, got 5"),
        ("name", ["shapes"], "config.data.name: expected one of"),
    ],
)
def test_names_the_key_of_data_that_is_wrong(key, value, message):
    data = shapes.get_config().data.to_dict()
    with pytest.raises(ValueError, match=message):
        load_dataset(ConfigDict(data | {key: value}))


def test_names_the_key_of_a_mixtures_part_that_is_wrong():
    data = paper_data.get_data()
    data.dir = "."
    data.parts.sbd.voc_dirs = ""
    data.val = "sbd"
    with pytest.raises(ValueError, match=r"parts.sbd.voc_dirs: .* 'voc_dir'"):
        load_dataset(data)


def test_a_config_of_data_alone_is_told_apart():
    with pytest.raises(ValueError, match=r"got one of data alone, .* for prepare.py"):
        check_config(paper_data.get_config())


def test_a_canvas_leaves_no_random_scale():
    config = voc_crfrnn.get_config()
    config.augment.scale = (0.5, 2.0)
    with pytest.raises(ValueError, match=r"config.augment.scale: .*got \(0\.5, 2\.0\)"):
        check_config(config)


def test_differences_name_every_key_but_those_that_are_free():
    one = {"a": 1, "b": {"c": 2, "d": 3}, "eval": {"panels": 1}, "data": {"dir": "x"}}
    other = {"a": 1, "b": {"c": 4}, "e": 5, "eval": {"panels": 2}, "data": {"dir": ""}}
    assert differences(one, other, stages=()) == [
        "config.b.c: 2 -> 4",
        "config.b.d: 3 -> '(absent)'",
        "config.e: '(absent)' -> 5",
    ]
    assert differences(one, one, stages=()) == []


def test_where_the_parts_of_a_mixture_lie_is_free():
    one, other = (paper_data.get_config() for _ in range(2))
    other.data.dir = "moved"
    other.data.prepared_dir = "moved"
    other.data.parts.sbd.voc_dir = "moved"
    assert differences(one.to_dict(), other.to_dict(), stages=()) == []
    other.data.parts.coco.min_pixels = 100
    assert differences(one.to_dict(), other.to_dict(), stages=()) == [
        "config.data.parts.coco.min_pixels: 200 -> 100"
    ]


def test_places_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = paper_data.get_data()
    data.dir = "here"
    data.parts.sbd.update(voc_dir="../there", prepared_dir="/out")
    make_places_absolute(data)
    assert data.dir == str(tmp_path / "here")
    assert data.parts.sbd.voc_dir == str(tmp_path / "../there")
    assert data.parts.sbd.prepared_dir == "/out"
    assert data.parts.voc.dir == ""  # the mixture's
    assert data.parts.voc.name == "voc2012"


def test_places_of_another_config_stand_in():
    data, other = paper_data.get_data(), paper_data.get_data("coco")
    data.dir, data.parts.voc.dir = "old", "kept"
    other.dir, other.parts.sbd.voc_dir = "new", "new, too"
    take_places(data, other)
    assert (data.dir, data.parts.voc.dir) == ("new", "kept")
    assert data.parts.sbd.voc_dir == "new, too"
    assert data.train == ("voc", "sbd")
    take_places(data, shapes.get_config().data)  # of another data set, and without one
    assert data.dir == "new"


def test_differences_of_a_stage_leave_out_the_other_stages():
    one = {"fcn": {"steps": 1}, "plain": {"steps": 1}, "stages": ["fcn"]}
    other = {"fcn": {"steps": 2}, "plain": {"steps": 2}, "stages": ["fcn", "plain"]}
    assert differences(one, other, stages=["plain"]) == ["config.plain.steps: 1 -> 2"]
    assert differences(one, other, stages=()) == []


@pytest.mark.parametrize("module", [shapes, camvid])
@pytest.mark.parametrize("key", ["seed", "eval.panels", "data.name", "fcn.clip_norm"])
def test_names_the_key_that_is_missing(module, key):
    config = module.get_config()
    *sections, last = key.split(".")
    part = config
    for section in sections:
        part = part[section]
    del part[last]
    with pytest.raises(ValueError, match=f"config.{key}: expected a value, got none"):
        check_config(config)


def test_ancestry_goes_back_through_the_stages():
    config = camvid.get_config().to_dict()
    assert ancestry(config, "end_to_end") == ["end_to_end", "finetune", "fcn"]
    assert ancestry(config, "fcn") == ["fcn"]
