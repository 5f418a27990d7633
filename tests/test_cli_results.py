"""What `similarity`, `search`, `rank`, `info` and `convert` print and write."""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

import jsbert
from jsbert import util
from jsbert.checkpoint import Settings
from tests import command_line, models
from tests.command_line import is_one_line

CORPUS = ["a cat sat", "the red tree", "a dog ran quickly", "the house", "a cat sat"]


@pytest.fixture
def run(capfd):
    """Run the command line, and return (exit code, stdout, stderr)."""
    return lambda *argv, **stdin: command_line.run(capfd, argv, **stdin)


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_text("\n".join(CORPUS), encoding="utf8")
    return file


# similarity


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity_of_two_texts(run, tiny, tiny_folder, name):
    code, out, err = run(
        "similarity", CORPUS[0], CORPUS[1], "-m", tiny_folder, "--similarity-fn", name
    )
    assert (code, err) == (0, "")
    u, v = tiny.encode(CORPUS[:2])
    matrix = {
        "cosine": util.cos_sim,
        "dot": util.dot_score,
        "euclidean": util.euclidean_sim,
        "manhattan": util.manhattan_sim,
    }
    assert float(out) == pytest.approx(float(matrix[name](u, v)[0, 0]), abs=2e-6)


def test_similarity_of_pairs_keeps_their_order(run, tiny, tiny_folder, tmp_path, monkeypatch):
    pairs = list(zip(models.sentences(9, seed=1), models.sentences(9, seed=2), strict=True))
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps({"a": a, "b": b, "n": 1}) + "\n" for a, b in pairs))
    wanted = util.pairwise_cos_sim(
        *(tiny.encode(column) for column in zip(*pairs, strict=True))
    ).tolist()
    monkeypatch.setattr("jsbert.cli.similarity.ROWS", 4)
    code, out, err = run("similarity", "--pairs", file, "--columns", "a,b", "-m", tiny_folder)
    assert (code, err) == (0, "")
    assert [float(line) for line in out.splitlines()] == pytest.approx(wanted, abs=2e-6)
    code, out, _ = run(
        "similarity", "--pairs", file, "--columns", "b, a", "--json", "-m", tiny_folder
    )
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(row["a"], row["b"]) for row in rows] == pairs
    assert [row["score"] for row in rows] == pytest.approx(wanted, abs=1e-6)


def test_pairs_that_cannot_be_read(run, tiny_folder, tmp_path):
    (tmp_path / "x.tsv").write_text("sentence1\tsentence2\na\tb\nc\n")
    code, out, err = run("similarity", "--pairs", tmp_path / "x.tsv", "-m", tiny_folder)
    assert (code, out) == (1, "")
    assert is_one_line(err, "x.tsv, line 3")
    code, _, err = run(
        "similarity", "--pairs", tmp_path / "x.tsv", "--columns", "a,b", "-m", tiny_folder
    )
    assert code == 1
    assert is_one_line(err, "no column 'a', 'b'; there are sentence1, sentence2")
    code, _, err = run("similarity", "--pairs", tmp_path / "x.txt", "-m", tiny_folder)
    assert code == 1
    assert is_one_line(err, ".csv, .tsv, .jsonl, .parquet")
    (tmp_path / "x.tsv").write_text("sentence1\tsentence2\n")
    assert run("similarity", "--pairs", tmp_path / "x.tsv", "-m", tiny_folder) == (0, "", "")


# search


