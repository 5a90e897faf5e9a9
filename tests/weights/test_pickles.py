"""No pickle runs anything, and none takes more memory or time than its size allows."""

import io
import os
import pickle
import struct
import subprocess
import tracemalloc

import pytest
from weight_files import legacy_header, write_torch_zip

from crfrnn_jax.checks import InputError
from crfrnn_jax.weights.pickles import read_pickle
from crfrnn_jax.weights.pth import read_pth


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self._reduced = (function, arguments)

    def __reduce__(self):
        return self._reduced


def hostile(canary):
    """Pickles that would make the file `canary` if they ran."""
    command = f"touch {canary}"
    calls = {
        "system": Call(os.system, command),
        "popen": Call(subprocess.Popen, ["touch", str(canary)]),
        "eval": Call(eval, f"open({str(canary)!r}, 'w')"),
        "exec": Call(exec, f"open({str(canary)!r}, 'w')"),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "open": Call(open, str(canary), "w"),
        "nested": {"state_dict": {"w": [(Call(os.system, command),)]}},
    }
    for name, data in calls.items():
        for protocol in range(6):
            yield f"{name}-{protocol}", pickle.dumps(data, protocol)
    text = command.encode()
    system = b"cos\nsystem\n"
    short = b"X" + struct.pack("<I", len(text)) + text
    yield "inst", b"(S'" + text + b"'\nios\nsystem\n."
    yield "obj", b"(" + system + short + b"o."
    yield "newobj", b"\x80\x02" + system + short + b"\x85\x81."
    yield "stack-global", b"\x80\x04\x8c\x02os\x8c\x06system\x93" + short + b"\x85R."
    yield "extension", b"\x80\x02\x82\x01."
    yield "persistent", b"P" + text + b"\n."
    yield "no-tuple", b"\x80\x02ccollections\nOrderedDict\n" + short + b"R."
    yield "dotted", b"\x80\x04\x8c\x05torch\x8c\x0c_utils.os.id\x93)R."
    yield "space", b"\x80\x02ctorch FloatStorage\n__class__\n)R."
    yield "build", b"\x80\x02}}X\x0c\x00\x00\x00__setstate__" + system + b"sb."
    yield "build-global", b"\x80\x02ctorch\nFloatStorage\n}b."
    yield "call-string", b"\x80\x02" + short + b")R."
    yield "buffer", b"\x80\x05\x97."


def test_nothing_runs(tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "a.pth"
    for name, data in hostile(canary):
        if name != "build":  # a dict's attributes are dropped unread
            with pytest.raises(Exception):  # noqa: B017, PT011
                read_pickle(io.BytesIO(data))
        write_torch_zip(path, data)
        with pytest.raises(InputError, match=r"a\.pth: expected a PyTorch file"):
            read_pth(path)
        path.write_bytes(data)
        with pytest.raises(InputError):
            read_pth(path)
        path.write_bytes(legacy_header() + data)
        with pytest.raises(InputError):
            read_pth(path)
        assert not canary.exists(), name


def test_the_global_is_named(tmp_path):
    path = tmp_path / "a.pth"
    write_torch_zip(path, pickle.dumps(Call(os.system, "true")))
    with pytest.raises(InputError, match=r"the global '(posix|nt)\.system'"):
        read_pth(path)


def bombs():
    """Small pickles that cost a plain unpickler gigabytes or hours."""
    yield "memo", b"\x80\x02Nr\xff\xff\xff\x7f."
    yield "bytes", b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b"."
    yield "string", b"\x80\x04\x8d" + struct.pack("<Q", 2**50) + b"."
    yield "bytearray", b"\x80\x05\x96" + struct.pack("<Q", 2**50) + b"."
    yield "long", b"\x80\x02\x8b\xff\xff\xff\x7f."
    yield "frame", b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N."
    # Tuples of the one before, twice: as a key they would take 2**60 hashes.
    doubled = b"\x80\x02)" + b"q\x00h\x00\x86" * 60
    yield "hash", doubled + b"q\x01}h\x01Ns."
    yield "doubled", doubled + b"."
    yield "deep", b"\x80\x02)" + b"\x85" * 100_000 + b"."
    yield "marks", b"\x80\x02" + b"(" * 100_000 + b"."
    yield "endless", b"\x80\x02" + b"N0" * 10
    yield "many", b"\x80\x02" + b"]" * 310_000 + b"."
    yield "digits", b"I" + b"9" * 100_000 + b"\n."
    yield "memo-missing", b"\x80\x02h\x05."
    yield "empty-stack", b"\x80\x02\x86."
    yield "no-mark", b"\x80\x02t."
    yield "self", b"\x80\x02]q\x00h\x00a."
    yield "odd", b"\x80\x02}(Nu."
    yield "not-utf8", b"\x80\x02X\x02\x00\x00\x00\xff\xfe."
    yield "nothing", b""


@pytest.mark.parametrize("name", [name for name, _ in bombs()])
def test_bombs_are_refused_in_bounded_memory(tmp_path, name):
    path = tmp_path / "a.pth"
    write_torch_zip(path, dict(bombs())[name])
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"a\.pth: expected a PyTorch file"):
            read_pth(path)
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()


def test_a_large_pickle_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    write_torch_zip(path, b"\x80\x02" + b"N0" * 5_000_000 + b"N.")
    with pytest.raises(InputError, match=r"a data\.pkl of more than"):
        read_pth(path)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_come_back(protocol):
    data = {
        "numbers": [1, -2, 300, 70_000, 2**40, 1.5, True, False, None],
        "nested": {"a": (1, 2, 3, 4, ()), 5: [[], {}]},
        "text": "ü" * 300,
    }
    assert read_pickle(io.BytesIO(pickle.dumps(data, protocol))) == data
