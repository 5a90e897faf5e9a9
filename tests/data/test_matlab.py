"""The reader of MATLAB's files, beside SciPy's writer and reader."""

import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crfrnn_jax.data.matlab import read_matrix

DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")


def contents(path, variables, **options):
    stream = io.BytesIO()
    scipy.io.savemat(stream, variables, **options)
    path.write_bytes(stream.getvalue())


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=2, max_dims=3))
    ),
    st.booleans(),
    st.sampled_from(("a", "label", "Segmentation_of_it")),
)
def test_reads_what_scipy_reads(tmp_path_factory, array, is_packed, name):
    path = tmp_path_factory.getbasetemp() / "a.mat"
    rest = {"other": np.zeros((20, 1), object), "text": "a text"}
    fields = {"Boundaries": np.zeros((2, 1), object), name: array, "z": 1}
    variables = {**rest, name: array, "in": fields}
    contents(path, variables, do_compression=is_packed)
    expected = scipy.io.loadmat(path)[name]
    for read in (read_matrix(path, name, None), read_matrix(path, "in", name)):
        assert read.dtype == expected.dtype
        np.testing.assert_array_equal(read, expected)


def test_numbers_that_are_stored_smaller_than_they_are(tmp_path):
    """As MATLAB itself stores a double matrix of small integers, in bytes."""
    sizes = struct.pack("<IIii", 5, 8, 2, 3)
    flags = struct.pack("<IIII", 6, 8, 6, 0)
    name, numbers = b"\x01\x00\x01\x00a\0\0\0", struct.pack("<II6sxx", 2, 6, b"abcdef")
    matrix = flags + sizes + name + numbers
    element = struct.pack("<II", 14, len(matrix)) + matrix
    packed = zlib.compress(element)
    header = b"MATLAB".ljust(124) + b"\x00\x01IM"
    for data in (element, struct.pack("<II", 15, len(packed)) + packed):
        (tmp_path / "a.mat").write_bytes(header + data)
        read = read_matrix(tmp_path / "a.mat", "a", None)
        assert read.dtype == np.float64
        np.testing.assert_array_equal(read, [[97, 99, 101], [98, 100, 102]])


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"a": np.eye(2) * 1j}, "other things than real numbers"),
        ({"a": np.zeros((2, 2), object)}, "other things than real numbers"),
        ({"a": "text"}, "other things than real numbers"),
        ({"b": np.eye(2)}, "no variable a"),
    ],
)
def test_other_things_than_a_matrix_are_refused(tmp_path, variables, message):
    contents(tmp_path / "a.mat", variables)
    with pytest.raises(ValueError, match=message):
        read_matrix(tmp_path / "a.mat", "a", None)


def test_a_struct_of_structs_is_refused(tmp_path):
    contents(tmp_path / "a.mat", {"a": np.array([{"b": 1}, {"b": 2}])})
    with pytest.raises(ValueError, match="no 1 x 1 struct"):
        read_matrix(tmp_path / "a.mat", "a", "b")
