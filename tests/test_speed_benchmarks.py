"""The speed benchmarks run, compare what they should, and say what they left out."""

import json
import pathlib
import sys

import numpy as np
import pytest

from benchmarks import encode, memory, search
from benchmarks.lib import processes, sentences
from benchmarks.lib.engines import ENGINES, open_engine
from benchmarks.lib.processes import EngineProcess, missing_modules
from tests import models

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("quick_benchmarks")]


@pytest.fixture(scope="module")
def run(tmp_path_factory, quick_benchmarks):
    """A small run of `benchmarks.encode` with two engines: (what it returned, its folder)."""
    folder, out = (tmp_path_factory.mktemp(name) for name in ("model", "out"))
    models.write_folder(folder / "tiny")
    argv = ["--model", str(folder / "tiny"), "--share", "0.01", "--repeats", "2", "--out", str(out)]
    return encode.main([*argv, "--engine", "jsbert float32", "--engine", "jsbert int8"]), out


def test_every_engine_stands_beside_every_load(run):
    values, out = run
    assert [(row["load"], row["engine"]) for row in values["rows"]] == [
        (load, engine)
        for load in ("short", "mixed", "long")
        for engine in ("jsbert float32", "jsbert int8")
    ]
    for row in values["rows"]:
        assert len(row["seconds"]) == 2
        load = values["loads"][row["model"]][row["load"]]
        assert row["texts_per_second"] == pytest.approx(
            load["num_texts"] / np.median(row["seconds"])
        )
        assert row["times_best_peer"] is None  # because there is no peer
    assert len(values["matmul_flops_per_second"]) == 6
    written = next(out.glob("encode-python*.json"))
    assert json.loads(written.read_text())["loads"] == values["loads"]
    assert written.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_vectors_of_all_engines_are_compared_with_the_first(run):
    float32, int8 = (
        [row for row in run[0]["rows"] if row["engine"] == f"jsbert {dtype}"]
        for dtype in ("float32", "int8")
    )
    assert all(row["largest_difference"] == 0 for row in float32)
    assert all(0 < row["largest_difference"] < 0.1 for row in int8)
    assert all(0.99 < row["min_cosine"] <= row["mean_cosine"] < 1 for row in int8)


def test_loads_are_what_they_are_called(run):
    loads = next(iter(run[0]["loads"].values()))
    assert sum(loads["long"]["tokens_histogram"]["counts"]) == loads["long"]["num_texts"]
    assert loads["long"]["tokens"] == 32 * loads["long"]["num_texts"]  # the tiny model's limit
    assert loads["short"]["tokens"] / loads["short"]["num_texts"] < 32
    assert 0 <= loads["mixed"]["padding_share"] < 0.5


def test_fresh_processes_and_single_texts_are_timed(run):
    for row in run[0]["starts"]:
        assert len(row["first_vector_seconds"]) == 2
        assert len(row["milliseconds"]) > 10
        assert min(row["milliseconds"]) > 0


def test_the_best_peer_is_of_the_same_load_and_precision():
    loads = {"short": {"num_texts": 100, "tokens": 1000, "matmul_flops": 1e9}}
    names = {
        "jsbert float32": 2.0,
        "onnxruntime float32": 3.0,
        "openvino float32": 2.5,
        "onnxruntime int8": 1.0,
    }
    rows = [
        {"load": "short", "engine": name, "seconds": [seconds]} for name, seconds in names.items()
    ]
    ratios = {
        row["engine"]: row["times_best_peer"] for row in encode._with_ratios(rows, loads, 1e9)
    }
    assert ratios["jsbert float32"] == pytest.approx(2.5 / 2.0)
    assert ratios["onnxruntime int8"] == pytest.approx(1.0)
    assert rows[0]["share_of_matmul_rate"] == pytest.approx(0.5)


def test_an_engine_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)'jsbert float32' ended; .*No such file"):
        EngineProcess("jsbert float32", tmp_path / "nothing", sys.executable)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(processes.LIBRARIES, "abacus", (None, ("json", "abacus_py")))
    assert missing_modules("abacus float32", sys.executable) == ["abacus_py"]


def test_a_cross_encoders_engine_scores_pairs(tmp_path):
    models.write_cross_folder(tmp_path)
    scores = open_engine("jsbert float32", str(tmp_path), "cpu").encode(
        [("a cat", "the dog"), ("red", "blue")]
    )
    assert scores.shape == (2, 1)
    assert all(len(set(names)) == len(names) for names in ENGINES.values())


def test_documents_are_of_as_many_sentences_as_make_the_tokens():
    made = sentences.documents(
        iter(["a b", "c", "d e f", "g", "h"]), 2, 3, lambda text: len(text.split())
    )
    assert made == ["a b c", "d e f"]


def test_search_finds_what_brute_force_finds(tmp_path):
    argv = ["--corpus", "500", "--queries", "20", "--repeats", "1", "--out", str(tmp_path)]
    values = search.main(argv)
    assert len(values["seconds"]["jsbert"]) == 1
    assert values["equal_places"] in (None, pytest.approx(1.0))
    assert json.loads((tmp_path / "search.json").read_text())["corpus"] == 500


@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_memory_is_measured_above_the_warm_model(tmp_path, tiny_folder):
    values = memory.main(["--count", "300", "--model", str(tiny_folder), "--out", str(tmp_path)])
    assert values["returned_mb"] == pytest.approx(300 * 24 * 4 / 2**20)
    assert -50 < values["above_mb"] < 500


def test_short_texts_are_distinct():
    texts = memory.short_texts(2000, 4)
    assert len(set(texts)) == 2000
    assert all(len(text.split()) == 5 for text in texts)
