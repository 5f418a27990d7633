"""The ablation: each cell is run once, and again only with the same settings, and the claims follow
from the scores."""

import gzip
import json
import random

import pytest

from benchmarks import ablation
from jsbert import SentenceTransformer
from tests import models

pytestmark = pytest.mark.once

NUM_TUNED, NUM_CELLS = 12, 15
PAPER = {name: [cell.paper] for name, cell in ablation.CELLS.items() if cell.paper is not None}
UNTUNED = {"untuned-mean": [54.0], "untuned-max": [50.5], "untuned-cls": [30.25]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """DATA with 24 NLI pairs, 8 scored pairs for training and 12 for scoring."""
    folder = tmp_path_factory.mktemp("data")
    texts = [
        f"{random.Random(i).choice(models.WORDS)} {text}"
        for i, text in enumerate(models.sentences(88, longest=6))
    ]
    pairs = list(zip(texts[:44], texts[44:], strict=True))
    (folder / "nli").mkdir()
    (folder / "sts").mkdir()
    labels = ("entailment", "neutral", "contradiction")
    rows = [f"{labels[i % 3]}\t{a}\t{b}" for i, (a, b) in enumerate(pairs[:24])]
    with gzip.open(folder / "nli/nli-train.tsv.gz", "wt", encoding="utf8") as file:
        file.write("\n".join(["label\tpremise\thypothesis", *rows]) + "\n")
    for name, part in (("train", pairs[24:32]), ("dev", pairs[32:])):
        rows = [f"{i % 6}\t{a}\t{b}" for i, (a, b) in enumerate(part)]
        (folder / f"sts/stsb-{name}.tsv").write_text(
            "\n".join(["score\tsentence1\tsentence2", *rows]) + "\n"
        )
    return folder


@pytest.fixture(scope="module")
def run(data, tiny_folder, tmp_path_factory):
    """A whole run without the training: (its arguments, what it returned, its folder, what it would
    have trained)."""
    out, trained = tmp_path_factory.mktemp("ablation"), []

    def fit(model, source, folder, recipe):
        trained.append((model, source, recipe))
        return model

    argv = f"--data {data} --out {out} --start tiny={tiny_folder} --pairs 8 --seeds 1".split()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "fit", fit)
        return argv, ablation.main(argv), out, trained


@pytest.fixture
def no_fit(monkeypatch):
    """Make training an error."""

    def fit(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(ablation, "fit", fit)


class TestRun:
    def test_every_cell_is_written(self, run):
        _, values, out, _ = run
        names = {
            name if cell.tuned_on == "untuned" else f"{name}-0"
            for name, cell in ablation.CELLS.items()
        }
        assert {file.name for file in (out / "ablation").iterdir()} == {
            f"tiny-{name}.json" for name in names
        }
        assert len(names) == NUM_CELLS
        for name, scores in values["results"]["tiny"].items():
            end = "" if name.startswith("untuned") else "-0"
            assert scores == [
                json.loads((out / f"ablation/tiny-{name}{end}.json").read_text())["score"]
            ]
            assert -100 <= scores[0] <= 100

    def test_each_cell_trains_what_it_is_named_for(self, run):
        cells = [cell for cell in ablation.CELLS.values() if cell.tuned_on != "untuned"]
        for cell, (model, source, recipe) in zip(cells, run[3], strict=True):
            assert model.config.pooling == (cell.pooling,)
            assert source.objective.kind == {"NLI": "softmax", "STSb": "cosine"}[cell.tuned_on]
            assert source.objective.options.get("concatenation", ()) == cell.concatenation
            assert len(source.examples) == 8
            assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.warmup) == (
                1,
                16,
                2e-5,
                0.1,
            )
        assert len({cell[1:] for cell in cells if cell.tuned_on == "NLI"}) == 9

    def test_results_name_no_local_path(self, run, data, tiny_folder):
        _, values, out, _ = run
        written = [*(out / "ablation").iterdir(), out / "ablation.json"]
        for text in (file.read_text() for file in written):
            assert not any(str(path) in text for path in (data, tiny_folder, out))
        command = json.loads((out / "ablation.json").read_text())["command"]
        assert "--data DATA --start tiny=MODEL --learning-rate 2e-05 --seeds 1 --pairs 8" in command
        assert values["starts"]["tiny"]["pooling"] == "mean"
        assert (out / "ablation.png").read_bytes().startswith(b"\x89PNG")

    def test_a_second_run_trains_nothing(self, run, no_fit):
        argv, values, _, _ = run
        assert ablation.main(argv)["results"] == values["results"]

    def test_a_run_goes_on_where_it_stopped(self, run, no_fit, capsys):
        argv, _, _, _ = run
        with pytest.raises(AssertionError, match="trained"):
            ablation.main([*argv, "--seeds", "tiny=2"])
        assert capsys.readouterr().out.rstrip().endswith("tiny-nli-mean-1 ...")

    @pytest.mark.parametrize(
        "changed, message",
        [
            (["--pairs", "7"], "tiny-nli-mean-0.json is of pairs 8, asked for 7"),
            (["--stsb-epochs", "2"], "tiny-stsb-mean-0.json is of epochs 1, asked for 2"),
            (["--learning-rate", "tiny=1e-3"], "is of learning_rate 2e-05, asked for 0.001"),
            (["--dtype", "bfloat16"], "is of dtype 'float32', asked for 'bfloat16'"),
        ],
    )
    def test_cells_of_other_settings_are_refused(self, run, no_fit, changed, message):
        with pytest.raises(ValueError, match=message):
            ablation.main([*run[0], *changed])

    def test_cells_of_other_weights_are_refused(self, run, no_fit, tmp_path):
        other = models.write_folder(tmp_path / "other", seed=5)
        argv = [text if not text.startswith("tiny=") else f"tiny={other}" for text in run[0]]
        with pytest.raises(
            ValueError, match="tiny-untuned-mean.json is of start_sha256 '.*', asked for '.*'"
        ):
            ablation.main(argv)

    def test_only_table_leaves_gaps_open(self, run, no_fit, tmp_path, capsys):
        argv, _, out, _ = run
        (tmp_path / "ablation").mkdir()
        for name in ("tiny-untuned-cls.json", "tiny-stsb-mean-0.json"):
            (tmp_path / "ablation" / name).write_bytes((out / "ablation" / name).read_bytes())
        argv = [str(tmp_path) if text == str(out) else text for text in argv]
        values = ablation.main([*argv, "--only-table"])
        assert sum(len(scores) for scores in values["results"]["tiny"].values()) == 2
        assert {holds for holds, _ in values["claims"]["tiny"].values()} == {None}
        printed = capsys.readouterr().out
        score = values["results"]["tiny"]["stsb-mean"][0]
        lines = [line.split() for line in printed.splitlines()]
        assert [
            "STSb",
            "mean",
            "87.44",
            *f"{score:.2f} [{score:.2f} .. {score:.2f}] (1)".split(),
        ] in lines
        assert ["STSb", "max", "69.92", "-"] in lines
        assert printed.count(" open ") == 5


