"""A pickle machine for state dicts: plain data and tensors, and nothing that runs.

A pickle is a program for a stack machine. This one knows the instructions that plain
data and tensors need. A global is a name looked up in the two tables below, and
what they hold only arranges data: no module is imported and no attribute is looked up.

`pickle.Unpickler` is not used, however restricted: one instruction makes its memo
allocate gigabytes, and a few nested tuples as a key keep it hashing for ever.
"""

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

# A state dict takes about 60 instructions a tensor.
_MOST_INSTRUCTIONS = 300_000

# The element types of PyTorch's storages, as numpy names them.
_STORAGES = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "b1",
}


class Storage(NamedTuple):
    """A run of elements that the file holds elsewhere.

    Attributes:
      key: its name in the file.
      dtype: its elements, as numpy names them, or "bfloat16".
      size: the number of its elements.
    """

    key: str
    dtype: str
    size: int


class Tensor(NamedTuple):
    """A view of a storage; offset and strides in elements. Nothing is checked yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Global(NamedTuple):
    name: str


def read_pickle(stream: BinaryIO) -> Any:
    """Runs one pickle, up to and with its last instruction.

    Args:
      stream: at the pickle's first byte; the caller bounds its length.

    Returns:
      Numbers, strings, bytes, None, tuples, lists and dicts of each other, `Storage`
      and `Tensor`.

    Raises:
      Exception: of any type, if the stream is damaged or asks for anything else.
    """
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > _MOST_INSTRUCTIONS:
            raise ValueError(f"more than {_MOST_INSTRUCTIONS} pickle instructions")
        if opcode.name == "STOP":
            return machine.pop()
        machine.run(opcode.name, argument)
    raise ValueError("a pickle without an end")


class _Machine:
    def __init__(self):
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks beneath the marks
        self._memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """Runs one instruction."""
        if name in _PUSH_ARGUMENT:
            self._stack.append(argument)
        elif name in _PUSH_NEW:
            self._stack.append(_PUSH_NEW[name]())
        elif name in _TUPLES:
            self._stack.append(
                tuple(reversed([self.pop() for _ in range(_TUPLES[name])]))
            )
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name not in _NO_EFFECT:
            method = _METHODS.get(name)
            if method is None:
                raise ValueError(f"a pickle with the instruction {name}")
            method(self, argument)

    def pop(self) -> Any:
        """Takes the last value off."""
        if not self._stack:
            raise ValueError("a pickle that takes a value it has not put")
        return self._stack.pop()

    def _top(self) -> Any:
        value = self.pop()
        self._stack.append(value)
        return value

    def _since_mark(self) -> list[Any]:
        if not self._below:
            raise ValueError("a pickle that looks for a mark it has not put")
        values, self._stack = self._stack, self._below.pop()
        return values

    def mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._top()

    def tuple_since_mark(self, _: Any) -> None:
        values = self._since_mark()
        self._stack.append(tuple(values))

    def list_since_mark(self, _: Any) -> None:
        values = self._since_mark()
        self._stack.append(values)

    def dict_since_mark(self, _: Any) -> None:
        values = self._since_mark()
        self._stack.append({})
        self._set_items(values)

    def append(self, _: Any) -> None:
        self._extend([self.pop()])

    def appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise ValueError(f"a pickle that appends to a {type(target).__name__}")
        target.extend(values)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._set_items([key, value])

    def set_items(self, _: Any) -> None:
        self._set_items(self._since_mark())

    def _set_items(self, values: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError("a pickle that sets items of what is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Keys whose hash costs nothing and can't be made to collide.
            if not (isinstance(key, str) or (type(key) is int and 0 <= key < 2**31)):
                raise ValueError(f"a pickle with a {type(key).__name__} as a key")
            target[key] = value

    def global_by_argument(self, argument: str) -> None:
        self._push_global(argument.replace(" ", "."))

    def global_by_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a pickle with a global without a name")
        self._push_global(f"{module}.{name}")

    def _push_global(self, name: str) -> None:
        if name not in _STORAGES and name not in _BUILDERS:
            raise ValueError(
                f"a pickle with the global {name[:80]!r}; only tensors and plain data "
                "are read, and nothing is ever run"
            )
        self._stack.append(_Global(name))

    def reduce(self, _: Any) -> None:
        arguments, callee = self.pop(), self.pop()
        known = isinstance(callee, _Global) and callee.name in _BUILDERS
        if not known or not isinstance(arguments, tuple):
            raise ValueError("a pickle that calls what is no function of ours")
        self._stack.append(_BUILDERS[callee.name](*arguments))

    def build(self, _: Any) -> None:
        """Drops a dict's attributes: a state dict has its layers' versions there."""
        state, target = self.pop(), self._top()
        if not isinstance(target, dict) or not isinstance(state, dict):
            raise ValueError("a pickle that sets attributes of what is no dict")

    def persistent(self, _: Any) -> None:
        identity = self.pop()
        if not isinstance(identity, tuple) or not 5 <= len(identity) <= 6:
            raise ValueError("a pickle with a reference that is no storage")
        tag, kind, key, _location, size, *view = identity
        is_storage = isinstance(kind, _Global) and kind.name in _STORAGES
        if tag != "storage" or not is_storage or not isinstance(key, str):
            raise ValueError("a pickle with a reference that is no storage")
        if type(size) is not int or not 0 <= size < 2**48 or view not in ([], [None]):
            raise ValueError("a pickle with a storage of no possible size")
        self._stack.append(Storage(key, _STORAGES[kind.name], size))


def _ordered_dict(*arguments: Any) -> dict[str, Any]:
    if arguments:
        raise ValueError("an OrderedDict made of arguments")
    return {}  # dicts keep their order


def _rebuild_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *_unused: Any
) -> Tensor:
    numbers = (offset, *_integers(shape), *_integers(strides))
    if not isinstance(storage, Storage) or any(type(n) is not int for n in numbers):
        raise ValueError("a tensor that is no view of a storage")
    return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(data: Any, *_unused: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError("a parameter that is no tensor")
    return data


def _integers(values: Any) -> tuple[Any, ...]:
    if not isinstance(values, tuple):
        raise ValueError("a tensor without a shape")
    return values


# What a pickle may call, and what stands in for it.
_BUILDERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch.Size": _integers,
}
_NO_EFFECT = {"PROTO", "FRAME"}
_PUSH_ARGUMENT = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
}
_PUSH_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_METHODS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "MEMOIZE": _Machine.memoize,
    "TUPLE": _Machine.tuple_since_mark,
    "LIST": _Machine.list_since_mark,
    "DICT": _Machine.dict_since_mark,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.global_by_argument,
    "STACK_GLOBAL": _Machine.global_by_stack,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
