"""The protobuf reader, against google.protobuf's own writer and on damaged bytes."""

import numpy as np
import pytest
from weight_files import blob, caffe_bytes, chunk, varint

from crfrnn_jax.checks import InputError
from crfrnn_jax.weights.caffemodel import looks_like_caffemodel, read_caffemodel

TENSORS = {
    "conv/0": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv/1": np.arange(2, dtype=np.float32),
    "score-fr/0": np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1),
}


def read(tmp_path, data):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(data)
    return read_caffemodel(path)


def messages():
    """Caffe's messages, as far as weights go, as google.protobuf's classes."""
    pool = pytest.importorskip("google.protobuf.descriptor_pool")
    from google.protobuf import descriptor_pb2, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="caffe.proto", package="caffe", syntax="proto2"
    )
    kinds = {"string": 9, "int64": 3, "float": 2, "double": 1, "message": 11}

    def add(name, *fields):
        message = file.message_type.add(name=name)
        for label, number, kind, packed in fields:
            field = message.field.add(name=label, number=number)
            field.label = 3 if packed is not None else 1  # repeated or optional
            field.type = kinds.get(kind, 11)
            if field.type == 11:
                field.type_name = f".caffe.{kind}"
            elif packed:
                field.options.packed = True

    add("BlobShape", ("dim", 1, "int64", True))
    sizes = [(n, i, "int64", None) for i, n in enumerate(("n", "c", "h", "w"), 1)]
    add(
        "BlobProto",
        *sizes,
        ("shape", 7, "BlobShape", None),
        ("data", 5, "float", True),
        ("diff", 6, "float", True),
        ("double_data", 8, "double", True),
    )
    named = [("bottom", 3, "string", False), ("loss_weight", 5, "float", False)]
    add(
        "LayerParameter",
        ("name", 1, "string", None),
        ("type", 2, "string", None),
        *named,
        ("blobs", 7, "BlobProto", False),
    )
    add(
        "V1LayerParameter",
        ("name", 4, "string", None),
        ("bottom", 2, "string", False),
        ("type", 5, "int64", None),
        ("blobs", 6, "BlobProto", False),
        ("weight_decay", 8, "float", False),
    )
    add(
        "NetParameter",
        ("name", 1, "string", None),
        ("input", 3, "string", False),
        ("input_dim", 4, "int64", False),
        ("layer", 100, "LayerParameter", False),
        ("layers", 2, "V1LayerParameter", False),
    )
    made = pool.DescriptorPool()
    made.Add(file)
    descriptor = made.FindMessageTypeByName("caffe.NetParameter")
    return message_factory.GetMessageClass(descriptor)


