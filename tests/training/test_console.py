import jax.numpy as jnp
import numpy as np
import pytest

from crfrnn_jax.checks import check_at_least
from crfrnn_jax.metrics import mean_iou
from crfrnn_jax.training.checkpoints import CheckpointError
from crfrnn_jax.training.console import errors_in_one_line


def _raise(error):
    raise error


@pytest.mark.parametrize(
    "fail",
    [
        lambda: check_at_least("seed", -1, 0),
        lambda: _raise(CheckpointError("seed: expected at least 0, got -1")),
        lambda: _raise(OSError("seed: expected at least 0, got -1")),
    ],
)
def test_an_error_of_the_users_making_ends_in_one_line(fail):
    with pytest.raises(SystemExit) as end, errors_in_one_line("train.py"):
        fail()
    assert end.value.code == "train.py: seed: expected at least 0, got -1"


def test_an_interruption_ends_in_one_line(capsys):
    with pytest.raises(SystemExit) as end, errors_in_one_line("train.py"):
        _raise(KeyboardInterrupt())
    assert end.value.code == 130
    assert capsys.readouterr().err == "train.py: interrupted\n"


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (lambda: np.zeros(2) + np.zeros(3), ValueError),
        (lambda: jnp.zeros((2, 2)).reshape(3), TypeError),
        (lambda: mean_iou(None), ValueError),
    ],
)
def test_a_bug_keeps_its_traceback(fail, error):
    with pytest.raises(error), errors_in_one_line("train.py"):
        fail()
