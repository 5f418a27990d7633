"""`jsbert embed` and `embed_corpus`: what is in the folder, and that nothing is lost whatever stops a
run."""

import errno
import gzip
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from jsbert.corpus import embeddings, folder, open_embeddings
from jsbert.embed import embed_corpus
from jsbert.quantization import calibration_ranges, dequantize_embeddings
from tests import command_line, models, programs
from tests.command_line import is_one_line
from tests.embed_killer import content
from tests.stand_in import DIM, StandIn

ROOT = pathlib.Path(__file__).parents[1]


def write_corpus(path, num_rows, bad=()):
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf8") as file:
        for number in range(num_rows):
            row = {"id": f"x{number}", "text": f"text {number}"}
            file.write("no json\n" if number in bad else json.dumps(row) + "\n")
    return path


@pytest.fixture
def corpus(tmp_path):
    """A corpus of ten shards of ten rows."""
    return write_corpus(tmp_path / "corpus.jsonl", 100)


@pytest.fixture
def whole(corpus, tmp_path):
    """What a run that nothing stops leaves."""
    embed(corpus, tmp_path / "whole")
    return content(tmp_path / "whole")


def embed(inputs, output, model=None, **options):
    options = {"id_column": "id", "shard_rows": 10} | options
    return embed_corpus(inputs, output, model or StandIn(), **options)


# What is in the folder


def test_the_vectors_are_those_of_encode_document_in_the_order_of_the_rows(tiny, tmp_path):
    texts = [*models.sentences(60, seed=3), "", "a cat", "a cat"]
    table = pyarrow.table({"number": range(5, 68), "passage": texts})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    found = embed_corpus(
        tmp_path / "a.parquet",
        tmp_path / "out",
        tiny,
        column="passage",
        id_column="number",
        keep_text=True,
        shard_rows=25,
    )
    blocks = list(found.blocks(texts=True))
    assert [(block.first, len(block.ids)) for block in blocks] == [(0, 25), (25, 25), (50, 13)]
    assert [id for block in blocks for id in block.ids] == list(range(5, 68))
    assert [text for block in blocks for text in block.texts] == texts
    vectors = np.concatenate([block.vectors for block in blocks])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, tiny.encode_document(texts), atol=1e-6)
    assert (len(found), found.dim, found.precision) == (63, 24, "float32")
    assert repr(found).startswith("Embeddings(63 rows x 24 float32 in 3 shards of ")
    places = np.array([[62, 0], [26, 25], [0, 49]])
    assert found.ids(places) == [[67, 5], [31, 30], [5, 54]]
    assert found.texts(places[0]) == [texts[62], texts[0]]
    with pytest.raises(IndexError, match="from 0 to 62"):
        found.ids(np.array([63]))


@pytest.mark.parametrize("format", ["parquet", "npy"])
@pytest.mark.parametrize("precision", ["float16", "int8", "uint8", "binary", "ubinary"])
def test_vectors_are_cut_and_coded(tiny, tmp_path, monkeypatch, precision, format):
    monkeypatch.setattr(folder, "GROUP", 6)
    (tmp_path / "a.txt").write_text("\n".join(models.sentences(40, seed=3)) + "\n")
    wanted = tiny.encode_document(models.sentences(40, seed=3), truncate_dim=12)
    ranges = calibration_ranges(wanted) if "int" in precision else None
    found = embed_corpus(
        tmp_path / "a.txt",
        tmp_path / "out",
        tiny,
        precision=precision,
        ranges=ranges,
        truncate_dim=12,
        format=format,
        shard_rows=20,
    )
    again = open_embeddings(tmp_path / "out")
    assert (found.dim, again.precision) == (12, precision)
    blocks = list(again.blocks())
    assert [len(block.ids) for block in blocks] == [6, 6, 6, 2] * 2
    codes = np.concatenate([block.vectors for block in blocks])
    assert [id for block in blocks for id in block.ids] == list(range(40))
    if precision == "float16":
        assert codes.dtype == np.float16
        np.testing.assert_allclose(codes, wanted, atol=1e-3)
        return
    vectors = dequantize_embeddings(codes, precision, again.ranges, dim=12)
    if ranges is None:
        np.testing.assert_array_equal(vectors > 0, wanted > 0)
    else:
        np.testing.assert_allclose(vectors, wanted, atol=np.max(ranges[1] - ranges[0]) / 255)
    with pytest.raises(ValueError, match="has no texts; embed with keep_text"):
        next(again.blocks(texts=True))


