"""The reader of PyTorch's files, on PyTorch's own bytes and on damaged ones."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from recorded_values import recorded_tensors
from weight_files import legacy_header, write_torch_zip

from crfrnn_jax.checks import InputError
from crfrnn_jax.weights.pth import read_pth

RECORDED = Path(__file__).parent / "recorded"
FILES = sorted(path.name for path in RECORDED.glob("*.pth"))
FLOATS = np.arange(6, dtype="<f4")


def pickled(*, offset=0, shape=(2, 3), strides=(3, 1), size=6, kind="FloatStorage"):
    """The pickle of {"w": a tensor}, instruction by instruction."""

    def integers(values):
        return b"(" + b"".join(integer(value) for value in values) + b"t"

    def integer(value):
        data = value.to_bytes(16, "little", signed=True)
        return b"\x8a\x10" + data

    storage = (
        b"(X\x07\x00\x00\x00storage" + f"ctorch\n{kind}\n".encode() + b"X\x01\x00\x00"
        b"\x000X\x03\x00\x00\x00cpu" + integer(size) + b"tQ"
    )
    tensor = storage + integer(offset) + integers(shape) + integers(strides)
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + tensor + b"\x89}tR"
    return b"\x80\x02}X\x01\x00\x00\x00w" + rebuild + b"s."


def write(path, data=None, **facts):
    data = FLOATS.tobytes() if data is None else data
    write_torch_zip(path, pickled(**facts), {"0": data})


@pytest.mark.parametrize("name", FILES)
def test_reads_what_torch_wrote(name):
    tensors = read_pth(RECORDED / name)
    expected = recorded_tensors()
    assert list(tensors) == list(expected)
    for key, array in expected.items():
        assert tensors[key].shape == array.shape
        np.testing.assert_array_equal(tensors[key], array)
    assert tensors["half"].dtype == np.float16
    assert tensors["bfloat16"].dtype == np.float32


@pytest.mark.parametrize("is_zip", [True, False])
def test_reads_what_torch_writes_here(tmp_path, is_zip):
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 5), torch.nn.Linear(4, 6))
    path = tmp_path / "a.pth"
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=is_zip)
    tensors = read_pth(path)
    assert list(tensors) == list(network.state_dict())
    for name, tensor in network.state_dict().items():
        np.testing.assert_array_equal(tensors[name], tensor.numpy())


def test_reads_a_hand_made_archive(tmp_path):
    write(tmp_path / "a.pth", shape=(3, 2), strides=(1, 3))
    expected = FLOATS.reshape(2, 3).T
    np.testing.assert_array_equal(read_pth(tmp_path / "a.pth")["w"], expected)


def test_reads_the_other_byte_order(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled())
        archive.writestr("x/byteorder", "big")
        archive.writestr("x/data/0", FLOATS.astype(">f4").tobytes())
    np.testing.assert_array_equal(read_pth(path)["w"], FLOATS.reshape(2, 3))


@pytest.mark.parametrize(
    "facts",
    [
        {"shape": (2, 4)},
        {"shape": (-2, -3)},
        {"shape": (2**20, 2**20), "strides": (0, 0)},
        {"shape": (2**60, 2**60)},
        {"shape": (6, 1), "strides": (2, 1)},
        {"strides": (-3, 1)},
        {"strides": (2**62, 1)},
        {"strides": (1,)},
        {"shape": (1,) * 60, "strides": (1,) * 60},
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**63},
        {"size": 7},
        {"size": -1},
        {"size": 2**40},
        {"size": 2**100},
        {"kind": "ComplexFloatStorage"},
        {"kind": "DoubleStorage"},
    ],
    ids=str,
)
def test_no_tensor_reaches_outside_of_its_storage(tmp_path, facts):
    path = tmp_path / "a.pth"
    write(path, **facts)
    with pytest.raises(InputError, match=r"a\.pth: expected a PyTorch file"):
        read_pth(path)


def test_an_archive_must_be_whole_and_plain(tmp_path):
    path = tmp_path / "a.pth"
    write_torch_zip(path, pickled())
    with pytest.raises(InputError, match="no entry 'archive/data/0'"):
        read_pth(path)
    write_torch_zip(path, pickled(), {"0": FLOATS.tobytes()}, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="compressed or too large"):
        read_pth(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled())
        archive.writestr("b/data.pkl", pickled())
    with pytest.raises(InputError, match=r"without one data\.pkl"):
        read_pth(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../data.pkl", pickled())
    with pytest.raises(InputError, match="no entry"):  # and nothing is unpacked
        read_pth(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pth"]


def test_entries_that_share_bytes_are_not_read_over_and_over(tmp_path):
    path = tmp_path / "a.pth"
    body = b"".join(
        pickled(size=1000, shape=(1000,), strides=(1,))
        .removeprefix(b"\x80\x02}")
        .removesuffix(b".")
        .replace(b"X\x01\x00\x00\x00w", b"X\x02\x00\x00\x00" + name)
        .replace(b"X\x01\x00\x00\x000", b"X\x02\x00\x00\x00" + name)
        for name in (b"aa", b"bb", b"cc", b"dd")
    )
    keys = ["aa", "bb", "cc", "dd"]
    write_torch_zip(path, b"\x80\x02}" + body + b".", {keys[0]: bytes(4000)})
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.getinfo("archive/data/aa")
        for key in keys[1:]:
            twin = zipfile.ZipInfo(f"archive/data/{key}")
            for fact in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(twin, fact, getattr(first, fact))
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
        archive._didModify = True
    with pytest.raises(InputError):
        read_pth(path)


def test_a_state_dict_holds_tensors_only(tmp_path):
    path = tmp_path / "a.pth"
    for data, reason in (
        ({"epoch": 3}, "no tensors: epoch"),
        ([1, 2], "a list"),
        ({}, "no tensors"),
        ({"state_dict": {"epoch": 3}}, "no tensors: epoch"),
    ):
        write_torch_zip(path, pickle.dumps(data, 2))
        with pytest.raises(InputError, match=reason):
            read_pth(path)


def test_the_old_layout_must_be_whole(tmp_path):
    path = tmp_path / "a.pth"
    storage = (6).to_bytes(8, "little") + FLOATS.tobytes()
    good = legacy_header() + pickled() + pickle.dumps(["0"], 2) + storage
    path.write_bytes(good)
    np.testing.assert_array_equal(read_pth(path)["w"], FLOATS.reshape(2, 3))
    for data in (
        good + b"x",
        good.replace(pickle.dumps(["0"], 2), pickle.dumps(["1"], 2)),
        good.replace(pickle.dumps(["0"], 2), pickle.dumps(["0", "0"], 2)),
        good.replace(storage, (7).to_bytes(8, "little") + storage[8:]),
        good.replace(legacy_header(), b""),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"a\.pth: expected a PyTorch file"):
            read_pth(path)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_a_file_cut_short_is_an_error(tmp_path, name):
    data = (RECORDED / name).read_bytes()
    path = tmp_path / "a.pth"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"a\.pth: expected a PyTorch file"):
            read_pth(path)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_changed_bytes_are_read_or_an_error(tmp_path, name):
    rng = np.random.default_rng(0)
    data = np.frombuffer((RECORDED / name).read_bytes(), np.uint8)
    path = tmp_path / "a.pth"
    refused = 0
    for _ in range(300):
        changed = data.copy()
        where = rng.integers(len(data), size=rng.integers(1, 4))
        changed[where] = rng.integers(256, size=len(where))
        path.write_bytes(changed.tobytes())
        try:
            read_pth(path)
        except InputError:
            refused += 1
    assert refused > 100
