"""What is said of flags that are wrong, in one line."""

from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from crfrnn_jax.training.command_line import parse_flags

CONFIGS = Path(__file__).parents[2] / "configs"
SHAPES = f"--config={CONFIGS / 'shapes.py'}"


def parse(*arguments):
    """The config of a command line of train.py."""
    values, arguments = flags.FlagValues(), ["some/train.py", *arguments]
    config_flags.DEFINE_config_file(
        "config", None, "", flag_values=values, sys_argv=arguments
    )
    assert parse_flags(arguments, values) == arguments[:1]
    return values.config


def line_of(*arguments):
    with pytest.raises(SystemExit) as end:
        parse(*arguments)
    message = end.value.code
    assert message.startswith("train.py: ")
    assert "\n" not in message
    return message.removeprefix("train.py: ")


def test_flags_change_the_config(tmp_path):
    assert parse(SHAPES, "--config.fcn.steps=7").fcn.steps == 7
    file = tmp_path / "flags.txt"
    file.write_text("--config.fcn.steps=8\n")
    assert parse("--config", SHAPES[9:], f"--flagfile={file}").fcn.steps == 8
    variant = f"--config={CONFIGS / 'paper_data.py'}:coco"
    assert parse(variant).data.train == ("coco",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([SHAPES, "--config.fcn.step=3"], "got 'step'; Did you mean \"steps\" inst"),
        ([SHAPES, "--config.evl.panels=3"], "got 'evl'; Did you mean \"eval\" inst"),
        ([SHAPES, "--config.xyz=3"], "as flags can't add any, got 'xyz'"),
        ([SHAPES, "--config.fcn.steps.more=3"], "as flags can't add any, got "),
        ([SHAPES, "--config.fcn.steps=a"], "--config.fcn.steps=a: invalid literal"),
        ([SHAPES, "--confi=a"], "Unknown command line flag 'confi'"),
        (["--config.fcn.steps=3"], "--config.fcn.steps=3: expected --config=FILE be"),
        (["--config.seed=3", SHAPES], "--config.seed=3: expected --config=FILE bef"),
        ([f"{SHAPES}:big"], "shapes.py:big: expected a file alone, as its config"),
        (
            [SHAPES[:-3]],
            f"got none at '{CONFIGS}/shapes'; there is {CONFIGS}/shapes.py",
        ),
        (["--config"], "--config: expected a file, got none at ''"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, message):
    assert message in line_of(*arguments)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("paper_data", "expected one of ('voc_sbd', 'coco', 'voc_sbd_coco'), got 'b'"),
        ("coco_voc_crfrnn", "expected one of ('fcn32s', 'fcn8s', 'crfrnn'), got 'b'"),
    ],
)
def test_variants_that_are_none_are_named_with_those_that_are(config, message):
    line = line_of(f"--config={CONFIGS / config}.py:b")
    assert line == f"variant of configs/{config}.py: {message}"


@pytest.mark.parametrize("code", ["{}.a", "{}['a']", "ConfigDict().a", "int('a')"])
def test_a_bug_of_the_config_keeps_its_traceback(tmp_path, code):
    (tmp_path / "own.py").write_text(
        "from ml_collections import ConfigDict\n"
        f"def get_config():\n  return ConfigDict(dict(a={code}))\n"
    )
    with pytest.raises((AttributeError, KeyError, SystemExit)) as end:
        parse(f"--config={tmp_path / 'own.py'}", "--config.a=2")
    assert end.type is not SystemExit or "own.py" in str(end.value)
