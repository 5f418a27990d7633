"""Files of `torch.save`, read without torch: the same numbers as torch's, and no code that runs."""

import collections
import contextlib
import io
import math
import pickle
import random
import subprocess
import sys
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from jsbert.checkpoint import read_bi_encoder, torch_files
from jsbert.checkpoint.torch_files import saved_tensors
from tests.parity import reference

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool,
]  # fmt: skip
FORMS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before torch 1.6"])


def tensors():
    """Tensors of all dtypes, views of all kinds, tied tensors and parameters."""
    torch.manual_seed(0)
    state = collections.OrderedDict()
    for dtype in DTYPES:
        state[f"of {dtype}"] = (torch.randn(3, 5) * 3).to(dtype)
    base = torch.randn(7, 6)
    state |= {"base": base, "turned": base.T, "part": base[2:5, 1::2], "row": base[4]}
    state |= {"scalar": torch.tensor(2.5), "none": torch.zeros(0, 3), "one": base[:1].T}
    state |= {"deep": torch.randn(2, 3, 1, 4).permute(3, 1, 0, 2), "é": torch.nn.Parameter(base)}
    return state


def save(file, state, is_zip=True, **options):
    torch.save(state, file, _use_new_zipfile_serialization=is_zip, **options)
    return file


def assert_same(file, state):
    got = saved_tensors(file)
    assert [name for name, _ in got] == list(state)
    for (name, array), wanted in zip(got, state.values(), strict=True):
        wanted = wanted.detach()
        wide = wanted.double().numpy()
        assert array.shape == wanted.shape, name
        assert str(array.dtype) == str(wanted.dtype).removeprefix("torch."), name
        assert np.array_equal(array.astype(np.float64), wide, equal_nan=True), name


@FORMS
def test_all_dtypes_and_views_are_those_of_torch(tmp_path, is_zip):
    state = tensors()
    assert_same(save(tmp_path / "file.bin", state, is_zip), state)


@FORMS
def test_the_state_of_a_module_has_more_than_tensors_around_it(tmp_path, is_zip):
    state = reference.bert().state_dict()
    assert hasattr(state, "_metadata")
    assert_same(save(tmp_path / "file.bin", state, is_zip), state)


def rewritten(file, **changes):
    """Write the members of a zip anew, with a right checksum. A value of None takes one away."""
    with zipfile.ZipFile(file) as old:
        members = {member.filename: old.read(member) for member in old.infolist()}
    with zipfile.ZipFile(file, "w") as new:
        for name, content in members.items():
            content = changes.get(name.partition("/")[2].replace(".", "_"), content)
            if content is not None:
                new.writestr(name, content)
    return file


def test_the_other_byte_order_is_read_as_torch_reads_it(tmp_path):
    file = rewritten(save(tmp_path / "file.bin", tensors()), byteorder=b"big")
    assert_same(file, torch.load(file))
    assert not torch.equal(torch.load(file)["base"], tensors()["base"])
    file = rewritten(save(tmp_path / "file.bin", tensors()), byteorder=None)  # before torch 2.1
    assert_same(file, tensors())
    file = rewritten(save(tmp_path / "file.bin", tensors()), byteorder=b"odd")
    with pytest.raises(ValueError, match="byteorder is b'odd'"):
        saved_tensors(file)


@FORMS
def test_a_model_is_read_without_torch(tmp_path, is_zip):
    model = reference.bert()
    folder = reference.write_trunk(tmp_path / "model", model)
    wanted = read_bi_encoder(folder, pooling="mean").params["encoder"]
    (folder / "model.safetensors").unlink()
    save(folder / "pytorch_model.bin", model.state_dict(), is_zip)
    code = (
        "import sys, numpy; sys.modules['torch'] = None; import jsbert;"
        "model = jsbert.SentenceTransformer(sys.argv[1], pooling='mean');"
        "numpy.save(sys.argv[2], model.params['encoder']['layers'][0]['output']['kernel'])"
    )
    subprocess.run([sys.executable, "-c", code, folder, tmp_path / "kernel.npy"], check=True)
    kernel = np.load(tmp_path / "kernel.npy")
    assert np.array_equal(kernel, wanted["layers"][0]["output"]["kernel"])


class Planted:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Filled:
    """An object whose pickle sets attributes."""

    def __init__(self):
        self.value = 1