def test_reads_the_layout_of_today(tmp_path):
    network = messages()(name="net", input=["data"], input_dim=[1, 3, 500, 500])
    for name in ("conv", "relu", "score-fr", "relu"):
        layer = network.layer.add(name=name, type="Some", bottom=["a", "b"])
        layer.loss_weight.append(1.0)
        for key, array in TENSORS.items():
            if key.startswith(f"{name}/"):
                made = layer.blobs.add(data=array.ravel(), diff=array.ravel())
                made.shape.dim.extend(array.shape)
    tensors = read(tmp_path, network.SerializeToString())
    assert list(tensors) == list(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(tensors[name], array)


def test_reads_the_layout_before_2015(tmp_path):
    network = messages()()
    layer = network.layers.add(name="conv", type=4, weight_decay=[1.0, 0.0])
    weights, bias = TENSORS["conv/0"], TENSORS["conv/1"]
    layer.blobs.add(data=weights.ravel(), n=2, c=3, h=2, w=2)
    layer.blobs.add(double_data=bias, n=1, c=1, h=1, w=2)
    tensors = read(tmp_path, network.SerializeToString())
    np.testing.assert_array_equal(tensors["conv/0"], weights)
    np.testing.assert_array_equal(tensors["conv/1"], bias.reshape(1, 1, 1, 2))
    assert tensors["conv/1"].dtype == np.float64


def test_the_writer_of_the_other_tests_is_protobufs():
    network = messages()()
    network.ParseFromString(caffe_bytes(TENSORS))
    assert [layer.name for layer in network.layer] == ["conv", "score-fr"]
    made = network.layer[0].blobs[0]
    assert list(made.shape.dim) == [2, 3, 2, 2]
    np.testing.assert_array_equal(made.data, TENSORS["conv/0"].ravel())


def test_values_in_pieces_and_unpacked_sizes(tmp_path):
    values = np.arange(6, dtype="<f4").tobytes()
    shape = chunk(7, varint(1 << 3) + varint(2) + varint(1 << 3) + varint(3))
    made = shape + chunk(5, values[:8]) + chunk(5, values[8:])
    layer = chunk(1, b"a") + chunk(7, made)
    expected = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(read(tmp_path, chunk(100, layer))["a/0"], expected)


def layer_of(data):
    return chunk(100, chunk(1, b"a") + chunk(7, data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "without weights"),
        (chunk(1, b"name only"), "without weights"),
        (chunk(100, chunk(1, b"a"))[:-1], "at byte 0"),
        (b"\xa2\x06\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "at byte 0"),
        (b"\xa2\x06" + b"\xff" * 11, "more than 10 bytes"),
        (b"\x0b", "the unknown type 3"),
        (b"\x02\x00", "field 0"),
        (layer_of(chunk(5, bytes(8))), r"2 values for the shape \[0, 0, 0, 0\]"),
        (layer_of(chunk(7, chunk(1, b"\x03")) + chunk(5, bytes(8))), "2 values for"),
        (layer_of(chunk(7, chunk(1, b"\xff" * 9 + b"\x01"))), "no possible shape"),
        (layer_of(chunk(7, chunk(1, b"\x01" * 99))), "no possible shape"),
        (layer_of(chunk(7, chunk(1, b"\x02")) + chunk(5, bytes(7))), "not packed"),
        (layer_of(varint(5 << 3 | 5) + bytes(4)), "not packed"),
        (chunk(100, chunk(1, b"\xff\xfe") + chunk(7, blob([1.0]))), "utf-8"),
        (layer_of(blob([1.0])) * 2, "two layers 'a'"),
    ],
)
def test_damage_is_an_error_that_says_where(tmp_path, data, reason):
    with pytest.raises(InputError, match=reason) as caught:
        read(tmp_path, data)
    assert "a.caffemodel: expected a Caffe network" in str(caught.value)


def test_many_tiny_fields_are_refused(tmp_path):
    with pytest.raises(InputError, match="more than 300000 fields"):
        read(tmp_path, b"\x20\x00" * 300_001)


def test_a_file_cut_short_is_an_error_or_lacks_layers(tmp_path):
    data = caffe_bytes(TENSORS)
    for length in range(len(data)):
        try:
            tensors = read(tmp_path, data[:length])
        except InputError:
            continue
        assert set(tensors) < set(TENSORS)  # cut between two layers


@pytest.mark.parametrize("old", [False, True])
def test_changed_bytes_are_read_or_an_error(tmp_path, old):
    rng = np.random.default_rng(0)
    data = np.frombuffer(caffe_bytes(TENSORS, old=old), np.uint8)
    refused = 0
    for _ in range(400):
        changed = data.copy()
        where = rng.integers(len(data), size=rng.integers(1, 4))
        changed[where] = rng.integers(256, size=len(where))
        try:
            read(tmp_path, changed.tobytes())
        except InputError:
            refused += 1
    assert 50 < refused < 400


def test_what_a_network_starts_with():
    assert looks_like_caffemodel(caffe_bytes(TENSORS))
    assert looks_like_caffemodel(caffe_bytes(TENSORS, old=True))
    for head in (b"<!DOCTYPE html>", b"version https://git", b"", b"\xff" * 20):
        assert not looks_like_caffemodel(head)
