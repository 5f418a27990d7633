"""Read a pickle of named tensors without running it.

A pickle is a program for a machine with a stack, and Python's own machine calls any function that
the pickle names. The machine here has only the instructions that `torch.save` writes for a dict of
tensors, and it calls nothing. What a pickle asks to call must be one of the three names that build
a tensor or an empty dict; the result is then a description of the tensor.

The reference is Python's `pickletools`, protocol 2, and torch's `_utils.py`.
"""

import dataclasses
import io
import struct
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

DTYPES = {
    "FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16,
    "BFloat16Storage": bfloat16, "LongStorage": np.int64, "IntStorage": np.int32,
    "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}  # fmt: skip
"""{torch's class of a storage: the dtype of its numbers}."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """The numbers of one or several tensors.

    Attributes:
        key: the name of the numbers in the file.
        dtype: their dtype.
        size: their count.
    """

    key: str
    dtype: np.dtype
    size: int


@dataclasses.dataclass(frozen=True)
class Described:
    """A tensor: a view of a storage.

    Attributes:
        storage: the numbers.
        offset: the place of the first number in the storage.
        shape: the sizes of the axes.
        strides: for each axis, the distance of neighbours in the storage, in numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Name:
    """What a pickle imports."""

    text: str


_NUMBERS = {
    b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d", b"\x80": "<B", b"X": "<I", b"\x8a": "<B",
    b"q": "<B", b"r": "<I", b"h": "<B", b"j": "<I",
}  # fmt: skip
"""{an instruction: the form of the number behind it}."""

_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False, b")": ()}
_LENGTHS = {b"\x85": 1, b"\x86": 2, b"\x87": 3}  # of the tuples that an instruction makes


def read_pickle(file: io.BufferedIOBase) -> Any:
    """The value of the pickle at the file's position; the file is then behind the pickle.

    The value consists of dicts, lists, tuples, strings, numbers, `Storage` and `Described`. Time
    and memory are proportional to the length of the pickle.

    Raises:
        ValueError: for a pickle that ends too early, or holds anything but named tensors.
    """
    try:
        return _Machine(file).run()
    except (IndexError, KeyError):
        raise ValueError("a broken pickle: it takes a value that is not there") from None
    except struct.error:
        raise ValueError("a broken pickle: it ends too early") from None
    except UnicodeDecodeError:
        raise ValueError("a broken pickle: a text in it is not UTF-8") from None


class _Machine:
    """The stack machine of one pickle."""

    def __init__(self, file):
        self.file = file
        self.stack: list[Any] = []
        self.marks: list[int] = []  # the heights of the stack at the marks
        self.memo: dict[int, Any] = {}

    def run(self):
        """The value that is on the stack at the pickle's end."""
        while (code := self.file.read(1)) != b".":
            number = self._number(_NUMBERS[code]) if code in _NUMBERS else 0
            self._step(code, number)
        return self.stack.pop()

    def _step(self, code, number):
        """Do one instruction. `number` is the number behind it, if it has one."""
        stack = self.stack
        match code:
            # Values.
            case b"K" | b"M" | b"J" | b"G":
                stack.append(number)
            case b"\x8a":
                stack.append(int.from_bytes(self._bytes(number), "little", signed=True))
            case b"X":
                stack.append(self._bytes(number).decode())
            case b"N" | b"\x88" | b"\x89" | b")":
                stack.append(_CONSTANTS[code])
            case b"}":
                stack.append({})
            case b"]":
                stack.append([])
            # Values made of others.
            case b"(":
                self.marks.append(len(stack))
            case b"t":
                stack.append(tuple(self._from_mark()))
            case b"\x85" | b"\x86" | b"\x87":
                stack.append(tuple([stack.pop() for _ in range(_LENGTHS[code])][::-1]))
            case b"s" | b"u":
                items = [stack.pop(), stack.pop()][::-1] if code == b"s" else self._from_mark()
                for key, value in zip(items[::2], items[1::2], strict=False):
                    if not isinstance(key, (str, int)):  # a deep tuple has no hash in bounded depth
                        raise ValueError(f"a pickle with a {_kind(key)} as the key of a dict")
                    self._top(dict)[key] = value
            case b"a" | b"e":
                items = [stack.pop()] if code == b"a" else self._from_mark()
                self._top(list).extend(items)
            # The memo.
            case b"q" | b"r":
                self.memo[number] = stack[-1]
            case b"h" | b"j":
                stack.append(self.memo[number])
            # Tensors.
            case b"c":
                stack.append(_Name(f"{self._line()}.{self._line()}"))
            case b"Q":
                stack.append(_storage(stack.pop()))
            case b"R":
                arguments = stack.pop()
                stack.append(_built(stack.pop(), arguments))
            case b"b":  # the attributes of an OrderedDict: torch's `_metadata`, which is not used
                stack.pop()
                self._top(dict)
            case b"\x80":
                if number != 2:
                    raise ValueError(f"a pickle of protocol {number}; torch.save writes protocol 2")
            case b"":
                raise ValueError("a broken pickle: it ends too early")
            case _:
                raise ValueError(
                    f"a pickle with the instruction {code!r}, which torch.save does not write for "
                    "a dict of tensors"
                )

    def _from_mark(self):
        """Take the values above the last mark from the stack."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def _top(self, kind):
        if not isinstance(self.stack[-1], kind):
            raise ValueError(
                f"a pickle that fills a {_kind(self.stack[-1])} like a {kind.__name__}"
            )
        return self.stack[-1]

    def _number(self, form):
        return struct.unpack(form, self.file.read(struct.calcsize(form)))[0]

    def _bytes(self, count):
        content = self.file.read(count)
        if len(content) < count:
            raise ValueError("a broken pickle: it ends too early")
        return content

    def _line(self):
        return self.file.readline().decode().removesuffix("\n")


def _storage(entry):
    """The storage that a pickle's persistent id describes."""
    match entry:
        case ("storage", _Name(name), str(key), str(), int(size)):
            pass
        case ("storage", _Name(name), str(key), str(), int(size), None):  # before torch 1.6
            pass
        case _:
            raise ValueError("a pickle with an object of its own that is not a tensor's storage")
    module, _, kind = name.rpartition(".")
    if module != "torch" or kind not in DTYPES:
        raise ValueError(f"a storage of {name[:80]!r}; supported: {', '.join(DTYPES)}")
    return Storage(key, np.dtype(DTYPES[kind]), size)


def _built(function, arguments):
    """The result of a call that a pickle asks for: a described tensor, or an empty dict."""
    match function, arguments:
        case _Name("collections.OrderedDict"), ():
            return {}
        case _Name("torch._utils._rebuild_parameter"), (Described() as tensor, bool(), dict()):
            return tensor
        case (
            _Name("torch._utils._rebuild_tensor_v2"),
            (Storage() as storage, int(offset), tuple(shape), tuple(strides), bool(), dict(), *_),
        ):
            if all(isinstance(number, int) for number in (*shape, *strides)):
                return Described(storage, offset, shape, strides)
    name = repr(function.text[:80]) if isinstance(function, _Name) else f"a {_kind(function)}"
    raise ValueError(
        f"a pickle that calls {name}, or calls it in a way of its own; only named tensors are read"
    )


def _kind(value):
    return type(value).__name__