REFUSED = {
    "a call": ({"x": Planted(print, "executed")}, "calls '__builtin__.print'"),
    "a call of torch": ({"x": Planted(torch.hub.load, "a/b", "c")}, "calls 'torch.hub.load'"),
    "a call on a tensor": (Planted(getattr, torch.ones(2), "numpy"), "calls '__builtin__.getattr'"),
    "an object": ({"x": Filled()}, r"the instruction b.*x81"),
    "a module": (torch.nn.Linear(2, 3), "instruction|object of its own"),
    "a list": ([torch.ones(2)], "holds a list, not a dict"),
    "a number": ({"epoch": 3}, "holds 'epoch': a int"),
    "a dict within": ({"state": {"x": torch.ones(2)}}, "holds 'state': a dict"),
    "a number as a name": ({1: torch.ones(2)}, "holds '1': a Described; only tensors with a name"),
    "a tuple as a name": ({(1,): torch.ones(2)}, "a tuple as the key"),
    "a complex tensor": ({"x": torch.ones(2, dtype=torch.complex64)}, "'torch.ComplexFloatStorage'"),
    "a sparse tensor": ({"x": torch.ones(2, 2).to_sparse()}, "calls 'torch.serialization._get_layout'"),
    "an expanded tensor": ({"x": torch.ones(1).expand(9)}, "shape .9,. is larger than its storage"),
}  # fmt: skip


@FORMS
@pytest.mark.parametrize("kind", REFUSED)
def test_anything_but_named_tensors_is_refused_and_does_not_run(tmp_path, capsys, kind, is_zip):
    value, message = REFUSED[kind]
    file = save(tmp_path / "file.bin", value, is_zip)
    with pytest.raises(ValueError, match=message):
        saved_tensors(file)
    assert "executed" not in capsys.readouterr().out


def test_a_refused_file_is_named_with_what_to_do(tmp_path):
    folder = reference.write_trunk(tmp_path, reference.bert())
    (folder / "model.safetensors").unlink()
    save(folder / "pytorch_model.bin", {"x": Planted(print, "executed")})
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: not a readable checkpoint of .*con"):
        read_bi_encoder(folder, pooling="mean")


def test_other_zips_are_refused(tmp_path):
    file = tmp_path / "file.bin"
    for compression, name, message in (
        (zipfile.ZIP_STORED, "a/other", "a zip with 0 files data.pkl"),
        (zipfile.ZIP_DEFLATED, "a/data.pkl", "'a/data.pkl' is compressed"),
    ):
        with zipfile.ZipFile(file, "w", compression) as archive:
            archive.writestr(name, bytes(1000))
        with pytest.raises(ValueError, match=message):
            saved_tensors(file)
    save(file, {"x": torch.ones(3)})
    for changes, message in (
        ({"data/0": None}, "lacks the storage data/0"),
        ({"data/0": b"1234"}, "data/0|storage 0 has 4 bytes, not 3 numbers of float32"),
        ({"data_pkl": bytes(torch_files.LONGEST_PICKLE + 1)}, "its data.pkl has 8,388,609 bytes"),
        ({"data_pkl": pickle.dumps({"x": 1}, 4)}, "a pickle of protocol 4"),
    ):
        save(file, {"x": torch.ones(3)})
        with pytest.raises(ValueError, match=message):
            saved_tensors(rewritten(file, **changes))


def described(size, shape, strides, offset=0):
    """The pickle of a tensor that claims a storage and a shape."""
    tensor = io.BytesIO()
    torch.save({"x": torch.ones(3)}, tensor)
    with zipfile.ZipFile(tensor) as archive:
        head = archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))
    start = head[: head.index(b"K\3t")]  # in front of the size of the storage
    whole = lambda n: b"\x8a\x08" + n.to_bytes(8, "little", signed=True)  # noqa: E731
    rest = b"".join((
        whole(size), b"tq\7Q", whole(offset), b"(", *map(whole, shape), b"t(", *map(whole, strides),
        b"t\x89ccollections\nOrderedDict\n)RtRq\x09s",
    ))  # fmt: skip
    return start + rest + b"."


def test_tied_tensors_share_memory_up_to_a_limit(tmp_path):
    base = torch.ones(500)
    file = save(tmp_path / "file.bin", {str(i): base for i in range(9)})
    arrays = [array for _, array in saved_tensors(file)]
    assert all(np.shares_memory(arrays[0], array) for array in arrays)
    save(file, {str(i): base for i in range(900)})
    with pytest.raises(ValueError, match=r"its tensors have 1,800,000 bytes, but the file has"):
        saved_tensors(file)


