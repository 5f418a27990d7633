"""The benchmarks run, count correctly, and say what they did not do."""

import json

import pytest

from benchmarks import pairwise, startup, train
from benchmarks.lib import report, sentences

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("quick_benchmarks")]


@pytest.fixture(scope="module")
def run(tmp_path_factory, quick_benchmarks):
    """A small run of `benchmarks.pairwise`: (what it returned, its folder, what it printed)."""
    import contextlib
    import io

    out = tmp_path_factory.mktemp("pairwise")
    lines = out / "lines.txt"
    lines.write_text("\n".join(sentences.docstring_sentences(60)[:60]), encoding="utf8")
    arguments = (
        f"--out {out} --ladder 3,5 --bi-ladder 4,40 --sentences {lines} --fixed-length 32".split()
    )
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "WORK", out / "nothing")
        values = pairwise.main([*arguments, "--no-torch"])
    return values, out, printed.getvalue()


@pytest.mark.weights
class TestPairwise:
    def test_passes_are_counted(self, run):
        passes = {(row["name"].split(",")[0], row["n"]): row["passes"] for row in run[0]["rows"]}
        assert passes == {
            ("cross-encoder", 3): 3,
            ("cross-encoder", 5): 10,
            ("bi-encoder", 4): 4,
            ("bi-encoder", 40): 40,
        }

    def test_extrapolations_stand_apart_and_follow_from_the_pairs_run(self, run):
        for row in run[0]["rows"]:
            if row["name"].startswith("cross-encoder"):
                expected = row["total_seconds"] / row["passes"] * 49_995_000
                assert row["extrapolated_seconds_at_10000"] == pytest.approx(expected)
            else:
                assert "extrapolated_seconds_at_10000" not in row

    def test_both_bi_encoders_find_the_same_pair_as_brute_force(self, run):
        rows = [
            row for row in run[0]["rows"] if row["name"].startswith("bi-encoder") and row["n"] == 40
        ]
        assert len(rows) == 2
        assert rows[0]["pair"] == rows[1]["pair"]
        assert all(row["equals_brute_force"] for row in rows)

    def test_it_says_that_the_head_is_untrained(self, run):
        assert "the time is real, the answer means nothing" in run[2]
        assert run[2].rstrip().endswith("10,000 and one matrix product.")

    def test_no_ratio_is_claimed_without_the_full_run(self, run):
        assert run[0]["summary"]["ratios"] is None
        assert "no ratio, because the bi-encoder ran at n = 40 only" in run[2]

    def test_results_hold_their_circumstances_and_a_picture(self, run):
        values = json.loads((run[1] / "pairwise-default.json").read_text())
        assert {"command", "commit", "machine", "versions", "date"} <= set(values)
        assert {"python", "sentences_sha256"} <= set(values)
        assert (run[1] / "pairwise-default.png").read_bytes().startswith(b"\x89PNG")


def test_docstring_sentences_are_many_distinct_and_english():
    found = sentences.docstring_sentences(2000)
    assert len(found) >= 2000
    assert len({sentence.lower() for sentence in found}) == len(found)
    assert all(5 <= len(sentence.split()) <= 40 for sentence in found)
    assert (
        sentences.shuffled(found, 1) == sentences.shuffled(found, 1) != sentences.shuffled(found, 2)
    )
    assert sentences.fingerprint(found) != sentences.fingerprint(found[::-1])


def test_mixed_texts_are_short_and_long():
    texts = startup.mixed_texts(50)
    assert sum(len(text.split()) > 80 for text in texts) == 10


def test_train_runs_and_writes_its_rates(tiny_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "has_torch", lambda: False)
    argv = f"--model {tiny_folder} --steps 4 --batch-size 2 --repeats 1 --out {tmp_path}".split()
    values = train.main([*argv, "--padded"])
    assert set(values["results"]) == {"jsbert", "jsbert, padded towers"}
    for found in values["results"].values():
        assert found["updates_per_second"][0] > 0
        assert found["peak_bytes"] > 1e8
    assert json.loads((tmp_path / "train.json").read_text())["results"] == values["results"]
    assert "4 updates of 2 pairs, float32; the rate is of those after 2" in capsys.readouterr().out
