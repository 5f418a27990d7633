"""The benchmarks of quality run, count correctly, and leave out what they do not know."""

import contextlib
import gzip
import io
import json
import math
import shutil

import numpy as np
import pytest

from benchmarks import sts, tradeoff
from benchmarks.lib import closest, finding
from jsbert import SentenceTransformer
from jsbert.evaluate import EmbeddingSimilarityEvaluator
from tests import models

pytestmark = pytest.mark.once

N, PAIRS, K, RERANKED = 9, 14, 3, 5


def rows(count, seed):
    """Scored pairs of distinct sentences."""
    texts = list(
        dict.fromkeys(text for text in models.sentences(6 * count, seed, longest=8) if text)
    )[: 2 * count]
    scores = np.random.default_rng(seed).uniform(0, 5, count).round(2)
    scores[:3] = 4.0, 4.5, 3.9
    return list(zip(scores.tolist(), texts[::2], texts[1::2], strict=True))


def write_tsv(file, found, header=("score", "sentence1", "sentence2")):
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(map(str, row)) + "\n" for row in (header, *found)]
    with gzip.open(file, "wt") if file.suffix == ".gz" else file.open("w") as stream:
        stream.writelines(lines)


def write_data(folder, *, whole):
    """Write a made-up DATA; if not `whole`, without STS13 and SICK-R."""
    for year in range(12, 17):
        for subset in (0, 1):
            write_tsv(
                folder / f"sts/sts{year}/subset-{subset}.tsv", rows(5 + subset, 2 * year + subset)
            )
    for number, name in enumerate(("stsb-train", "stsb-dev", "stsb-test", "sick-test")):
        write_tsv(folder / f"sts/{name}.tsv", rows(PAIRS, number))
    texts = rows(PAIRS, 7)
    write_tsv(
        folder / "nli/nli-train.tsv.gz",
        [("entailment", *row[1:]) for row in texts],
        ("label", "premise", "hypothesis"),
    )
    if not whole:
        shutil.rmtree(folder / "sts/sts13")
        (folder / "sts/sick-test.tsv").unlink()
    return folder


