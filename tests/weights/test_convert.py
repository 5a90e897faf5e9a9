"""From a file to a file: recognised, every tensor accounted for, or nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from weight_files import (
    KERNELS,
    LABELS,
    SMALL,
    caffe_bytes,
    caffe_crfrnn,
    crfrnn_tree,
    keras_crfrnn,
    npz_bytes,
    our_tree,
    torch_crfrnn,
    vgg_tensors,
    write_keras,
)

from crfrnn_jax.checks import InputError
from crfrnn_jax.weights import convert as convert_module
from crfrnn_jax.weights import convert_file, load_weights, read_tensors
from crfrnn_jax.weights.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    """The small network in place of VGG-16, whose files have 550 MB."""
    monkeypatch.setattr(convert_module, "Sizes", lambda: SMALL)


def backbone_of(tree):
    return {name: a for name, a in tree.items() if name.split("/")[1] in KERNELS}


def write_source(folder, kind, tree):
    """A file of that kind; its path."""
    path = folder / f"source.{kind.partition('-')[0]}"
    if kind.startswith("pth"):
        torch = pytest.importorskip("torch")
        values = {n: torch.from_numpy(a) for n, a in torch_crfrnn(tree).items()}
        is_zip = kind != "pth-legacy"
        torch.save(values, path, _use_new_zipfile_serialization=is_zip)
    elif kind == "h5":
        pytest.importorskip("h5py")
        write_keras(path, keras_crfrnn(tree))
    elif kind == "npz":
        path.write_bytes(npz_bytes(vgg_tensors(backbone_of(tree), "npz")))
    else:
        is_old = kind.endswith("-old")
        path.write_bytes(caffe_bytes(caffe_crfrnn(tree), old=is_old))
    return path


KINDS = ["pth", "pth-legacy", "h5", "caffemodel", "caffemodel-old", "npz"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_converts_every_kind(tmp_path, kind, capsys):
    tree = crfrnn_tree()
    source, out = write_source(tmp_path, kind, tree), tmp_path / "out.npz"
    # The contents decide, not the name.
    source = source.rename(tmp_path / "downloaded")
    assert main(["convert", str(source), str(out)]) == 0
    tensors, meta = load_weights(out)
    if kind == "npz":
        tree = backbone_of(tree)
        first = "backbone/conv1_1/kernel"
        tree[first] = tree[first][:, :, ::-1]
        assert meta["dropped"] == ["fc8_W", "fc8_b"]
    assert set(tensors) == set(tree)
    for name, array in tree.items():
        np.testing.assert_array_equal(tensors[name], array)
    assert meta["source"] == "downloaded"
    assert meta["labels"] == (None if kind == "npz" else LABELS)
    printed = capsys.readouterr().out
    assert meta["layout"] in printed
    assert "--layout" not in printed
    assert f"{len(tree)} tensors, {sum(a.size for a in tree.values()):,}" in printed


def assert_refused(source, out, reason, *options):
    """The command fails in one line and leaves the folder as it was."""
    before = sorted(entry.name for entry in out.parent.iterdir())
    with pytest.raises(InputError, match=reason) as caught:
        convert_file(source, out, layout=options[1] if options else None)
    assert "\n" not in str(caught.value)
    assert sorted(entry.name for entry in out.parent.iterdir()) == before
    return str(caught.value)


def test_one_error_lists_all_that_is_wrong(tmp_path):
    tensors = vgg_tensors(our_tree(), "npz")
    del tensors["conv3_1_W"], tensors["fc7_b"]
    tensors["extra"] = np.zeros(2, np.float32)
    tensors["conv1_1_W"] = tensors["conv1_1_W"][..., :3]
    tensors["conv1_2_b"] = tensors["conv1_2_b"].astype(np.int32)
    source = tmp_path / "a.npz"
    source.write_bytes(npz_bytes(tensors))
    message = assert_refused(source, tmp_path / "out.npz", r"a\.npz: expected the tens")
    assert "missing: conv3_1_W, fc7_b; left over: extra; of another shape: " in message
    assert "conv1_1_W (expected [3, 3, 3, 4], got [3, 3, 3, 3] of float32)" in message
    assert "conv1_2_b (expected [4], got [4] of int32)" in message


def test_numbers_that_are_not_finite_are_listed(tmp_path):
    tensors = vgg_tensors(our_tree(), "npz")
    tensors["conv3_1_W"][0, 0, 0, 0] = np.nan
    tensors["fc7_b"] = np.full(9, 1e300)  # float64, beyond float32
    source = tmp_path / "a.npz"
    source.write_bytes(npz_bytes(tensors))
    assert_refused(source, tmp_path / "out.npz", "finite numbers.* conv3_1_W, fc7_b")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html><html>",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"PK\x05\x06" + bytes(18),
        b"PK\x03\x04 and no more",
        b"\x89HDF\r\n\x1a\n",
        b"\x80\x02.",
        bytes(100),
        b"\x0a\x03net",
    ],
)
def test_foreign_files_are_errors(tmp_path, data):
    source = tmp_path / "a.bin"
    source.write_bytes(data)
    assert_refused(source, tmp_path / "out.npz", r"a\.bin: expected ")


def test_what_is_converted_already_is_said_to_be(tmp_path):
    source = tmp_path / "ours.npz"
    convert_file(write_source(tmp_path, "npz", crfrnn_tree()), source)
    assert_refused(source, tmp_path / "out.npz", r"ours\.npz: .* already converted")


def test_an_unknown_network_is_an_error_that_names_the_known(tmp_path):
    source = tmp_path / "a.npz"
    source.write_bytes(npz_bytes({"a": np.ones(3), "b": np.ones(2)}))
    assert_refused(source, tmp_path / "out.npz", "one of vgg16-npz, got a, b")


def test_a_layout_must_fit_the_container(tmp_path):
    source = write_source(tmp_path, "npz", crfrnn_tree())
    out = tmp_path / "out.npz"
    options = ("--layout", "vgg16-keras")
    assert_refused(source, out, r"of a npz file: expected one of", *options)
    assert main(["convert", str(source), str(out), "--layout", "vgg16-npz"]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_cut_short_nothing_is_written(tmp_path, kind):
    source = write_source(tmp_path, kind, crfrnn_tree())
    data = source.read_bytes()
    (tmp_path / "empty").mkdir()
    for length in range(0, len(data), len(data) // 25):
        source.write_bytes(data[:length])
        assert_refused(source, tmp_path / "empty" / "out.npz", r"source\.")


@pytest.mark.parametrize("kind", ["pth", "caffemodel", "npz"])
def test_changed_bytes_are_converted_or_an_error(tmp_path, kind):
    source, out = write_source(tmp_path, kind, crfrnn_tree()), tmp_path / "out.npz"
    data = np.frombuffer(source.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(40):
        changed = data.copy()
        changed[rng.integers(len(data), size=30)] = rng.integers(256, size=30)
        source.write_bytes(changed.tobytes())
        try:
            convert_file(source, out)
        except InputError:
            assert not out.exists()
        else:
            load_weights(out)
            out.unlink()


def test_the_command_fails_in_one_line(tmp_path, capsys):
    source, out = write_source(tmp_path, "npz", crfrnn_tree()), tmp_path / "out.npz"
    out.write_bytes(b"mine")
    for arguments, reason in (
        ([str(source), str(out)], "--force"),
        ([str(tmp_path / "none"), str(tmp_path / "b.npz")], "expected a file of"),
        ([str(source), str(tmp_path / "b.txt")], "a name ending in .npz"),
    ):
        assert main(["convert", *arguments]) == 1
        printed = capsys.readouterr()
        assert reason in printed.err
        assert printed.err.count("\n") == 1
        assert not printed.out
    assert out.read_bytes() == b"mine"
    assert main(["convert", str(source), str(out), "--force"]) == 0
    assert set(load_weights(out).tensors)


def test_a_missing_file_is_no_input_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: expected a file of weights"):
        read_tensors(tmp_path / "none")


def test_the_same_names_other_values_are_pointed_out(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    source, out = tmp_path / "a.pth", tmp_path / "out.npz"
    tensors = vgg_tensors(our_tree(), "torchvision")
    torch.save({n: torch.from_numpy(a) for n, a in tensors.items()}, source)
    assert main(["convert", str(source), str(out)]) == 0
    assert "--layout vgg16-caffe-pytorch" in capsys.readouterr().out
    options = ["--layout", "vgg16-caffe-pytorch", "--force"]
    assert main(["convert", str(source), str(out), *options]) == 0
    assert load_weights(out).meta["layout"] == "vgg16-caffe-pytorch"


def test_the_module_runs_with_true_shapes_and_without_frameworks(tmp_path):
    """Keras's VGG-16 without its top: 14.7 million parameters, 59 MB."""
    pytest.importorskip("h5py")
    widths = [(64, 64), (128, 128), (256, 256, 256), (512,) * 3, (512,) * 3]
    tensors, inputs = {}, 3
    for block, row in enumerate(widths, 1):
        for index, width in enumerate(row, 1):
            layer = f"block{block}_conv{index}"
            kernel = np.zeros((3, 3, inputs, width), np.float32)
            kernel[1, 1, 0] = np.arange(width)
            tensors[f"{layer}/kernel"] = kernel
            tensors[f"{layer}/bias"] = np.ones(width, np.float32)
            inputs = width
    source, out = tmp_path / "a.h5", tmp_path / "out.npz"
    write_keras(source, tensors, old=True)
    program = (
        "import sys\n"
        "from crfrnn_jax.weights.__main__ import main\n"
        "status = main(sys.argv[1:])\n"
        "heavy = {'torch', 'tensorflow', 'caffe', 'keras', 'flax'} & set(sys.modules)\n"
        "sys.exit(status or ' '.join(heavy) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "convert", str(source), str(out)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "vgg16-keras-notop" in done.stdout
    assert "26 tensors, 14,714,688 parameters" in done.stdout
    kernel = load_weights(out).tensors["backbone/conv5_3/kernel"]
    np.testing.assert_array_equal(kernel[1, 1, 0], np.arange(512))


def test_python_m_runs_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "crfrnn_jax.weights", "convert", "none", "out.npz"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "none: expected a file of weights, got none"