@pytest.mark.parametrize("cell", ["nli-uv-diff-product", "stsb-max"])
def test_a_trained_cell_has_another_score(run, data, tiny_folder, tmp_path, cell):
    argv = f"--data {data} --out {tmp_path} --start tiny={tiny_folder} --learning-rate 1e-2".split()
    options = ablation._options(
        [*argv, "--pairs", "24", "--stsb-epochs", "2"]
    )  # two updates; the rate of the first is 0
    found = ablation._run(options, ablation._start(options, "tiny", tiny_folder), "tiny", cell, 3)
    assert found == json.loads((tmp_path / f"ablation/tiny-{cell}-3.json").read_text())
    assert found["settings"]["learning_rate"] == 1e-2
    assert found["score"] != run[1]["results"]["tiny"][cell][0]


def test_seeds_come_one_by_one_first_start_first(tmp_path):
    starts = {
        name: ablation.Start(tmp_path, "", "mean", 2e-5, seeds)
        for name, seeds in (("a", 1), ("b", 2))
    }
    jobs = list(ablation._jobs(starts))
    order = list(dict.fromkeys((name, seed) for name, _, seed in jobs))
    assert order == [("a", None), ("b", None), ("a", 0), ("b", 0), ("b", 1)]
    assert len(jobs) == len(set(jobs)) == 2 * 3 + 3 * NUM_TUNED


def test_the_head_is_left_out_and_the_pooling_changed(tiny_folder):
    given, model = SentenceTransformer(tiny_folder), ablation.without_head(tiny_folder, "max")
    tokens = given.encode("the cat sat", output_value="token_embeddings")
    assert given.config.is_normalized
    assert model.encode("the cat sat") == pytest.approx(
        tokens.max(axis=0), abs=1e-5
    )  # float32, with rows of another length


def test_names_must_be_those_of_starts(capsys):
    for argv in (
        ["--start", "a=x", "--start", "a=y"],
        ["--start", "x"],
        ["--start", "a=x", "--seeds", "b=1"],
    ):
        with pytest.raises(SystemExit):
            ablation.main(["--data", "DATA", *argv])
        assert "names are" in capsys.readouterr().err


class TestClaims:
    def test_the_papers_own_scores_bear_out_all(self):
        found = ablation.claims(UNTUNED | PAPER)
        assert [holds for holds, _ in found.values()] == [True] * 5
        assert found["tuning is what gives meaning"][1] == "nli-uv 66.04, untuned-mean 54.00"
        assert found["MAX is worst for regression"][1] == "stsb-cls 86.62, stsb-max 69.92"

    @pytest.mark.parametrize(
        "claim, changed",
        [
            ("tuning is what gives meaning", {"untuned-max": [66.04]}),
            ("|u-v| is what matters", {"nli-uv-diff-product": [66.0]}),
            ("|u-v| is what matters", {"nli-product": [85.0, 81.0]}),
            ("MEAN >= CLS, NLI", {"nli-cls": [80.0, 82.0]}),
            ("MEAN >= CLS, STSb", {"stsb-mean": [86.0]}),
            ("MAX is worst for regression", {"stsb-max": [87.0]}),
        ],
    )
    def test_each_fails_alone_where_the_scores_speak_against_it(self, claim, changed):
        found = ablation.claims(UNTUNED | PAPER | changed)
        assert [name for name, (holds, _) in found.items() if not holds] == [claim]
        assert found[claim][0] is False

    def test_the_best_may_be_another_within_its_range(self):
        found = ablation.claims(UNTUNED | PAPER | {"nli-diff-product": [80.0, 84.0]})
        holds, numbers = found["|u-v| is what matters"]
        assert holds
        assert (
            numbers
            == "nli-uv-diff-product 80.44, nli-uv 66.04; nli-mean 80.78, the best nli-diff-product 82.00, from 80.00"
        )

    def test_a_missing_cell_leaves_only_its_claims_open(self):
        found = ablation.claims(UNTUNED | PAPER | {"nli-cls": []})
        assert [name for name, (holds, _) in found.items() if holds is None] == ["MEAN >= CLS, NLI"]
        assert found["MEAN >= CLS, NLI"][1] == "missing: nli-cls"