def test_equal_texts_of_a_shard_are_computed_once(tmp_path):
    (tmp_path / "a.txt").write_text("a\nb\na\n\n\na\nb\n")
    model = StandIn()
    found = embed_corpus(tmp_path / "a.txt", tmp_path / "out", model, shard_rows=5)
    assert model.calls == [["a", "b", ""], ["a", "b"]]
    (first, second) = (block.vectors for block in found.blocks())
    wanted = StandIn().encode_document(["a", "b", ""], truncate_dim=None)
    np.testing.assert_array_equal(first, wanted[[0, 1, 0, 2, 2]])
    np.testing.assert_array_equal(second, wanted[[0, 1]])


def test_rows_that_cannot_be_used_are_counted(tmp_path):
    write_corpus(tmp_path / "a.jsonl", 35, bad=[0, 7, *range(20, 30)])
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1: broken json"):
        embed(tmp_path / "a.jsonl", tmp_path / "out")
    found = embed(tmp_path / "a.jsonl", tmp_path / "out", skip_bad_rows=True)
    assert (len(found), found.manifest["bad_rows"]) == (23, 12)
    assert [(shard.rows, shard.bad_rows) for shard in found.shards] == [
        (8, 2),
        (10, 0),
        (0, 10),
        (5, 0),
    ]
    assert "line 1: broken json" in found.shards[0].first_bad
    ids = [id for block in found.blocks() for id in block.ids]
    assert ids == [f"x{number}" for number in range(35) if number not in (0, 7, *range(20, 30))]
    assert found.ids(np.array([0, 18, 22])) == ["x1", "x30", "x34"]
    write_corpus(tmp_path / "b.jsonl", 15, bad=range(15))
    with pytest.raises(ValueError, match="no row of the first shard has"):
        embed(tmp_path / "b.jsonl", tmp_path / "none", skip_bad_rows=True)
    with pytest.raises(ValueError, match="none of the rows can be used"):
        embed(tmp_path / "b.jsonl", tmp_path / "none", skip_bad_rows=True, id_column=None)


# A run that stops