def run(function, *argv):
    """Return (what `function` returned, what it printed)."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        values = function([str(one) for one in argv])
    return values, printed.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), whole=True)


@pytest.fixture(scope="module")
def quality(data, tiny_folder, tmp_path_factory):
    """A run of `benchmarks.sts` on all sets: (what it wrote, what it printed)."""
    out = tmp_path_factory.mktemp("sts")
    wanted = [tiny_folder, f"{tiny_folder}:cls", f"raw={tiny_folder}:max"]
    _, printed = run(sts.main, "--data", data, "--out", out, *wanted)
    return (out / "sts.json").read_text(), printed


@pytest.fixture(scope="module")
def traded(data, tiny_folder, tmp_path_factory):
    """A run of `benchmarks.tradeoff`: (its folder, what it wrote, what it printed)."""
    folder = tmp_path_factory.mktemp("tradeoff")
    options = f"--epochs 1 --steps 2 --n {N} --sample 10 --k {K} --rerank-pairs {RERANKED}".split()
    places = f"--data {data} --work {folder / 'work'} --out {folder} --model {tiny_folder}".split()
    _, printed = run(tradeoff.main, *places, *options)
    return folder, (folder / "tradeoff.json").read_text(), printed


class TestSts:
    def test_results_hold_their_circumstances_and_no_place(self, quality, data):
        values = json.loads(quality[0])
        assert {"command", "commit", "machine", "versions", "date"} <= set(values)
        assert {"pairs", "rows", "paper"} <= set(values)
        assert values["pairs"] == {name: 11 for name in sts.SETS if name[3:].isdigit()} | {
            "STSb": PAIRS,
            "SICK-R": PAIRS,
        }
        assert str(data) not in quality[0]
        assert str(data.parent) not in quality[0]

    def test_models_have_names_poolings_and_sizes(self, quality, tiny):
        found = json.loads(quality[0])["rows"]
        assert [row["name"] for row in found] == ["model", "model:cls", "raw"]
        assert len({row["scores"]["STSb"] for row in found}) == 3
        assert len({row["parameters"] for row in found}) == 1

    def test_subsets_are_concatenated_to_one_correlation(self, quality, data, tiny):
        read = [sts.read_pairs(data / f"sts/sts14/subset-{i}.tsv") for i in (0, 1)]
        columns = [[*first, *second] for first, second in zip(*read, strict=True)]
        expected = EmbeddingSimilarityEvaluator(*columns)(tiny)["spearman_cosine"]
        assert json.loads(quality[0])["rows"][0]["scores"]["STS14"] == pytest.approx(100 * expected)

    def test_all_seven_make_an_average(self, quality):
        for row in json.loads(quality[0])["rows"]:
            assert len(row["scores"]) == 7
            assert row["average"] == pytest.approx(np.mean(list(row["scores"].values())))

    def test_a_missing_set_is_a_dash_and_there_is_no_average(self, tiny, tiny_folder, tmp_path):
        data = write_data(tmp_path / "data", whole=False)
        values, printed = run(sts.main, "--data", data, "--out", tmp_path, tiny_folder)
        row = values["rows"][0]
        assert {name for name, value in row["scores"].items() if value is None} == {
            "STS13",
            "SICK-R",
        }
        assert row["average"] is None
        cells = next(
            line for line in printed.splitlines() if line.startswith("model ") and "Avg" not in line
        ).split()
        assert [cells[place] for place in (3, 8, 9)] == ["-", "-", "-"]
        assert cells.count("-") == 3
        assert sts.score(tiny, data, "STS13") is None
        assert sts.score(tiny, data, "STSb") == row["scores"]["STSb"]

    def test_the_papers_averages_are_those_of_its_rows(self):
        assert all(len(found) == 8 for found in sts.PAPER.values())
        off = {name: abs(np.mean(found[:7]) - found[7]) for name, found in sts.PAPER.items()}
        assert off.pop("SBERT-NLI-base") == pytest.approx(
            0.03, abs=0.005
        )  # the paper prints this value
        assert max(off.values()) < 0.0051  # rounded to two places

    def test_data_without_any_set_is_refused(self, tmp_path):
        with pytest.raises(SystemExit, match="has none of sts/sts12, "):
            sts.main(["--data", str(tmp_path)])
        (tmp_path / "sts/sts12").mkdir(parents=True)
        with pytest.raises(ValueError, match="sts12 holds no subsets"):
            sts.evaluator(tmp_path, "STS12")


class TestTradeoff:
    def test_passes_are_counted(self, traded):
        found = json.loads(traded[1])["results"]
        assert {name: row.get("passes") for name, row in found.items()} == {
            "untuned bi-encoder": None,
            "bi-encoder": N,
            "cross-encoder": N * (N - 1) // 2,
            "retrieve-then-rerank": N + RERANKED,
        }

    def test_finding_is_counted(self, traded, data):
        first, second, scores = sts.read_pairs(data / "sts/stsb-test.tsv")
        queries, pool = sum(score >= 4 for score in scores), len({*first, *second})
        assert json.loads(traded[1])["finding"] | {"pairs_retrieved": 0} == {
            "pairs": PAIRS,
            "pairs_retrieved": 0,
            "pool": pool,
            "queries": queries,
            "passes": {
                "bi-encoder": pool,
                "cross-encoder": queries * (pool - 1),
                "retrieve-then-rerank": pool + queries * K,
            },
        }

    def test_extrapolations_stand_apart_and_follow_from_the_pairs_run(self, traded):
        found = json.loads(traded[1])["results"]
        cross = found["cross-encoder"]
        assert "seconds" not in cross
        assert cross["sample_pairs"] == 10
        expected = np.median(cross["sample_seconds"]) / 10 * 36
        assert cross["extrapolated_seconds"] == pytest.approx(expected)
        assert all(
            "extrapolated_seconds" not in row
            for name, row in found.items()
            if name != "cross-encoder"
        )
        assert "seconds, EXTRAPOLATED" in traded[2]

    def test_scores_are_those_of_the_models_that_it_leaves(self, traded, data, tiny):
        found = json.loads(traded[1])["results"]
        tuned = SentenceTransformer(traded[0] / "work/bi-encoder")
        assert found["untuned bi-encoder"]["spearman"] == pytest.approx(
            sts.score(tiny, data, "STSb")
        )
        assert found["bi-encoder"]["spearman"] == pytest.approx(sts.score(tuned, data, "STSb"))
        assert all(0 <= row["accuracy_at_1"] <= 1 for row in found.values())

    def test_results_hold_their_circumstances_no_place_and_a_picture(self, traded, data):
        values = json.loads(traded[1])
        assert {"command", "commit", "machine", "versions", "options", "sentences", "paper"} <= set(
            values
        )
        assert values["options"]["model"] == "model"
        assert values["sentences"]["source"] == "nli-train.tsv.gz"
        assert str(data.parent) not in traded[1]
        assert (traded[0] / "tradeoff.png").read_bytes().startswith(b"\x89PNG")

    def test_too_few_sentences_are_refused(self, data):
        with pytest.raises(SystemExit, match="too few for --n 1000; give a smaller one"):
            closest.distinct_sentences(data, 1000)


class Clock:
    """A bi-encoder of texts that are angles in degrees."""

    def encode(self, texts):
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


class Parity:
    """A cross-encoder that prefers texts with the last digit of the query, and among them larger
    numbers."""

    def predict(self, pairs):
        return np.array([(a[-1] == b[-1]) / 2 + float(b) / 1000 for a, b in pairs], np.float32)


class TestFinding:
    def test_accuracies_are_those_by_hand(self):
        pairs = (["0", "100", "41"], ["30", "109", "50"], [4.5, 5.0, 4.0])
        # The pool: 0 100 41 30 109 50. The nearest of 0 is 30, right; of 100 is 109, right; of 41
        # is 50 (9 degrees away, 30 is 11 degrees away), right. With the two nearest, the last digits
        # decide: 0 has 30 and 41, and 30 stays; 100 has 109 and 50, and takes 50, wrong; 41 has 50
        # and 30, no digit agrees, and 50 is larger.
        # With the whole pool: 0 takes 100, wrong; 100 takes 50, wrong; 41 takes 109, wrong.
        results, counts = finding.accuracies(Clock(), Clock(), Parity(), pairs, k=2, exhaustive=15)
        assert [results[name]["accuracy_at_1"] for name in finding.METHODS] == [
            1.0,
            1.0,
            0.0,
            pytest.approx(2 / 3),
        ]
        assert counts["passes"] == {
            "bi-encoder": 6,
            "cross-encoder": 15,
            "retrieve-then-rerank": 6 + 3 * 2,
        }
        assert counts["pairs_retrieved"] == 3
        # Scores by hand: the cosines of 30, 9 and 9 degrees; the cross-encoder's 0.53, 0.109 and
        # 0.05.
        assert results["cross-encoder"]["spearman"] == pytest.approx(50)
        assert results["retrieve-then-rerank"]["spearman"] == pytest.approx(50)

    def test_the_whole_pool_is_not_read_beyond_the_limit(self):
        pairs = (["0", "100", "41"], ["30", "109", "50"], [4.5, 5.0, 4.0])
        results, counts = finding.accuracies(Clock(), Clock(), Parity(), pairs, k=2, exhaustive=14)
        assert results["cross-encoder"]["accuracy_at_1"] is None
        assert counts["passes"]["cross-encoder"] == 15

    def test_pairs_that_are_not_retrieved_stand_below(self):
        # The nearest of 0 is 10, and of 90 is 80. The pair (0, 90) is not retrieved and comes last,
        # although the cross-encoder scores it highest.
        pairs = (["0", "90", "0"], ["10", "80", "90"], [4.0, 5.0, 1.0])
        results, counts = finding.accuracies(Clock(), Clock(), Parity(), pairs, k=1, exhaustive=0)
        assert counts["pairs_retrieved"] == 2
        assert results["cross-encoder"]["spearman"] == pytest.approx(-50)
        assert results["retrieve-then-rerank"]["spearman"] == pytest.approx(100)

    def test_the_nearest_are_never_the_row_itself(self):
        vectors = Clock().encode(["0", "0", "0", "20", "50"])
        near = [row.tolist() for row in finding.nearest(vectors, 2)]
        assert near[2] == [0, 1]
        assert near[3:] == [[0, 1], [3, 0]]
        assert [len(row) for row in finding.nearest(vectors, 9)] == [4] * 5

    def test_without_a_pair_to_find_it_says_so(self):
        with pytest.raises(ValueError, match=r"none of 1 pairs has a score of 4\.0 or more"):
            finding.finding(["a"], ["b"], [3.9])
        with pytest.raises(ValueError, match="none of 1 pairs"):
            finding.finding(["a"], ["a"], [5.0])


def test_sampled_pairs_are_different_and_in_range():
    found = closest.sampled_pairs(10_000, 500)
    assert len(set(found)) == 500
    assert all(0 <= i < j < 10_000 for i, j in found)
    assert len(closest.sampled_pairs(7, 100)) == math.comb(7, 2)