def test_search_finds_what_top_k_finds(run, tiny, tiny_folder, corpus):
    queries = ["a cat", "red"]
    wanted = util.semantic_search(tiny.encode(queries), tiny.encode(CORPUS), top_k=3)
    code, out, err = run(
        "search", *queries, "--corpus", corpus, "-m", tiny_folder, "--top-k", 3, "--json"
    )
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["query"] for row in rows] == queries
    for row, hits in zip(rows, wanted, strict=True):
        assert [hit["corpus_id"] for hit in row["hits"]] == [hit["corpus_id"] for hit in hits]
        assert [hit["score"] for hit in row["hits"]] == pytest.approx(
            [hit["score"] for hit in hits], abs=1e-6
        )
        assert [hit["text"] for hit in row["hits"]] == [CORPUS[hit["corpus_id"]] for hit in hits]
    code, again, _ = run(
        *f"search --corpus {corpus} -m {tiny_folder} --top-k 3 --json".split(),
        stdin=b"a cat\nred\n",
    )
    assert (code, again) == (0, out)
    code, table, _ = run(
        "search", "-", "--corpus", corpus, "-m", tiny_folder, "--top-k", 99, stdin=b"a cat\nred"
    )
    assert code == 0
    assert [line for line in table.splitlines() if not line.startswith(" ")] == queries
    assert len(table.splitlines()) == 2 * (1 + len(CORPUS))
    assert run("search", "--corpus", corpus, "-m", tiny_folder) == (0, "", "")


def test_search_in_saved_vectors_is_the_same(run, tiny_folder, corpus, tmp_path):
    file = tmp_path / "corpus.npy"
    assert run("encode", corpus, "-o", file, "-m", tiny_folder)[0] == 0
    argv = ["search", "a cat", "--corpus", corpus, "-m", tiny_folder]
    assert run(*argv, "--embeddings", file) == run(*argv)
    cases = {
        "5 texts; encode it anew": np.zeros((4, 24), np.float32),
        "7 dimensions": np.zeros((5, 7), np.float32),
        "not a (N, D) array": np.zeros(5, np.float32),
        "NaN": np.full((5, 24), np.nan, np.float32),
    }
    for words, vectors in cases.items():
        np.save(file, vectors)
        code, out, err = run(*argv, "--embeddings", file)
        assert (code, out) == (1, "")
        assert is_one_line(err, words), err
    for content in (b"", b"no array", b"\x93NUMPY\x01\x00"):
        file.write_bytes(content)
        code, _, err = run(*argv, "--embeddings", file)
        assert code == 1
        assert is_one_line(err, "not a readable .npy file"), err
    np.save(file, np.array([{"an": "object"}]), allow_pickle=True)
    code, _, err = run(*argv, "--embeddings", file)
    assert code == 1
    assert is_one_line(err, "not a readable .npy file"), err


def test_search_puts_the_models_prompts_in_front(run, tmp_path, corpus):
    settings = Settings(prompts={"query": "query: ", "document": "passage: "})
    folder = models.write_folder(tmp_path / "model", settings=settings)
    opened = jsbert.SentenceTransformer(folder)
    wanted = opened.similarity(opened.encode_query("red"), opened.encode_document(CORPUS))
    _, out, _ = run("search", "red", "--corpus", corpus, "-m", folder, "--json")
    hits = json.loads(out)["hits"]
    assert [hit["score"] for hit in hits] == pytest.approx(
        sorted(np.asarray(wanted)[0].tolist(), reverse=True), abs=1e-6
    )