@pytest.mark.parametrize(
    "claims",
    [
        {"size": 2**40, "shape": [2**40], "strides": [1]},
        {"size": 3, "shape": [2**50], "strides": [0]},
        {"size": 3, "shape": [2**20, 2**20], "strides": [0, 0]},
        {"size": 3, "shape": [2], "strides": [-1], "offset": 1},
        {"size": 3, "shape": [3], "strides": [1], "offset": 1},
        {"size": 3, "shape": [3], "strides": [1], "offset": -1},
        {"size": 3, "shape": [3], "strides": [2]},
        {"size": 3, "shape": [3], "strides": []},
        {"size": 3, "shape": [1] * 9, "strides": [1] * 9},
        {"size": 3, "shape": [0, 2**39, 2**39], "strides": [1, 1, 1]},
        {"size": -1, "shape": [1], "strides": [1]},
        {"size": 4, "shape": [3], "strides": [1]},
    ],
    ids=str,
)
def test_sizes_beyond_the_file_take_no_memory(tmp_path, claims):
    file = save(tmp_path / "file.bin", {"x": torch.ones(3)})
    rewritten(file, data_pkl=described(3, [3], [1]))
    assert saved_tensors(file)[0][1].tolist() == [1, 1, 1]
    rewritten(file, data_pkl=described(**claims))
    tracemalloc.start()
    with pytest.raises(ValueError, match="storage|strides|bytes|too big"):
        saved_tensors(file)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def mutated(content: bytes, generator: random.Random) -> bytes:
    """Bytes with up to four places changed, taken out, or copied."""
    content_ = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        place = generator.randrange(len(content_))
        match generator.randrange(5):
            case 0:
                content_[place] = generator.randrange(256)
            case 1:
                content_[place] ^= 1 << generator.randrange(8)
            case 2:
                del content_[place : place + generator.randint(1, 20)]
            case 3:
                other = generator.randrange(len(content_))
                content_[place:place] = content_[other : other + generator.randint(1, 40)]
            case 4:
                content_[place : place + 1] = generator.choice(CODES)
        content_ = content_ or bytearray(b"\0")
    return bytes(content_)


CODES = [
    bytes([code]) for code in b"()RQbcituse]}.qrhjlNKMJGX0123VSTUILFgpPdo~\x80\x81\x82\x93\x95"
]
CODES += [b"c__builtin__\neval\n", b"cos\nsystem\nX\4\0\0\0true\x85R", b"\x8b\xff\xff\xff\x7f"]
CODES += [b"r\xff\xff\xff\xff", b"X\xff\xff\xff\xff", b"\x8a\xff", b"ccollections\nOrderedDict\n)R"]


@pytest.mark.parametrize(
    "part, count",
    [
        *(("pickle", 200), ("zip", 200), ("old", 200)),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in (("pickle", 4000), ("zip", 3000), ("old", 3000))),
    ],
)  # fmt: skip
def test_mutated_files_give_tensors_or_a_clear_error_at_once(tmp_path, part, count):
    generator, file = random.Random(part), tmp_path / "file.bin"
    state = dict(list(tensors().items())[:14])
    content = save(file, state, part != "old").read_bytes()
    with zipfile.ZipFile(save(tmp_path / "zip.bin", state)) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    read, longest, events = 0, 0.0, []
    watched = ["import", "exec", "os.system", "subprocess.Popen", "compile", "socket.connect"]
    is_on = True
    b"x".decode("cp437")  # zipfile imports the encoding of old names
    sys.addaudithook(
        lambda event, args: events.append((event, args)) if is_on and event in watched else None
    )
    tracemalloc.start()
    for _ in range(count):
        if part == "pickle":
            with zipfile.ZipFile(file, "w") as archive:
                for name, member in members.items():
                    member = mutated(member, generator) if name == "data.pkl" else member
                    archive.writestr(f"a/{name}", member)
        else:
            file.write_bytes(mutated(content, generator))
        events.clear()
        start = time.thread_time()
        with contextlib.suppress(ValueError):
            read += all(math.prod(array.shape) < 99 for _, array in saved_tensors(file))
        longest = max(longest, time.thread_time() - start)
        assert not events
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    is_on = False
    assert 0 < read < count
    assert longest < 1.0
    assert peak < 2**24


def test_the_longest_pickle_is_read_in_bounded_time(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_files, "LONGEST_PICKLE", 2**19)  # a sixteenth
    file = save(tmp_path / "file.bin", {"x": torch.ones(3)})
    rewritten(file, data_pkl=b"]" * torch_files.LONGEST_PICKLE)
    start = time.thread_time()
    with pytest.raises(ValueError, match="ends too early"):
        saved_tensors(file)
    assert time.thread_time() - start < 5