@pytest.mark.parametrize("format", ["parquet", "npy"])
def test_a_run_goes_on_where_it_stopped(tmp_path, format):
    write_corpus(tmp_path / "a.jsonl", 100, bad=[57])
    model = StandIn()
    with pytest.raises(ValueError, match="line 58"):
        embed(tmp_path / "a.jsonl", tmp_path / "out", model, format=format)
    assert len(model.calls) == 5
    with pytest.raises(FileNotFoundError, match="not finished: 5 of 10 shards"):
        open_embeddings(tmp_path / "out")
    model = StandIn()
    embed(tmp_path / "a.jsonl", tmp_path / "out", model, format=format, skip_bad_rows=True)
    assert [len(texts) for texts in model.calls] == [9, 10, 10, 10, 10]
    embed(tmp_path / "a.jsonl", tmp_path / "once", format=format, skip_bad_rows=True)
    assert content(tmp_path / "out") == content(tmp_path / "once")
    model = StandIn()
    assert len(embed(tmp_path / "a.jsonl", tmp_path / "out", model, format=format)) == 99
    assert model.calls == []


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_hundred_kills_leave_the_same_bytes(tmp_path):
    write_corpus(tmp_path / "a.jsonl", 250)
    command = [sys.executable, "-m", "tests.embed_killer"]
    done = subprocess.run(
        [*command, tmp_path / "a.jsonl", tmp_path / "out", "100"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "killed 100 times" in done.stdout, done.stderr


def test_an_interrupt_loses_no_shard_that_was_computed(corpus, whole, tmp_path):
    class Interrupted(StandIn):
        def encode_document(self, inputs, **options):
            if "text 45" in inputs:
                raise KeyboardInterrupt
            return super().encode_document(inputs, **options)

    with pytest.raises(KeyboardInterrupt):
        embed(corpus, tmp_path / "out", Interrupted())
    model = StandIn()
    embed(corpus, tmp_path / "out", model)
    assert len(model.calls) == 6
    assert content(tmp_path / "out") == whole


def test_a_full_disk_loses_no_shard_and_leaves_no_half_file(corpus, whole, tmp_path, monkeypatch):
    written, write_table = [], pyarrow.parquet.write_table

    def full(table, file, **options):
        written.append(file)
        if len(written) == 4:
            file.write(b"PAR1")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_table(table, file, **options)

    monkeypatch.setattr(pyarrow.parquet, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        embed(corpus, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if path.name != ".lock")
    assert names == ["run.json", *(f"shard-00000{n}.parquet" for n in range(3)), "shards.jsonl"]
    embed(corpus, tmp_path / "out")
    assert content(tmp_path / "out") == whole


def test_a_disk_that_fills_up_at_the_notes(corpus, whole, tmp_path, monkeypatch):
    fsync, left = os.fsync, [9]

    def full(number):
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(number)

    for calls in range(3, 20):
        with monkeypatch.context() as patch:
            left[0] = calls
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                embed(corpus, tmp_path / f"out{calls}")
        embed(corpus, tmp_path / f"out{calls}")
        assert content(tmp_path / f"out{calls}") == whole


def test_a_note_that_was_cut_off_does_not_count(corpus, whole, tmp_path):
    write_corpus(tmp_path / "corpus.jsonl", 100, bad=[57])
    os.utime(corpus, (1, 1))
    with pytest.raises(ValueError, match="line 58"):
        embed(corpus, tmp_path / "out")
    log = tmp_path / "out" / "shards.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    model = StandIn()
    embed(corpus, tmp_path / "out", model, skip_bad_rows=True)
    assert len(model.calls) == 6


def test_a_disk_without_room_for_all_shards_is_reported_after_the_first(
    corpus, tmp_path, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match="bytes are needed and 1,000 are free"):
        embed(corpus, tmp_path / "out")


# Another run


@pytest.mark.parametrize(
    "options, words",
    [
        ({"model": StandIn("another")}, 'model sha256 was "a stand-in" and is "another" now'),
        ({"shard_rows": 20}, "shard_rows was 10 and is 20 now"),
        ({"precision": "ubinary"}, 'precision was "float32" and is "ubinary" now'),
        ({"prompt": "query: "}, 'prompt was null and is "query: " now'),
        ({"id_column": None}, 'id_column was "id" and is null now'),
        ({"keep_text": True}, "keep_text was false and is true now"),
        ({"format": "npy", "truncate_dim": 3}, "format was .* truncate_dim was null and is 3 now"),
    ],
)
@pytest.mark.parametrize("is_finished", [True, False])
def test_other_options_are_refused(corpus, tmp_path, options, words, is_finished):
    write_corpus(corpus, 100, bad=[] if is_finished else [57])
    if is_finished:
        embed(corpus, tmp_path / "out")
    else:
        with pytest.raises(ValueError, match="line 58"):
            embed(corpus, tmp_path / "out")
    before = content(tmp_path / "out")
    with pytest.raises(ValueError, match=f"holds another run: .*{words}"):
        embed(corpus, tmp_path / "out", **options)
    assert content(tmp_path / "out") == before


def test_an_option_that_is_left_out_later_is_another_run(corpus, tiny_folder, tmp_path):
    half, options = {"dtype": "bfloat16"}, {"shard_rows": 50}
    embed_corpus(corpus, tmp_path / "out", tiny_folder, model_options=half, **options)
    with pytest.raises(ValueError, match='options dtype was "bfloat16" and is null now'):
        embed_corpus(corpus, tmp_path / "out", tiny_folder, **options)


def test_changed_inputs_are_refused(corpus, tmp_path):
    other = write_corpus(tmp_path / "other.jsonl", 5)
    embed([corpus, other], tmp_path / "out")
    for inputs, words in (
        ([corpus], "other.jsonl is missing now"),
        ([corpus, other, write_corpus(tmp_path / "new.jsonl", 1)], "new.jsonl is new"),
        ([other, corpus], "another order"),
    ):
        with pytest.raises(ValueError, match=words):
            embed(inputs, tmp_path / "out")
    os.utime(other, (1, 1))
    with pytest.raises(ValueError, match="other.jsonl has changed since"):
        embed([corpus, other], tmp_path / "out")


def test_a_run_without_a_shard_may_become_another(corpus, tmp_path):
    write_corpus(corpus, 100, bad=[3])
    with pytest.raises(ValueError, match="line 4"):
        embed(corpus, tmp_path / "out")
    assert len(embed(corpus, tmp_path / "out", shard_rows=40, skip_bad_rows=True).shards) == 3


def test_the_model_is_known_by_its_params_config_and_prompts(tiny, tmp_path):
    from jsbert import SentenceTransformer
    from jsbert.embed.opening import opening

    path = models.write_folder(tmp_path / "a")
    one = opening(path, None).described()
    assert one == opening(str(path), {"device": "cpu"}).described()
    assert one != opening(path, {"pooling": "cls"}).described()
    assert one != opening(models.write_folder(tmp_path / "b", seed=1), None).described()
    model = SentenceTransformer(path)
    opened = opening(model, None).described()
    assert opened == opening(SentenceTransformer(path), None).described()
    assert opened == opening(tiny, None).described()
    for other in (
        SentenceTransformer(tmp_path / "b"),
        SentenceTransformer(path, pooling="cls"),
        SentenceTransformer(path, dtype="bfloat16"),
        SentenceTransformer(path, prompts={"document": "passage: "}),
    ):
        assert opening(other, None).described() != opened
    with pytest.raises(TypeError, match=r"open already, so the options \['dtype'\]"):
        opening(model, {"dtype": "bfloat16"})


def test_one_run_at_a_time(corpus, tmp_path):
    class Second(StandIn):
        def encode_document(self, inputs, **options):
            with pytest.raises(BlockingIOError, match="another run writes into"):
                embed(corpus, tmp_path / "out")
            return super().encode_document(inputs, **options)

    assert len(embed(corpus, tmp_path / "out", Second())) == 100
    assert len(embed(corpus, tmp_path / "out")) == 100


def test_folders_that_are_not_ours(corpus, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds letter.txt and no run"):
        embed(corpus, tmp_path / "full")
    with pytest.raises(NotADirectoryError, match="is a file; give a folder"):
        embed(corpus, corpus)
    with pytest.raises(OSError, match="cannot be written to"):
        embed(corpus, "/proc/out")
    with pytest.raises(FileNotFoundError, match="is this a folder of `jsbert embed`"):
        open_embeddings(tmp_path / "full")


# Shards that are wrong


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_wrong_shard_is_found_and_computed_again(corpus, tmp_path, is_finished):
    options = {}
    if not is_finished:
        write_corpus(corpus, 100, bad=[57])
        with pytest.raises(ValueError, match="line 58"):
            embed(corpus, tmp_path / "out")
        options = {"skip_bad_rows": True}
    else:
        embed(corpus, tmp_path / "out")
    damage(tmp_path / "out" / "shard-000002.parquet")
    (tmp_path / "out" / "shard-000003.parquet").unlink()
    with (tmp_path / "out" / "shard-000004.parquet").open("ab") as file:
        file.write(b"more")
    if is_finished:
        with pytest.raises(ValueError, match="000003.parquet is missing; run `jsbert embed` again"):
            open_embeddings(tmp_path / "out")
    model = StandIn()
    with pytest.warns(UserWarning, match="computed again") as caught:
        embed(corpus, tmp_path / "out", model, verify=True, **options)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 3
    assert "000002.parquet has another checksum" in messages[0]
    assert "000003.parquet is missing" in messages[1]
    assert "000004.parquet has" in messages[2]
    assert len(model.calls) == (3 if is_finished else 8)
    embed(corpus, tmp_path / "once", **options)
    assert content(tmp_path / "out") == content(tmp_path / "once")


def test_a_wrong_manifest(corpus, tmp_path):
    embed(corpus, tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"form": 1', '"form": 2'))
    with pytest.raises(ValueError, match="form 2, and this version of jsbert reads 1"):
        open_embeddings(tmp_path / "out")
    manifest.write_text("{")
    with pytest.raises(ValueError, match=r"manifest.json: broken json"):
        embed(corpus, tmp_path / "out")


# How much, how fast, by whom


def test_memory_is_that_of_shards_and_not_of_the_corpus(tmp_path):
    text = "word " * 2000  # 10 kB
    (tmp_path / "short.txt").write_text("".join(f"{n} {text}\n" for n in range(100)))
    (tmp_path / "long.txt").write_text("".join(f"{n} {text}\n" for n in range(1000)))

    class Forgetful(StandIn):
        calls = property(lambda self: [], lambda self, value: None)

    def peak(name):
        tracemalloc.start()
        try:
            found = embed_corpus(
                tmp_path / name,
                tmp_path / f"{name}.out",
                Forgetful(),
                shard_rows=20,
                keep_text=True,
            )
            return (
                len(found),
                tracemalloc.get_traced_memory()[1],
                sum(len(b.ids) for b in found.blocks(texts=True)),
            )
        finally:
            tracemalloc.stop()

    (few, small, _), (many, large, again) = peak("short.txt"), peak("long.txt")
    assert (few, many, again) == (100, 1000, 1000)
    assert large < 1.3 * small < 3 * 20 * 10_000 * 1.3 + 2**20


def test_processes_write_the_same_bytes(tiny_folder, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(models.sentences(60, seed=3)))
    environment = os.environ | {"XLA_FLAGS": programs.quick_flags()}
    for name, workers in (("one", 1), ("two", 2)):
        command = [
            sys.executable,
            "-m",
            "jsbert",
            "embed",
            tmp_path / "a.txt",
            "-o",
            tmp_path / name,
        ]
        options = ["-m", tiny_folder, "--shard-rows", "20", "--workers", str(workers)]
        subprocess.run(
            [*command, *options], check=True, capture_output=True, timeout=300, env=environment
        )
    assert content(tmp_path / "one") == content(tmp_path / "two")


class Dying(StandIn):
    def encode_document(self, inputs, **options):
        if "text 57" in inputs:
            os._exit(1)
        return super().encode_document(inputs, **options)


class Failing(StandIn):
    def encode_document(self, inputs, **options):
        if "text 57" in inputs:
            raise FloatingPointError("not a number")
        return super().encode_document(inputs, **options)


def test_a_process_that_dies_or_fails_loses_its_shard_alone(corpus, whole, tmp_path):
    with pytest.raises(RuntimeError, match="a worker process died"):
        embed(corpus, tmp_path / "out", Dying(), workers=2)
    with pytest.raises(FloatingPointError, match="not a number"):
        embed(corpus, tmp_path / "out", Failing(), workers=2)
    model = StandIn()
    embed(corpus, tmp_path / "out", model)
    assert 1 <= len(model.calls) <= 5
    assert content(tmp_path / "out") == whole


class Slow(StandIn):
    def encode_document(self, inputs, **options):
        time.sleep(0.5)
        return super().encode_document(inputs, **options)


def test_no_process_begins_a_shard_after_an_error(corpus, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(OSError, match="bytes are needed and 100 are free"):
        embed(corpus, tmp_path / "out", Slow(), workers=2, shard_rows=2)
    # Those that were computed, and those that the executor had handed out.
    assert len(list((tmp_path / "out").glob("shard-*.parquet"))) < 15


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_end_with_the_one_that_started_them(tmp_path):
    (tmp_path / "a.txt").write_text("a text\n" * 5000)
    code = (
        "import multiprocessing, os, sys, threading, time\n"
        "from tests.test_embed import Slow\n"
        "from jsbert.embed import embed_corpus\n"
        "def die():\n"
        "    while len(multiprocessing.active_children()) < 2 or not os.path.exists(first):\n"
        "        time.sleep(0.05)\n"
        "    print(*[one.pid for one in multiprocessing.active_children()], flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "corpus, out = sys.argv[1:]\n"
        "first = out + '/shard-000000.parquet'\n"
        "if __name__ == '__main__':\n"
        "    threading.Thread(target=die, daemon=True).start()\n"
        "    embed_corpus(corpus, out, Slow(), shard_rows=5, workers=2)\n"
    )
    (tmp_path / "run.py").write_text(code)
    with (tmp_path / "pids").open("wb") as pids:
        command = [sys.executable, tmp_path / "run.py", tmp_path / "a.txt", tmp_path / "out"]
        root = str(ROOT)
        environment = os.environ | {"PYTHONPATH": root}
        done = subprocess.run(
            command, stdout=pids, stderr=subprocess.DEVNULL, timeout=120, env=environment
        )
    assert done.returncode == -9
    processes = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(processes) == 2
    deadline = time.monotonic() + 20
    while any(_is_running(pid) for pid in processes) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_is_running(pid) for pid in processes)


def _is_running(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_progress_says_rows_tokens_and_time_left(tiny, tmp_path, capfd):
    write_corpus(tmp_path / "a.jsonl", 30, bad=[5])
    embed_corpus(
        tmp_path / "a.jsonl",
        tmp_path / "out",
        tiny,
        shard_rows=10,
        skip_bad_rows=True,
        show_progress_bar=True,
    )
    err = capfd.readouterr().err
    assert "30/30" in err
    assert "text/s" in err
    assert "tokens/s" in err


def test_long_texts_are_told_of_once(tiny, tmp_path):
    (tmp_path / "a.txt").write_text("cat " * 100 + "\nshort\n" + "dog " * 100)
    with pytest.warns(UserWarning, match="longer than") as caught:
        embed_corpus(tmp_path / "a.txt", tmp_path / "out", tiny, shard_rows=1)
    assert len(caught) == 1
    with pytest.raises(ValueError, match="longer than"):
        embed_corpus(tmp_path / "a.txt", tmp_path / "error", tiny, on_truncate="error")


def test_options_that_do_not_exist(corpus, tmp_path):
    for options, words in (
        ({"format": "arrow"}, "format"),
        ({"precision": "int4"}, "precision"),
        ({"engine": "spark"}, "engine"),
        ({"shard_rows": 0}, "shard_rows"),
        ({"workers": 0}, "workers"),
        ({"precision": "int8"}, "need ranges"),
        ({"ranges": np.zeros((2, DIM), np.float32)}, "need ranges"),
    ):
        with pytest.raises(ValueError, match=words):
            embed(corpus, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(ValueError, match="a file of lines has no columns"):
        embed(tmp_path / "a.txt", tmp_path / "out")


# The command


@pytest.mark.filterwarnings("always::UserWarning")
def test_the_command(capfd, tiny, tiny_folder, tmp_path):
    write_corpus(tmp_path / "a.jsonl.gz", 25, bad=[3])
    np.save(tmp_path / "calibration.npy", tiny.encode(models.sentences(20, seed=2), truncate_dim=8))
    argv = [
        "embed",
        tmp_path / "*.jsonl.gz",
        "-o",
        tmp_path / "out",
        "-m",
        tiny_folder,
        "--id-column",
        "id",
    ]
    argv += [
        "--shard-rows",
        10,
        "--precision",
        "int8",
        "--calibration",
        tmp_path / "calibration.npy",
    ]
    argv += ["--truncate-dim", 8]
    code, out, err = command_line.run(capfd, argv)
    assert (code, out) == (1, "")
    assert is_one_line(err, "a.jsonl.gz, line 4: broken json", "--skip-bad")
    code, out, err = command_line.run(capfd, [*argv, "--skip-bad"])
    assert (code, err) == (0, "")
    folder = str(tmp_path / "out")
    assert json.loads(out) == {"folder": folder, "rows": 24, "bad_rows": 1, "shards": 3}
    code, out, err = command_line.run(capfd, ["embed", "--verify", "-o", folder])
    assert (code, json.loads(out)["rows"]) == (0, 24)
    damage(tmp_path / "out" / "shard-000001.parquet")
    code, out, err = command_line.run(capfd, ["embed", "--verify", "-o", folder])
    assert (code, out) == (1, "")
    assert is_one_line(err, "1 of 3 shards are wrong", "shard-000001.parquet has another checksum")
    code, out, err = command_line.run(capfd, [*argv, "--skip-bad", "--verify"])
    assert code == 0, err
    assert is_one_line(err, "warning", "computed again")
    assert embeddings.open_embeddings(folder).verify() == []
    assert command_line.run(capfd, ["embed", "-o", folder])[0] == 2
    assert command_line.run(capfd, [*argv[:6], "--precision", "int8"])[0] == 2
