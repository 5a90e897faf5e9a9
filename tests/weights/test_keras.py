"""The reader of Keras's files, on files that h5py writes as Keras does."""

import os

import numpy as np
import pytest
from weight_files import write_keras

from crfrnn_jax.checks import InputError
from crfrnn_jax.weights.keras import read_keras

h5py = pytest.importorskip("h5py")
TENSORS = {
    "conv1_1/kernel": np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2),
    "conv1_1/bias": np.arange(2, dtype=np.float32),
    "fc6/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "score-fr/kernel": np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2),
    "score-fr/bias": np.arange(3, dtype=np.float32),
}


@pytest.mark.parametrize("kind", [{}, {"top": "model_weights"}, {"old": True}])
def test_reads_keras_1_and_2(tmp_path, kind):
    path = tmp_path / "a.h5"
    write_keras(path, TENSORS, **kind)
    tensors = read_keras(path)
    assert list(tensors) == list(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(tensors[name], array)


def test_the_optimisers_state_is_not_read(tmp_path):
    path = tmp_path / "a.h5"
    write_keras(path, TENSORS, top="model_weights")
    with h5py.File(path, "a") as file:
        file["optimizer_weights/iterations:0"] = 3
    assert list(read_keras(path)) == list(TENSORS)


def test_reads_names_that_keras_splits(tmp_path):
    path = tmp_path / "a.h5"
    write_keras(path, TENSORS, numbered=True)
    assert list(read_keras(path)) == list(TENSORS)


def test_reads_the_crf_layers_own_names(tmp_path):
    path = tmp_path / "a.h5"
    write_keras(path, {"crfrnn/compatibility_matrix": np.eye(3)})
    assert list(read_keras(path)) == ["crfrnn/compatibility_matrix"]


def change(path, act):
    write_keras(path, TENSORS)
    with h5py.File(path, "a") as file:
        act(file)


def external_storage(file, secret):
    del file["score-fr/score-fr/bias:0"]
    file["score-fr"].create_dataset(
        "score-fr/bias:0", (3,), "f4", external=[(str(secret), 0, 12)]
    )


def virtual(file, secret):
    del file["score-fr/score-fr/bias:0"]
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "x", (3,))
    file["score-fr"].create_virtual_dataset("score-fr/bias:0", layout)


def replace_bias(value):
    def act(file):
        del file["score-fr/score-fr/bias:0"]
        file["score-fr/score-fr/bias:0"] = value

    return act


def huge(file):
    del file["score-fr/score-fr/bias:0"]
    file["score-fr"].create_dataset("score-fr/bias:0", (2**40,), "f4", chunks=(64,))


def rename_listed(file):
    file["score-fr"].attrs["weight_names"] = [b"score-fr/kernel:0", b"nothing:0"]


def test_nothing_outside_of_the_file_is_read(tmp_path):
    path, secret = tmp_path / "a.h5", tmp_path / "secret"
    with h5py.File(secret, "w") as file:
        file["x"] = np.zeros(3, np.float32)
    acts = {
        "external": lambda f: external_storage(f, secret),
        "virtual": lambda f: virtual(f, secret),
        "link": replace_bias(h5py.ExternalLink(str(secret), "x")),
        "soft": replace_bias(h5py.SoftLink("/fc6/fc6/kernel:0")),
    }
    for act in acts.values():
        change(path, act)
        with pytest.raises(
            InputError,
            match=r"another file|no object header|is a link|not as h5py writes",
        ):
            read_keras(path)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda f: f.attrs.pop("layer_names"), "no attribute layer_names"),
        (lambda f: f["fc6"].attrs.pop("weight_names"), "no attribute weight_names"),
        (lambda f: f.create_dataset("stray", data=[1.0]), "arrays of no layer: stray"),
        (rename_listed, "arrays of no layer: score-fr/score-fr/bias:0"),
        (lambda f: f.pop("fc6"), "'fc6' is missing"),
        (huge, "an array in chunks"),
        (replace_bias("text"), "other things than numbers"),
        (replace_bias(np.complex64([1, 2])), "no plain numbers or texts"),
        (lambda f: f["fc6"].__setitem__("loop", f["/"]), "expected a Keras file"),
    ],
)
def test_what_is_not_keras_is_an_error(tmp_path, act, reason):
    path = tmp_path / "a.h5"
    change(path, act)
    with pytest.raises(InputError, match=reason) as caught:
        read_keras(path)
    assert str(caught.value).startswith(f"{path}: expected a Keras file of weights")


def test_a_file_cut_short_is_an_error(tmp_path):
    path = tmp_path / "a.h5"
    write_keras(path, TENSORS)
    size = os.path.getsize(path)
    data = path.read_bytes()
    for length in range(0, size, size // 60):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"a\.h5: expected a Keras file"):
            read_keras(path)


def test_changed_bytes_are_read_or_an_error(tmp_path):
    """HDF5's own library runs for ever on some of these, and out of its memory."""
    path = tmp_path / "a.h5"
    write_keras(path, TENSORS)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(600):
        changed = data.copy()
        where = rng.integers(len(data), size=rng.integers(1, 40))
        changed[where] = rng.integers(256, size=len(where))
        path.write_bytes(changed.tobytes())
        try:
            read_keras(path)
        except InputError:
            refused += 1
    assert 100 < refused < 600
