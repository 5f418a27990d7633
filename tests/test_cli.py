"""The command line: what it prints and writes. No error ends in a traceback.

Most runs are in this process. The few runs in a process of their own test signals, pipes and the
real entry point.
"""

import gzip
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import jsbert
from jsbert.cli import main, output
from tests import command_line
from tests.command_line import is_one_line

LINES = [
    "a cat sat",
    "",
    "the red tree",
    "a dog ran quickly",
    "  the house ",
    "query: a cat\tand more",
]
COMMANDS = (
    "encode",
    "embed",
    "similarity",
    "search",
    "rank",
    "serve",
    "eval",
    "train",
    "info",
    "convert",
    "export",
)


@pytest.fixture
def run(capfd):
    """Run the command line, and return (exit code, stdout, stderr)."""
    return lambda *argv, **stdin: command_line.run(capfd, argv, **stdin)


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "texts.txt"
    file.write_text("\n".join(LINES) + "\n", encoding="utf8")
    return file


def spawn(*argv, **options):
    arguments = [sys.executable, "-m", "jsbert", *map(str, argv)]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


# The whole


def test_help_names_every_command(run):
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert run() == (2, "", "jsbert: Missing command. (see jsbert --help)\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_says_its_defaults(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert f"jsbert {command}" in out
    assert "[default: " in out


def test_the_version(run):
    assert run("--version") == (0, f"{jsbert.__version__}\n", "")


@pytest.mark.parametrize(
    "argv, words",
    [
        (["decode"], ["No such command"]),
        (["--bad"], ["No such option"]),
        (["encode"], ["Missing argument"]),
        (["encode", "x.txt"], ["Missing option", "--output"]),
        (["encode", "x.txt", "-o", "x.npy", "--batch-size", "0"], ["--batch-size"]),
        (["encode", "x.txt", "-o", "x.npy", "--batch-size", "ten"], ["--batch-size"]),
        (["encode", "x.txt", "-o", "x.npy", "--dtype", "int4"], ["--dtype", "bfloat16"]),
        (["encode", "x.txt", "-o", "x.npz"], ["--output", ".npy or .parquet"]),
        (["encode", "x.txt", "-o", "x.npy", "--on-truncate", "cut"], ["--on-truncate"]),
        (["encode", "x.txt", "y.txt", "-o", "x.npy"], ["y.txt"]),
        (["similarity", "one"], ["give two texts"]),
        (["similarity", "one", "two", "three"], ["given 3 texts"]),
        (["similarity", "one", "two", "--pairs", "x.tsv"], ["give two texts"]),
        (["similarity"], ["give two texts"]),
        (["similarity", "--pairs", "x.tsv", "--columns", "a"], ["--columns"]),
        (["search", "query"], ["--corpus"]),
        (["search", "--corpus", "x.txt", "--top-k", "0"], ["--top-k"]),
        (["rank", "query", "document"], ["--model"]),
        (["rank", "query", "-m", "x"], ["give documents"]),
        (["rank", "query", "one", "-m", "x", "--documents", "x.txt"], ["and not both"]),
        (["rank", "query", "one", "-m", "x", "--column", "a"], ["--documents FILE"]),
        (["convert", "x"], ["Missing argument"]),
        (["eval", "guess", "x.tsv"], ["sts"]),
        (["eval", "sts"], ["Missing argument"]),
        (["train", "--data", "x"], ["--out"]),
        (["train", "--data", "x", "--out", "y", "--schedule", "cosine"], ["--schedule"]),
        (["train", "--data", "x", "--out", "y", "--warmup", "2"], ["--warmup"]),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_code_2(run, argv, words):
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert is_one_line(err, "--help)", *words), err


def test_without_typer_the_extra_is_named(run, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run("info") == (
        1,
        "",
        "jsbert: the command line needs typer: pip install 'jsbert[cli]'\n",
    )


def test_an_error_that_nobody_foresaw_is_a_line_too_and_its_traceback_can_be_had(
    run, tiny_folder, monkeypatch
):
    def broken(*_, **__):
        raise KeyError("two\nlines")

    monkeypatch.setattr(jsbert.SentenceTransformer, "encode_iter", broken)
    code, out, err = run("similarity", "a", "b", "-m", tiny_folder)
    assert (code, out) == (1, "")
    assert is_one_line(err, "KeyError", "JSBERT_TRACEBACK=1")
    monkeypatch.setenv("JSBERT_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["similarity", "a", "b", "-m", str(tiny_folder)])


@pytest.mark.parametrize(
    "error, line",
    [
        (MemoryError(), "out of memory"),
        (PermissionError(13, "Permission denied", "x"), "x: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError(""), "ValueError:"),
        (ValueError("\n".join("abcdefgh")), "a; b; c; d; e; and 3 more"),
    ],
)
def test_every_error_has_its_line(run, tiny_folder, monkeypatch, error, line):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(jsbert.SentenceTransformer, "encode_iter", broken)
    code, _, err = run("similarity", "a", "b", "-m", tiny_folder)
    assert code == 1
    assert is_one_line(err, line), err


@pytest.mark.parametrize(
    "command",
    [
        ["encode", "{texts}", "-o", "{tmp}/x.npy"],
        ["similarity", "a", "b"],
        ["search", "a", "--corpus", "{texts}"],
        ["rank", "a", "b"],
        ["eval", "sts", "{texts}"],
        ["train", "--objective", "cosine", "--data", "{texts}", "-o", "{tmp}/x"],
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize(
    "model, words",
    [
        ("./nowhere", ["no folder './nowhere'"]),
        ("no-such/model", ["'no-such/model'", "offline"]),
        ("{texts}", ["is a file"]),
        ("{tmp}/empty", ["config.json"]),
        ("{tmp}/broken", ["config.json: broken json"]),
    ],
)
def test_unknown_and_broken_models(run, texts, tmp_path, command, model, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": ')
    argv = [argument.format(texts=texts, tmp=tmp_path) for argument in [*command, "--model", model]]
    code, out, err = run(*argv)
    assert (code, out) == (1, "")
    assert is_one_line(err, *words), err
    assert not (tmp_path / "x.npy").exists()
    assert not (tmp_path / "x").exists()


def test_rank_asks_for_a_name_without_an_owner_as_a_cross_encoder(run):
    code, _, err = run("rank", "a", "b", "--model", "lonely-name")
    assert code == 1
    assert is_one_line(err, "'cross-encoder/lonely-name'", "offline"), err


@pytest.mark.parametrize(
    "option",
    [["--device", "abacus"], ["--device", "cpu:99"], ["--device", ""], ["--pooling", "middle"]],
)
def test_options_that_only_the_model_can_refuse(run, tiny_folder, option):
    code, out, err = run("similarity", "a", "b", "-m", tiny_folder, *option)
    assert (code, out) == (1, "")
    assert is_one_line(err, option[1]), err


# encode


def test_vectors_are_those_of_encode_line_by_line(run, tiny, tiny_folder, texts, tmp_path):
    assert run("encode", texts, "-o", tmp_path / "x.npy", "-m", tiny_folder) == (0, "", "")
    vectors = np.load(tmp_path / "x.npy")
    assert (vectors.dtype, vectors.shape) == (np.float32, (6, 24))
    assert np.abs(vectors - tiny.encode(LINES)).max() <= 1e-6
    assert [path.name for path in tmp_path.iterdir()] == ["in", "x.npy"] or len(
        list(tmp_path.iterdir())
    ) == 2


def test_options_of_encode(run, tiny, tiny_folder, texts, tmp_path):
    file = tmp_path / "x.npy"
    options = ["--truncate-dim", 7, "--normalize", "--prompt", "query: "]
    options += ["--batch-size", 2, "--device", "cpu:0,cpu:1"]
    assert run("encode", texts, "-o", file, "-m", tiny_folder, *options)[0] == 0
    wanted = tiny.encode(LINES, prompt="query: ", truncate_dim=7, normalize_embeddings=True)
    assert np.abs(np.load(file) - wanted).max() <= 1e-6
    argv = f"encode {texts} -o {file} -m {tiny_folder} --pooling cls,max --dtype bfloat16".split()
    assert run(*argv)[0] == 0
    assert np.load(file).shape == (6, 48)
    code, _, err = run("encode", texts, "-o", file, "-m", tiny_folder, "--prompt-name", "question")
    assert code == 1
    assert is_one_line(err, "unknown prompt_name 'question'")


@pytest.mark.parametrize(
    "content, wanted",
    [
        (b"", []),
        (b"a cat", ["a cat"]),
        (b"a cat\r\n\r\nthe dog\r\n", ["a cat", "", "the dog"]),
        (b"\xef\xbb\xbfa cat\n\n", ["a cat", ""]),
        ("a\u2028b\x0bc\x85d\n".encode(), ["a\u2028b\x0bc\x85d"]),
    ],
)
def test_lines_end_at_line_feeds_alone(run, tiny, tiny_folder, tmp_path, content, wanted):
    (tmp_path / "x.txt").write_bytes(content)
    with gzip.open(tmp_path / "x.txt.gz", "wb") as file:
        file.write(content)
    found = []
    for source in (tmp_path / "x.txt", tmp_path / "x.txt.gz", "-"):
        assert (
            run("encode", source, "-o", tmp_path / "x.npy", "-m", tiny_folder, stdin=content)[0]
            == 0
        )
        found.append(np.load(tmp_path / "x.npy"))
    assert all(np.array_equal(found[0], other) for other in found)
    assert found[0].shape == (len(wanted), 24)
    assert not wanted or np.abs(found[0] - tiny.encode(wanted)).max() <= 1e-6


def write_table(folder, kind):
    """Write LINES by hand as column `text` next to `n`, with tabs where the format can hold
    tabs."""
    file = folder / f"table{kind}"
    plain = [line.replace("\t", " ") for line in LINES]
    if kind == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        import pyarrow

        parquet.write_table(pyarrow.table({"n": list(range(6)), "text": LINES}), file)
        return file, LINES
    if kind.startswith(".csv"):
        quoted = [f'{n},"{line}, ""so""\nand on"' for n, line in enumerate(plain)]
        text, lines = "\n".join(["n,text", *quoted]), [f'{line}, "so"\nand on' for line in plain]
    elif kind.startswith(".tsv"):
        text, lines = (
            "\n".join(["n\ttext", *(f'{n}\t"{line}' for n, line in enumerate(plain))]),
            [f'"{p}' for p in plain],
        )
    else:
        text, lines = (
            "\n".join(json.dumps({"text": line, "n": n}) for n, line in enumerate(LINES)),
            LINES,
        )
    file.write_bytes(gzip.compress(text.encode()) if kind.endswith(".gz") else text.encode())
    return file, lines


@pytest.mark.parametrize(
    "kind", [".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".parquet"]
)
def test_columns_of_tables(run, tiny, tiny_folder, tmp_path, kind):
    file, lines = write_table(tmp_path, kind)
    assert run("encode", file, "--column", "text", "-o", tmp_path / "x.npy", "-m", tiny_folder) == (
        0,
        "",
        "",
    )
    assert np.abs(np.load(tmp_path / "x.npy") - tiny.encode(lines)).max() <= 1e-6
    code, _, err = run("encode", file, "-o", tmp_path / "y.npy", "-m", tiny_folder)
    assert code == 1
    assert is_one_line(err, "is a table", "--column")
    code, _, err = run(
        "encode", file, "--column", "texts", "-o", tmp_path / "y.npy", "-m", tiny_folder
    )
    assert code == 1
    assert is_one_line(err, "no column 'texts'", "text", "n")
    if kind in (".jsonl", ".parquet"):
        code, _, err = run(
            "encode", file, "--column", "n", "-o", tmp_path / "y.npy", "-m", tiny_folder
        )
        assert code == 1
        assert is_one_line(err, "column 'n': 0 is no text")


def test_parquet_holds_the_texts_too(run, tiny, tiny_folder, texts, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(output, "ROWS", 4)
    assert run("encode", texts, "-o", tmp_path / "x.parquet", "-m", tiny_folder) == (0, "", "")
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table.column("text").to_pylist() == LINES
    assert (
        np.abs(np.stack(table.column("embedding").to_pylist()) - tiny.encode(LINES)).max() <= 1e-6
    )


def test_written_in_chunks_a_file_is_the_same(run, tiny_folder, texts, tmp_path, monkeypatch):
    assert run("encode", texts, "-o", tmp_path / "x.npy", "-m", tiny_folder)[0] == 0
    monkeypatch.setattr(output, "ROWS", 4)
    assert (
        run("encode", "-", "-o", tmp_path / "y.npy", "-m", tiny_folder, stdin=texts.read_bytes())[0]
        == 0
    )
    assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "y.npy").read_bytes()


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("x.txt", b"a\n\xff\xfe\n", ["x.txt, line 2", "not UTF-8"]),
        ("x.txt.gz", b"no gzip", ["x.txt.gz, after line 0", "broken gzip"]),
        (
            "x.txt.gz",
            gzip.compress(b"a\n" * 1000, mtime=0)[:-9],
            ["x.txt.gz, after line", "broken gzip"],
        ),
        ("x.csv", b"", ["x.csv, line 1", "no column 'text'"]),
        ("x.csv", b"text,n\na,1\nb\n", ["x.csv, line 3", "1 fields"]),
        ("x.csv", b'text\n"a', ["x.csv, line 2", "malformed csv"]),
        ("x.csv", b'text\n"a"b\n', ["x.csv, line 2", "malformed csv"]),
        ("x.tsv", b"text\tn\na\t1\nb\t2\t3\n", ["x.tsv, line 3", "3 fields"]),
        ("x.jsonl", b'{"text": "a"}\n{"text": \n', ["x.jsonl, line 2", "broken json"]),
        ("x.jsonl", b'{"text": "a"}\n["b"]\n', ["x.jsonl, line 2", "no json object"]),
        (
            "x.jsonl",
            b'{"text": "a"}\n{"txt": "b"}\n',
            ["x.jsonl, line 2", "no column 'text'", "txt"],
        ),
        ("x.jsonl", b'{"text": "a"}\n{"text": null}\n', ["x.jsonl, line 2, column 'text'", "None"]),
        ("x.jsonl", b"[" * 100_000 + b"\n", ["x.jsonl, line 1", "broken json"]),
        ("x.jsonl", b'{"text": "a"}\n{"text": "\\ud800"}\n', ["text 1 is no valid Unicode"]),
        ("x.parquet", b"no parquet", ["x.parquet", "not a readable parquet file"]),
    ],
)
def test_malformed_input_names_file_and_line_and_leaves_no_output(
    run, tiny_folder, tmp_path, name, content, words
):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content)
    column = ["--column", "text"] if ".txt" not in name else []
    (tmp_path / "x.npy").write_bytes(b"what was there")
    code, out, err = run(
        "encode", tmp_path / "in" / name, *column, "-o", tmp_path / "x.npy", "-m", tiny_folder
    )
    assert (code, out) == (1, "")
    assert is_one_line(err, *words), err
    assert (tmp_path / "x.npy").read_bytes() == b"what was there"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "source, target, words",
    [
        ("nowhere.txt", "x.npy", ["nowhere.txt", "No such file"]),
        (".", "x.npy", ["Is a directory"]),
        ("in/texts.txt", "nowhere/x.npy", ["no folder", "nowhere"]),
        ("in/texts.txt", "in/folder.npy", ["not a regular file"]),
        ("in/texts.txt", "in/texts.txt/x.npy", ["no folder"]),
    ],
)
def test_files_that_are_not_there_or_cannot_be_written(
    run, texts, tiny_folder, tmp_path, source, target, words
):
    (tmp_path / "in" / "folder.npy").mkdir()
    code, out, err = run("encode", tmp_path / source, "-o", tmp_path / target, "-m", tiny_folder)
    assert (code, out) == (1, "")
    assert is_one_line(err, *words), err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_unwritable_folder_or_a_full_disk_is_found_before_the_work(
    run, texts, tiny_folder, tmp_path, monkeypatch
):
    def no_work(*_, **__):
        raise AssertionError("encoded")

    monkeypatch.setattr(jsbert.SentenceTransformer, "encode_iter", no_work)
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(tmp_path)
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=6 * 24 * 4 - 1))
        code, _, err = run("encode", texts, "-o", tmp_path / "x.npy", "-m", tiny_folder)
        assert code == 1
        assert is_one_line(err, "576 bytes are needed and 575 are free")
        code, _, err = run("convert", tiny_folder, tmp_path / "model")
        assert code == 1
        assert is_one_line(err, "bytes are needed")

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "touch", refused)
    code, _, err = run("encode", texts, "-o", tmp_path / "x.npy", "-m", tiny_folder)
    assert code == 1
    assert is_one_line(err, str(tmp_path), "cannot be written to: Permission denied")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.filterwarnings("default")
def test_long_texts_are_told_of_once(run, tiny_folder, tmp_path):
    (tmp_path / "x.txt").write_text("the " * 40 + "\na\n" + "a " * 50 + "\n")
    argv = ["encode", tmp_path / "x.txt", "-o", tmp_path / "x.npy", "-m", tiny_folder]
    code, out, err = run(*argv)
    assert (code, out) == (0, "")
    assert is_one_line(err, "warning: 2 of 3 texts are longer than 32 tokens")
    assert run(*argv, "--on-truncate", "ignore") == (0, "", "")
    (tmp_path / "x.npy").unlink()
    code, _, err = run(*argv, "--on-truncate", "error")
    assert code == 1
    assert is_one_line(err, "text 0 is longer than 32 tokens")
    assert not (tmp_path / "x.npy").exists()


def test_ctrl_c_in_the_middle_leaves_what_was_there(run, tiny_folder, texts, tmp_path, monkeypatch):
    (tmp_path / "x.npy").write_bytes(b"what was there")
    whole = jsbert.SentenceTransformer.encode_iter

    def interrupted(self, *arguments, **options):
        yield from list(whole(self, *arguments, **options))[:3]
        raise KeyboardInterrupt

    monkeypatch.setattr(jsbert.SentenceTransformer, "encode_iter", interrupted)
    monkeypatch.setattr(output, "ROWS", 2)
    for name in ("x.npy", "x.parquet"):
        assert run("encode", texts, "-o", tmp_path / name, "-m", tiny_folder) == (
            130,
            "",
            "jsbert: interrupted\n",
        )
    assert (tmp_path / "x.npy").read_bytes() == b"what was there"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_real_ctrl_c_exits_130_and_leaves_nothing(tiny_folder, tmp_path):
    argv = ["encode", "-", "-o", tmp_path / "x.npy", "-m", tiny_folder]
    with spawn(*argv, stdin=subprocess.PIPE) as process:
        try:
            process.stdin.write("a cat\n")
            process.stdin.flush()
            deadline = time.monotonic() + 60
            while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
                time.sleep(0.02)
            begun = [path.suffix for path in tmp_path.iterdir()]
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert begun == [".npy"]  # the unfinished file
    assert (out, err, process.returncode) == ("", "jsbert: interrupted\n", 130)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_is_not_lost_in_a_destructor(run, tiny_folder, texts, tmp_path, monkeypatch):
    whole = jsbert.SentenceTransformer.encode_iter

    class Interrupted:
        def __del__(self):
            # A signal's handler may run here, or in a callback of the garbage collector.
            raise KeyboardInterrupt

    def waiting(self, *arguments, **options):
        yield from list(whole(self, *arguments, **options))[:3]
        Interrupted()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            time.sleep(0.01)

    monkeypatch.setattr(jsbert.SentenceTransformer, "encode_iter", waiting)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert run("encode", texts, "-o", tmp_path / "x.npy", "-m", tiny_folder) == (
        130,
        "",
        "jsbert: interrupted\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_pipe_can_be_read_though_only_once(tiny_folder, texts, tmp_path):
    pipe = tmp_path / "in" / "pipe"
    os.mkfifo(pipe)
    process = spawn("encode", pipe, "-o", tmp_path / "x.npy", "-m", tiny_folder)
    pipe.write_bytes(texts.read_bytes())
    assert (*process.communicate(timeout=60), process.returncode) == ("", "", 0)
    assert np.load(tmp_path / "x.npy").shape == (6, 24)


def test_info_plans_the_batches_for_a_device_that_is_not_there(run, tmp_path, tiny_folder):
    (tmp_path / "texts.txt").write_text("\n".join(["a cat", "the dog runs on the mat"] * 50))
    arguments = ["info", str(tiny_folder), "--plan", str(tmp_path / "texts.txt"), "--json"]
    code, out, _ = run(*arguments, "--device", "tpu")
    plan = json.loads(out)["plan"]
    assert code == 0
    assert (plan["platform"], plan["texts"]) == ("tpu", 100)
    assert plan["programs"] == 1
    assert plan["shapes"] == "4 x 128"
    assert json.loads(run(*arguments)[1])["plan"]["platform"] == "cpu"
    code, _, err = run(*arguments, "--device", "abacus")
    assert code == 1
    assert "platform is 'abacus'; it must be 'cpu', 'gpu' or 'tpu'" in err
