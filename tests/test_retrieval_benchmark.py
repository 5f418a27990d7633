"""`benchmarks.retrieval`: rankings of BEIR folders, with the measures of the evaluators."""

import importlib.util
import json

import numpy as np
import pytest

from benchmarks import retrieval
from jsbert.evaluate import InformationRetrievalEvaluator, read_beir

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("quick_benchmarks")]

TEXTS = {
    "boats": "A man repairs a small boat.", "rain": "Rain fell on the hills.",
    "soup": "The cook tastes the soup.", "kites": "Two children fly a kite.",
    "clock": "The old clock stopped at noon.",
}  # fmt: skip
QUERIES = {"q1": "who repairs the boat", "q2": "children and kites", "q3": "nothing here"}
QRELS = [("q1", "boats", 1), ("q1", "rain", 0), ("q2", "kites", 2), ("q2", "clock", 1)]


@pytest.fixture
def data(tmp_path):
    """A folder with two collections and a folder that is none."""
    for name in ("one", "two"):
        folder = tmp_path / "data" / name
        (folder / "qrels").mkdir(parents=True)
        for file, texts in (("corpus", TEXTS), ("queries", QUERIES)):
            rows = (json.dumps({"_id": key, "text": text}) for key, text in texts.items())
            (folder / f"{file}.jsonl").write_text("\n".join(rows) + "\n")
        lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in QRELS)]
        (folder / "qrels/test.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "data" / "other").mkdir()
    return tmp_path / "data"


def test_measures_are_those_of_the_evaluator(
    data, tiny, tiny_folder, tiny_cross_folder, tmp_path, capsys
):
    arguments = ["--data", str(data), "--out", str(tmp_path), "--top", "3"]
    reranker = ["--reranker", str(tiny_cross_folder)]
    values = retrieval.main([*arguments, f"mine={tiny_folder}", *reranker])
    assert json.loads((tmp_path / "retrieval.json").read_text()) == values
    rows = {(row["collection"], row["name"]): row for row in values["rows"]}
    assert {collection for collection, _ in rows} == {"one", "two"}
    found = rows["one", "mine"]
    wanted = InformationRetrievalEvaluator(*read_beir(data / "one"))(tiny)
    assert found["nDCG@10"] == pytest.approx(100 * wanted["cosine_ndcg@10"])
    assert found["MRR@10"] == pytest.approx(100 * wanted["cosine_mrr@10"])
    assert found["recall@100"] == 100
    assert (found["documents"], found["queries"]) == (5, 2)
    again = rows["one", f"mine + {tiny_cross_folder.name}"]
    assert set(again["seconds"]) == {"index", "search", "rerank"}
    printed = capsys.readouterr().out
    assert "one: 5 documents, 2 queries" in printed
    if importlib.util.find_spec("bm25s"):
        assert rows["one", "BM25"]["MRR@10"] == 100


def test_a_reranker_sorts_the_first_results_alone(data, tiny_cross):
    found = read_beir(data / "one")
    before = retrieval.Ranking(np.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]), {})
    after = retrieval.rerank(tiny_cross, found, before, 3)
    texts = list(TEXTS.values())
    for query, old, new in zip(QUERIES.values(), before.places, after.places, strict=False):
        scores = tiny_cross.predict(
            [(query, texts[place]) for place in old[:3]], on_truncate="ignore"
        )
        assert new[:3].tolist() == [old[i] for i in np.argsort(-scores, kind="stable")]
        assert new[3:].tolist() == old[3:].tolist()


def test_bm25_finds_the_words(data):
    pytest.importorskip("bm25s")
    found = retrieval.rank_by_bm25(read_beir(data / "two"))
    assert [list(TEXTS)[places[0]] for places in found.places] == ["boats", "kites"]


def test_a_folder_without_collections_is_named(tmp_path):
    with pytest.raises(SystemExit, match="holds no collection; give --data a folder with corpus"):
        retrieval.main(["--data", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        retrieval.main(["--data", str(tmp_path), "--top", "0"])
