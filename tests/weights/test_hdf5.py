"""The reader of HDF5, on recorded files and beside h5py's own reader."""

from pathlib import Path

import numpy as np
import pytest
from recorded_values import recorded_layers

from crfrnn_jax.weights.hdf5 import Hdf5
from crfrnn_jax.weights.keras import read_keras

RECORDED = Path(__file__).parent / "recorded"


@pytest.mark.parametrize("name", ["keras1.h5", "keras2.h5"])
def test_reads_what_h5py_wrote(name):
    tensors = read_keras(RECORDED / name)
    expected = recorded_layers()
    assert list(tensors) == list(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(tensors[key], array)


def write(path, act, **options):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", **options) as file:
        act(file)
    return Hdf5(path.read_bytes()).root


@pytest.mark.parametrize(
    "dtype", ["<f2", "<f4", "<f8", ">f4", ">f8", "<i2", ">i4", "<u8", "i1", "u1"]
)
def test_number_types(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    root = write(tmp_path / "a.h5", lambda f: f.create_dataset("a", data=array))
    read = root.child("a").array()
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, array)


def test_scalars_and_empty_arrays(tmp_path):
    def act(file):
        file["scalar"] = np.float32(2.5)
        file["empty"] = np.zeros((0, 3), np.float32)

    root = write(tmp_path / "a.h5", act)
    assert root.child("scalar").array() == 2.5
    assert root.child("scalar").array().shape == ()
    assert root.child("empty").array().shape == (0, 3)


@pytest.mark.parametrize("count", [0, 1, 9, 40, 2000])
def test_groups_of_any_size(tmp_path, count):
    """So many that the tree of names has several levels."""
    names = [f"layer_{index}" for index in range(count)]
    root = write(tmp_path / "a.h5", lambda f: [f.create_group(n) for n in names])
    assert sorted(root.names) == sorted(names)


def test_many_attributes_and_long_ones(tmp_path):
    """They don't fit into one block of an object's header."""
    names = [f"name_{index}" for index in range(40)]

    def act(file):
        file.attrs["before"] = "text"
        for name in names:
            file.attrs[name] = [name.encode() * 20] * 5
        file.attrs["long"] = np.array([b"x" * 60] * 900)
        file.attrs["none"] = []

    root = write(tmp_path / "a.h5", act)
    for name in names:
        texts = root.attribute(name)
        assert texts is not None
        assert texts.tolist() == [name.encode() * 20] * 5
    long, none = root.attribute("long"), root.attribute("none")
    assert long is not None
    assert long.tolist() == [b"x" * 60] * 900
    assert none is not None
    assert none.size == 0
    assert root.attribute("missing") is None


def test_groups_within_groups(tmp_path):
    root = write(tmp_path / "a.h5", lambda f: f.create_dataset("a/b/c", data=[1.0]))
    assert root.child("a").child("b").child("c").array() == 1.0
    assert not root.child("a").is_dataset
    with pytest.raises(ValueError, match="'x' is missing"):
        root.child("x")


@pytest.mark.parametrize("libver", ["latest", "v110"])
def test_other_layouts_are_refused(tmp_path, libver):
    with pytest.raises(ValueError, match="another version than h5py writes"):
        write(tmp_path / "a.h5", lambda f: f.create_group("a"), libver=libver)
