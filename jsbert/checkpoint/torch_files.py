"""Read the checkpoints of `torch.save`, such as `pytorch_model.bin`, without torch: named tensors,
and nothing else.

Both of torch's forms are read. Since torch 1.6 a file is a zip of a pickle (data.pkl) and the
storages (data/0, data/1, ...). Before, a file is five pickles in a row, and then the storages.
"""

import io
import math
import os
import pathlib
import struct
import sys
import zipfile
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from jsbert.checkpoint.pickles import Described, Storage, read_pickle
from jsbert.checks import shown

LONGEST_PICKLE = 2**23
"""The most bytes that the pickles of a file may have; a tensor takes about 150. The limit bounds
the time and the memory that a file of nothing but a pickle takes."""

OLD_MAGIC = 0x1950A86A20F9469CFC6C
"""The value of the first pickle of a file in the older form."""

SHARED = 16
"""The tensors of a file have at most this many times the bytes of the file. Tied tensors share
numbers; without a limit a small file could ask for any amount of memory."""


def saved_tensors(file: pathlib.Path) -> list[tuple[str, np.ndarray]]:
    """The tensors of a file: [(name, array)]. The arrays are read-only, may share memory, and have
    the dtypes of the file.

    Nothing is called that the file names, and at most as many bytes are taken as the file has.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if the file is broken, or holds anything but a dict of tensors.
    """
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        try:
            is_zip = opened.read(4) == b"PK\3\4"
            opened.seek(0)
            state, read, order = (_open_zip if is_zip else _open_old)(opened, size)
            return _tensors(state, read, order, size)
        # zipfile raises these too. RuntimeError: a member has a password or a later zip's version.
        except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, OverflowError) as error:
            raise ValueError(f"a broken zip ({type(error).__name__}: {error})") from None
        except struct.error as error:
            raise ValueError(f"broken ({error})") from None


State = dict[str, Described]
"""The tensors of a file by name."""

Read = Callable[[str], bytes]
"""From the key of a storage to its bytes."""