def test_search_needs_texts_and_a_bi_encoder(run, tiny_folder, tiny_cross_folder, corpus, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    code, _, err = run("search", "a", "--corpus", tmp_path / "empty.txt", "-m", tiny_folder)
    assert code == 1
    assert is_one_line(err, "holds no texts")
    code, _, err = run("search", "a", "--corpus", corpus, "-m", tiny_cross_folder)
    assert code == 1
    assert is_one_line(err, "holds a cross-encoder")
    code, _, err = run("search", "--corpus", corpus, "-m", tiny_folder, stdin=b"a\n\xff\n")
    assert code == 1
    assert is_one_line(err, "stdin, line 2: not UTF-8")


# rank


def test_rank_is_the_cross_encoders(run, tiny_cross_folder, corpus):
    wanted = jsbert.CrossEncoder(tiny_cross_folder).rank("a cat", CORPUS, return_documents=True)
    code, out, err = run("rank", "a cat", *CORPUS, "-m", tiny_cross_folder, "--json")
    assert (code, err) == (0, "")
    found = [json.loads(line) for line in out.splitlines()]
    assert [hit["corpus_id"] for hit in found] == [hit["corpus_id"] for hit in wanted]
    assert [hit["score"] for hit in found] == pytest.approx(
        [hit["score"] for hit in wanted], abs=1e-6
    )
    assert run("rank", "a cat", "--documents", corpus, "-m", tiny_cross_folder, "--json")[1] == out
    stdin = corpus.read_bytes()
    assert (
        run("rank", "a cat", "--documents", "-", "-m", tiny_cross_folder, "--json", stdin=stdin)[1]
        == out
    )
    code, table, _ = run("rank", "a cat", *CORPUS, "-m", tiny_cross_folder, "--top-k", 2)
    assert [line.split(maxsplit=2)[2] for line in table.splitlines()] == [
        hit["text"] for hit in wanted[:2]
    ]


def test_rank_needs_a_cross_encoder_of_one_label(run, tiny_folder, tmp_path):
    code, _, err = run("rank", "a", "b", "-m", tiny_folder)
    assert code == 1
    assert is_one_line(err, "holds a bi-encoder")
    folder = models.write_cross_folder(tmp_path / "three", num_labels=3, activation="identity")
    code, _, err = run("rank", "a", "b", "-m", folder)
    assert code == 1
    assert is_one_line(err, "one label, this one has 3")


# info


def test_info_tells_what_a_bi_encoder_is(run, tmp_path):
    settings = Settings(prompts={"query": "query: "}, similarity_fn_name="dot")
    folder = models.write_folder(tmp_path / "model", pooling=("cls", "max"), settings=settings)
    code, out, err = run("info", folder, "--json", "--dtype", "bfloat16", "--device", "cpu:1")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["kind"].startswith("bi-encoder")
    assert (facts["family"], facts["dtype"], facts["similarity"]) == ("bert", "bfloat16", "dot")
    assert (facts["pooling"], facts["modules"]) == ("cls, max", "Transformer, Pooling, Normalize")
    assert (facts["max_seq_length"], facts["embedding dimension"]) == (32, 48)
    assert facts["sizes"] == models.SIZES
    assert facts["prompts"] == {"query": "query: "}
    assert "1" in facts["device"]
    assert facts["files"] == {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
    _, table, _ = run("info", folder)
    assert "cls, max" in table
    assert "model.safetensors" in table


def test_info_tells_what_static_embeddings_are(run, tiny_folder, tmp_path):
    shutil.copy(tiny_folder / "tokenizer.json", tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "model2vec", "normalize": True})
    )
    save_file(
        {"embeddings": np.ones((models.SIZES["vocab_size"], 8), np.float32)},
        tmp_path / "model.safetensors",
    )
    code, out, err = run("info", tmp_path, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert (facts["family"], facts["modules"], facts["embedding dimension"]) == (
        "static-embedding",
        "StaticEmbedding, Normalize",
        8,
    )


@pytest.mark.parametrize("features, dtype", [({"avx512_bf16"}, "bfloat16"), (set(), "float32")])
def test_info_tells_what_auto_is(run, tiny_folder, monkeypatch, features, dtype):
    monkeypatch.setattr("jsbert.engine.placement.cpu_features", lambda: frozenset(features))
    _, out, _ = run("info", tiny_folder, "--json", "--dtype", "auto")
    assert json.loads(out)["dtype"] == dtype


def test_info_tells_what_a_cross_encoder_is(run, tiny_cross_folder):
    code, out, err = run("info", tiny_cross_folder, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["kind"].startswith("cross-encoder")
    assert (facts["labels"], facts["activation"]) == (1, "sigmoid")


# convert


def test_a_converted_folder_is_the_same_model_with_its_sums(run, tiny, tiny_folder, tmp_path):
    code, out, err = run("convert", tiny_folder, tmp_path / "out")
    assert (code, err) == (0, "")
    assert json.loads(out)["largest_difference"] == 0
    assert np.array_equal(
        jsbert.SentenceTransformer(tmp_path / "out").encode(CORPUS), tiny.encode(CORPUS)
    )
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    files = {
        path
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert manifest["files"] == {
        path.relative_to(tmp_path / "out").as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    }
    assert manifest["kind"] == "SentenceTransformer"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_cross_encoders_and_weights_files_are_converted_too(run, tiny_cross_folder, tmp_path):
    code, _, err = run("convert", tiny_cross_folder / "model.safetensors", tmp_path / "out")
    assert (code, err) == (0, "")
    pairs = [("a cat", text) for text in CORPUS]
    scores = [
        jsbert.CrossEncoder(folder).predict(pairs)
        for folder in (tiny_cross_folder, tmp_path / "out")
    ]
    assert np.array_equal(*scores)
    code, _, err = run("convert", tiny_cross_folder, tmp_path / "cls", "--pooling", "cls")
    assert code == 2
    assert is_one_line(err, "does not pool")


def test_a_plain_folder_gets_the_pooling_that_was_asked_for(run, tiny_folder, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"):
        (plain / name).write_bytes((tiny_folder / name).read_bytes())
    assert run("convert", plain, tmp_path / "out", "--pooling", "cls,mean")[0] == 0
    assert jsbert.SentenceTransformer(tmp_path / "out").config.pooling == ("cls", "mean")


def test_conversions_that_are_refused_leave_nothing(
    run, tiny_folder, corpus, tmp_path, monkeypatch
):
    other = tmp_path / "other"
    other.mkdir()
    (other / "pytorch_model.bin").write_bytes(b"")
    (other / "model.safetensors").write_bytes(b"")
    cases = [
        (tiny_folder, other, "new or empty folder"),
        (tiny_folder, corpus, "new or empty folder"),
        (tiny_folder, corpus / "out", "cannot be written to"),
        (corpus, tmp_path / "out", "pytorch_model.bin"),
        (other / "pytorch_model.bin", tmp_path / "out", "which is read first"),
        (other, tmp_path / "out", "no modules.json and no config.json"),
        ("no-such/model", tmp_path / "out", "offline"),
    ]
    for source, target, words in cases:
        code, out, err = run("convert", source, target)
        assert (code, out) == (1, "")
        assert is_one_line(err, words), err
    monkeypatch.setattr("jsbert.cli.convert._difference", lambda *_: float("nan"))
    code, _, err = run("convert", tiny_folder, tmp_path / "out")
    assert code == 1
    assert is_one_line(err, "differs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "other"]


def test_tensors_that_do_not_fit_are_one_line(run, tiny_folder, tmp_path):
    for file in tiny_folder.rglob("*"):
        if file.is_file():
            (tmp_path / "in" / file.relative_to(tiny_folder)).parent.mkdir(
                parents=True, exist_ok=True
            )
            (tmp_path / "in" / file.relative_to(tiny_folder)).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "in" / "config.json").read_text())
    (tmp_path / "in" / "config.json").write_text(
        json.dumps(config | {"intermediate_size": 41, "num_hidden_layers": 3})
    )
    code, _, err = run("convert", tmp_path / "in", tmp_path / "out")
    assert code == 1
    assert is_one_line(err, "do not fit the config", "misshapen", "more"), err


# In a process of its own


def test_a_reader_that_goes_away_is_one_line(tiny_folder, corpus):
    argv = [
        *f"{sys.executable} -m jsbert search".split(),
        "a cat",
        *f"--corpus {corpus} -m {tiny_folder}".split(),
    ]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 1
    assert is_one_line(err, "broken pipe"), err
    process.stderr.close()


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("argv", [["--version"], ["info", "{folder}"]])
def test_a_full_disk_under_stdout_is_one_line(tiny_folder, argv):
    argv = [
        sys.executable,
        "-m",
        "jsbert",
        *(argument.format(folder=tiny_folder) for argument in argv),
    ]
    with open("/dev/full", "w") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert is_one_line(done.stderr, "No space left"), done.stderr


def test_without_stdout_there_is_no_traceback(tiny_folder):
    done = subprocess.run(
        f"{sys.executable} -m jsbert info {tiny_folder} >&-",
        shell=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
