"""Archives of numpy arrays: other people's, and our own file."""

import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from crfrnn_jax.checks import InputError
from crfrnn_jax.weights import load_weights, save_weights
from crfrnn_jax.weights.arrays import read_npz

TREE = {
    "backbone/conv1_1/kernel": np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2),
    "crf/compatibility": -np.eye(3, dtype=np.float32),
}


def test_what_is_saved_comes_back(tmp_path):
    path = tmp_path / "a.npz"
    save_weights(path, TREE, {"layout": "crfrnn-keras", "labels": 3})
    tensors, meta = load_weights(path)
    assert list(tensors) == list(TREE)
    for name, array in TREE.items():
        np.testing.assert_array_equal(tensors[name], array)
    assert meta["layout"] == "crfrnn-keras"
    assert meta["version"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]


def test_a_file_is_replaced_by_force_only(tmp_path):
    path = tmp_path / "a.npz"
    save_weights(path, TREE, {"first": True})
    with pytest.raises(InputError, match=r"a\.npz: expected no such file.*--force"):
        save_weights(path, TREE, {})
    assert load_weights(path).meta["first"]
    save_weights(path, TREE, {}, force=True)
    assert "first" not in load_weights(path).meta


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "a.npz"
    save_weights(path, TREE, {"first": True})

    class Failing:
        shape = (1,)

        def __array__(self, *_, **__):
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        save_weights(path, {**TREE, "crf/x": Failing()}, {}, force=True)
    assert load_weights(path).meta["first"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]


def test_the_folder_is_made(tmp_path):
    path = tmp_path / "new" / "er" / "a.npz"
    save_weights(path, TREE, {})
    assert set(load_weights(path).tensors) == set(TREE)


def test_the_target_is_checked(tmp_path):
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path / "a.pth", r"a name ending in \.npz"),
        (tmp_path / "file" / "new" / "a.npz", r"folder of .*got the file .*/file$"),
    ):
        with pytest.raises(InputError, match=reason):
            save_weights(path, TREE, {})
    (tmp_path / "d.npz").mkdir()
    with pytest.raises(InputError, match="no such file"):
        save_weights(tmp_path / "d.npz", TREE, {}, force=True)


def test_load_refuses_what_it_did_not_write(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(FileNotFoundError, match=r"a\.npz: expected a file of weights"):
        load_weights(path)
    np.savez(path, **TREE)
    with pytest.raises(InputError, match=r"a\.npz: .* got an archive of other arrays"):
        load_weights(path)
    shapes = {name: list(array.shape) for name, array in TREE.items()}
    good = {"format": "crfrnn_jax weights", "version": 1, "shapes": shapes}
    for meta, tree, reason in (
        ({**good, "version": 2}, TREE, "version 2"),
        ({**good, "format": "x"}, TREE, "version 1 of x"),
        ({**good, "shapes": {}}, TREE, "other arrays"),
        (good, {**TREE, "crf/more": np.zeros(1, np.float32)}, "other arrays"),
        (good, {k: v.astype(np.float64) for k, v in TREE.items()}, "of type float64"),
        ({}, TREE, "'format'"),
        ([], TREE, "a file of weights"),
    ):
        np.savez(path, meta=np.array(json.dumps(meta)), **tree)
        with pytest.raises(InputError, match=reason):
            load_weights(path)
    np.savez(path, meta=np.array("no json"), **TREE)
    with pytest.raises(InputError, match="a file of weights"):
        load_weights(path)


def test_what_is_not_converted_yet_is_told_how(tmp_path):
    """Whether it is no archive at all, one of other things, or one of other arrays."""
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    np.savez(tmp_path / "a.npz", conv1_1_W=np.zeros(3))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InputError, match=f"converted: .* convert {path} OUT.npz"):
            load_weights(path)
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 and cut")
    with pytest.raises(InputError, match=r"b.npz: expected an archive of numpy arrays"):
        load_weights(tmp_path / "b.npz")


def test_reads_compressed_archives(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.arange(9.0), b=np.asfortranarray(np.eye(3)))
    tensors = read_npz(path)
    np.testing.assert_array_equal(tensors["a"], np.arange(9.0))
    np.testing.assert_array_equal(tensors["b"], np.eye(3))


def header(shape, dtype="<f4"):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (header("(2,)") + bytes(7), "another size"),
        (header("(2,)") + bytes(9), "another size"),
        (header(f"({2**40},)") + bytes(8), "another size"),
        (header(f"({2**90},)") + bytes(8), "no possible shape"),
        (header("(-2, -1)") + bytes(8), "an archive of numpy arrays"),
        (header("(2,)", "|O") + b"\x80\x02N.", "other things than numbers"),
        (header("(2,)", "nonsense") + bytes(8), "an archive of numpy arrays"),
        (header("(" * 3000 + ")" * 3000), "an archive of numpy arrays"),
        (b"no numpy array", "an archive of numpy arrays"),
        (b"\x93NUMPY\x09\x00" + bytes(20), "an archive of numpy arrays"),
    ],
)
def test_a_wrong_array_is_an_error(tmp_path, entry, reason):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", entry)
    with pytest.raises(InputError, match=reason) as caught:
        read_npz(path)
    assert str(caught.value).startswith(f"{path}: expected an archive of numpy arrays")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(30_000_000, np.float32))
    assert path.stat().st_size < 1e6
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="more bytes than such a file can hold"):
            read_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_damaged_archives_are_errors(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **TREE)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    for length in range(0, len(data), 11):
        path.write_bytes(data[:length].tobytes())
        with pytest.raises(InputError, match=r"a\.npz: expected an archive"):
            read_npz(path)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        changed = data.copy()
        changed[rng.integers(len(data), size=2)] = rng.integers(256, size=2)
        path.write_bytes(changed.tobytes())
        try:
            read_npz(path)
        except InputError:
            refused += 1
    assert refused > 100
