import numpy as np
import pytest
import scipy.io

from crfrnn_jax.data.placed import (
    check_count,
    find_root,
    read_matlab,
    read_names,
    read_numbered_names,
)


def find(folder):
    return find_root(
        "config.data.dir",
        folder,
        inside=("kit/SET",),
        holds=("images", "list.txt"),
        instructions="Get it there.",
    )


def test_finds_the_root_in_the_folder_or_itself(tmp_path):
    root = tmp_path / "kit" / "SET"
    (root / "images").mkdir(parents=True)
    (root / "list.txt").touch()
    assert find(tmp_path) == find(root) == find(str(root)) == root


def test_data_that_is_not_there_prints_the_instructions(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        find(tmp_path)
    for word in ("config.data.dir", str(tmp_path), "list.txt", "Get it there."):
        assert word in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"or its kit/SET, got none of them\n"):
        find(tmp_path / "images")
    absent = tmp_path / "absent"
    with pytest.raises(FileNotFoundError, match=f"a folder, got none at {absent}\nGet"):
        find(absent)
    with pytest.raises(ValueError, match=r"config\.data\.dir: .*none\nGet it there"):
        find("")


def test_a_part_that_is_missing_is_named_where_the_rest_lies(tmp_path):
    root = tmp_path / "kit" / "SET"
    (root / "images").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=f"in {root}, got no list.txt\n"):
        find(tmp_path)


def test_names(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("2007_1\r\n2007_2  \n\n")
    assert read_names(path) == ["2007_1", "2007_2"]


@pytest.mark.parametrize("name", ["a", "../a", "b/c"])
def test_names_twice_or_out_of_the_folder(tmp_path, name):
    path = tmp_path / "list.txt"
    path.write_text(f"a\n{name}\n")
    with pytest.raises(ValueError, match=f"list.txt: .*once each, got {name}"):
        read_names(path)


def test_no_list(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"list\.txt: expected a list"):
        read_names(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValueError, match=r"list\.txt: expected a text file"):
        read_names(tmp_path / "list.txt")


def test_numbered_names(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("1: accordion\n12: bamboo weaving\n\n")
    assert read_numbered_names(path) == {"accordion": 1, "bamboo weaving": 12}
    path.write_text("1: accordion\nbag\n")
    with pytest.raises(ValueError, match=r"labels\.txt: .*got 'bag'"):
        read_numbered_names(path)


def test_matlab_file(tmp_path):
    path = tmp_path / "a.mat"
    matrix = np.arange(6).reshape(2, 3)
    scipy.io.savemat(path, {"plain": matrix.astype(float), "struct": {"in": matrix}})
    np.testing.assert_array_equal(read_matlab(path, "plain"), matrix)
    np.testing.assert_array_equal(read_matlab(path, "struct", "in"), matrix)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"other": np.eye(2)}, "with GTcls.Segmentation, got: .*no variable"),
        ({"GTcls": np.eye(2)}, "with GTcls.Segmentation, got: "),
        ({"GTcls": {"Boundaries": np.eye(2)}}, "with GTcls.Segmentation, got: "),
        ({"GTcls": {"Segmentation": np.zeros((2, 2, 3))}}, r"shape \[2, 2, 3\]"),
        ({"GTcls": {"Segmentation": "text"}}, "other things than real"),
        ({"GTcls": {"Segmentation": -np.eye(2)}}, "integers from 0 on"),
        ({"GTcls": {"Segmentation": np.full((2, 2), 0.5)}}, "got fractions"),
    ],
)
def test_matlab_file_with_something_else(tmp_path, content, message):
    scipy.io.savemat(tmp_path / "a.mat", content)
    with pytest.raises(ValueError, match=rf"a\.mat: expected .*{message}"):
        read_matlab(tmp_path / "a.mat", "GTcls", "Segmentation")


def test_damaged_matlab_file(tmp_path):
    path = tmp_path / "a.mat"
    with pytest.raises(FileNotFoundError, match=r"a\.mat: expected a \.mat file"):
        read_matlab(path, "LabelMap")
    scipy.io.savemat(path, {"LabelMap": np.eye(40)}, do_compression=True)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"a\.mat: expected a \.mat file with Label"):
        read_matlab(path, "LabelMap")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.mat: expected a \.mat file with Label"):
        read_matlab(path, "LabelMap")


def test_counts():
    check_count("config.data", {"train": 5}, "train", 5)
    check_count("config.data", {"train": 0}, "train", 7)
    with pytest.raises(ValueError, match=r"data\.counts\.train: expected 5 images, fo"):
        check_count("config.data", {"train": 5}, "train", 7)
    with pytest.raises(ValueError, match=r"config\.data\.counts\.val: expected a val"):
        check_count("config.data", {"train": 5}, "val", 7)
    with pytest.raises(ValueError, match=r"config\.data\.counts\.val: .* got -1"):
        check_count("config.data", {"val": -1}, "val", 7)
