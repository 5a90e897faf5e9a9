"""Files on which fuzzing once found a fault: tests/fuzz/corpus/TARGET_what.suffix."""

import shutil
import signal
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(FUZZ))

import harness  # noqa: E402
import mutate  # noqa: E402
from targets import TARGETS  # noqa: E402

# Pillow's, of damaged files that it reads all the same.
pytestmark = pytest.mark.filterwarnings("ignore")

FILES = sorted(path.name for path in harness.CORPUS.iterdir())


@pytest.fixture
def bell():
    """Without a handler, the alarm of an input that takes too long ends the tests."""
    before = signal.signal(signal.SIGALRM, harness.ring)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", FILES)
def test_what_was_found_is_refused_or_read(bell, tmp_path, name):
    shutil.copy(harness.CORPUS / name, tmp_path)  # coco's target writes it anew
    harness.check(TARGETS[name.partition("_")[0]], tmp_path / name)


@pytest.mark.parametrize("name", TARGETS)
def test_targets_take_whole_inputs_and_damaged_ones(bell, tmp_path, name):
    """So that a target which refuses all, or none, is not taken for a sound one."""
    target, path = TARGETS[name], tmp_path / f"a{TARGETS[name].suffix}"
    inputs, taken = target.inputs(0), []
    for _ in range(60):
        path.write_bytes(next(inputs))
        taken.append(harness.check(target, path))
    assert set(taken) == {True, False}


def test_damage_is_the_same_for_a_seed():
    make = mutate.damaged([b"abcdefgh" * 4])
    one, again, other = (make(seed) for seed in (3, 3, 4))
    rows = [[next(inputs) for _ in range(50)] for inputs in (one, again, other)]
    assert rows[0] == rows[1] != rows[2]