def _open_zip(opened: BinaryIO, size: int) -> tuple[State, Read, str]:
    """(the described tensors, the reader of storages, the byte order) of a zip."""
    archive = zipfile.ZipFile(opened)
    members = {member.filename: member for member in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise ValueError("a zip with two files of one name")
    # torch compresses nothing. So no member, and no sum of members, is larger than the file.
    for member in members.values():
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ValueError(f"a zip in which {member.filename[:80]!r} is compressed")
    if sum(member.file_size for member in members.values()) > size:
        raise ValueError("a zip of files that are larger than the zip")
    names = [name for name in members if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise ValueError(f"a zip with {len(names)} files data.pkl; torch.save writes one")
    name = names[0]
    if members[name].file_size > LONGEST_PICKLE:
        raise ValueError(
            f"its data.pkl has {members[name].file_size:,} bytes, not of tensors alone"
        )
    root = name.removesuffix("data.pkl")
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in members else b"little"
    if order not in (b"little", b"big"):
        raise ValueError(f"its byteorder is {order[:20]!r}, which is neither little nor big")

    def read(key: str) -> bytes:
        if f"{root}data/{key}" not in members:
            raise ValueError(f"the zip lacks the storage data/{key[:80]}")
        return archive.read(f"{root}data/{key}")

    return _read_state(io.BytesIO(archive.read(name))), read, order.decode()


def _open_old(opened: BinaryIO, size: int) -> tuple[State, Read, str]:
    """(the described tensors, the reader of storages, the byte order) of a file from before
    torch 1.6."""
    head = io.BytesIO(opened.read(LONGEST_PICKLE))
    try:
        magic = read_pickle(head)
    except ValueError:
        magic = None
    if magic != OLD_MAGIC:
        raise ValueError("neither a zip nor a file that torch.save wrote before torch 1.6")
    _, system = (read_pickle(head) for _ in range(2))
    state, keys = _read_state(head), read_pickle(head)
    opened.seek(head.tell())
    is_little = system.get("little_endian") if isinstance(system, dict) else None
    if not isinstance(is_little, bool) or not isinstance(keys, list):
        raise ValueError("a broken head: it lacks the byte order or the list of storages")
    sizes = {one.storage.key: one.storage for one in state.values()}
    content: dict[str, bytes] = {}
    for key in keys:
        if not isinstance(key, str) or key not in sizes or key in content:
            raise ValueError("a list of storages that does not fit the tensors")
        (count,) = struct.unpack("<q", opened.read(8))
        if count != sizes[key].size:
            raise ValueError(
                f"the storage {key[:80]} has {count:,} numbers, not {sizes[key].size:,}"
            )
        number_bytes = count * sizes[key].dtype.itemsize
        if not 0 <= number_bytes <= size:
            raise ValueError(f"the storage {key[:80]} is larger than the file")
        content[key] = opened.read(number_bytes)

    def read(key: str) -> bytes:
        if key not in content:
            raise ValueError(f"the file lacks the storage {key[:80]}")
        return content[key]

    return state, read, "little" if is_little else "big"


def _read_state(file):
    """The pickle at the file's position: a dict of described tensors."""
    state = read_pickle(file)
    if not isinstance(state, dict):
        raise ValueError(f"holds a {type(state).__name__}, not a dict of tensors")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Described):
            raise ValueError(
                f"holds {str(name)[:80]!r}: a {type(tensor).__name__}; only tensors with a name "
                "are read"
            )
        _check(name, tensor)
    return state


def _tensors(state, read, order, size):
    """[(name, array)] for a dict of described tensors."""
    total = sum(math.prod(one.shape) * one.storage.dtype.itemsize for one in state.values())
    if total > SHARED * size:
        raise ValueError(f"its tensors have {total:,} bytes, but the file has {size:,}")
    numbers: dict[str, tuple[Storage, np.ndarray]] = {}
    for storage in (one.storage for one in state.values()):
        if storage.key not in numbers:
            numbers[storage.key] = storage, _numbers(storage, read, order)
        if numbers[storage.key][0] != storage:
            raise ValueError(f"the storage {storage.key[:80]} is read in two ways")
    return [(name, _view(numbers[one.storage.key][1], one)) for name, one in state.items()]


def _numbers(storage, read, order):
    """The numbers of a storage as a flat array."""
    content, dtype = read(storage.key), storage.dtype
    if len(content) != storage.size * dtype.itemsize:
        raise ValueError(
            f"the storage {storage.key[:80]} has {len(content):,} bytes, not {storage.size:,} "
            f"numbers of {dtype}"
        )
    if dtype == np.bool_:
        return np.frombuffer(content, np.uint8) != 0
    flat = np.frombuffer(content, f"u{dtype.itemsize}")
    return (flat if order == sys.byteorder else flat.byteswap()).view(dtype)


def _check(name, tensor):
    """Raise ValueError unless the tensor lies within its storage, with room for each number."""
    shape, strides, size = tensor.shape, tensor.strides, tensor.storage.size
    in_range = all(0 <= number < 2**40 for number in (*shape, *strides, tensor.offset, size))
    if not in_range or len(shape) != len(strides) or len(shape) > 8:
        raise ValueError(f"{name[:80]}: shape {shown(shape)} with strides {shown(strides)}")
    last = tensor.offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if math.prod(shape) and (last >= size or math.prod(shape) > size):
        raise ValueError(f"{name[:80]}: a tensor of shape {shape} is larger than its storage")


def _view(numbers, tensor):
    if not math.prod(tensor.shape):
        return np.zeros(tensor.shape, numbers.dtype)
    steps = [
        step * numbers.itemsize if n > 1 else numbers.itemsize
        for n, step in zip(tensor.shape, tensor.strides, strict=True)
    ]
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :], tensor.shape, steps, writeable=False
    )
