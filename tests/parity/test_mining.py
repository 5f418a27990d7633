"""mine_hard_negatives against sentence_transformers.util.mine_hard_negatives, with the same model,
pairs and options."""

import itertools
import random
import warnings

import numpy as np
import pytest
import sentence_transformers
from sentence_transformers.util import mine_hard_negatives as theirs

import jsbert
from jsbert.data import Examples
from jsbert.mining import mine_hard_negatives
from tests import models

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A bi-encoder and a cross-encoder, each as (ours, theirs), and the pairs."""
    folder = tmp_path_factory.mktemp("mining")
    prompts = models.Settings({"query": "query: ", "document": "passage: ", "other": "the red "})
    bi = models.write_folder(folder / "bi", settings=prompts)
    cross = models.write_cross_folder(folder / "cross")
    texts = list(dict.fromkeys(text for text in models.sentences(200, seed=5, longest=6) if text))
    pairs = {"query": texts[:25], "answer": texts[25:50]}
    for name, rows in {
        "query": [0, 0, 3, 7],
        "answer": [5, 11, 7, 7],
    }.items():  # several positives; a row twice
        pairs[name] += [pairs[name][row] for row in rows]
    pairs["answer"][20] = pairs["answer"][21]  # two queries share a positive
    return {
        "bi": (
            jsbert.SentenceTransformer(bi),
            sentence_transformers.SentenceTransformer(str(bi), device="cpu"),
        ),
        "cross": (
            jsbert.CrossEncoder(cross),
            sentence_transformers.CrossEncoder(str(cross), device="cpu"),
        ),
        "dataset": datasets.Dataset.from_dict(pairs),
        "corpus": texts[50:90],
    }


def mine(both, *, cross_encoder=False, corpus=False, dataset=None, **options):
    """Return (ours, theirs) as columns."""
    dataset = both["dataset"] if dataset is None else dataset
    results = []
    for number, function in enumerate([mine_hard_negatives, theirs]):
        random.seed(0)
        given = dict(options)
        if cross_encoder:
            given["cross_encoder"] = both["cross"][number]
        if corpus:
            given["corpus"] = both["corpus"]
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", category=DeprecationWarning, module="sentence_transformers"
            )
            results.append(function(dataset, both["bi"][number], verbose=False, **given))
    return [{name: list(result[name]) for name in result.column_names} for result in results]


def assert_same(got, wanted):
    assert list(got) == list(wanted)
    for name, column in wanted.items():
        if name in ("score", "scores"):
            assert len(got[name]) == len(column)
            for a, b in zip(got[name], column, strict=True):
                assert a == pytest.approx(b, abs=1e-5)
        else:
            assert got[name] == column


FORMATS = ["triplet", "n-tuple", "labeled-pair", "labeled-list"]
OPTIONS = {
    "defaults": {},
    "corpus": {"corpus": True, "num_negatives": 5},
    "ranks": {"range_min": 3, "range_max": 9, "num_negatives": 4},
    "absolute margin": {"absolute_margin": 0.02, "corpus": True},
    "relative margin": {"relative_margin": 0.05, "corpus": True},
    "scores": {"max_score": 0.9, "min_score": 0.3, "corpus": True},
    "min_score alone": {"min_score": 0.5},
    "all limits": {
        "max_score": 0.97,
        "min_score": 0.1,
        "absolute_margin": 0.01,
        "relative_margin": 0.01,
        "range_min": 1,
    },
    "margin below zero": {"relative_margin": -0.05, "absolute_margin": -0.1},
    "random": {"sampling_strategy": "random", "range_max": 20},
    "random with limits": {
        "sampling_strategy": "random",
        "max_score": 0.8,
        "corpus": True,
        "range_min": 2,
    },
    "cross-encoder": {"cross_encoder": True, "max_score": 0.6, "min_score": 0.05, "corpus": True},
    "cross-encoder, margins": {
        "cross_encoder": True,
        "absolute_margin": 0.05,
        "relative_margin": 0.1,
        "range_min": 2,
    },
    "cross-encoder without limits": {"cross_encoder": True},
    "more than the corpus has": {"num_negatives": 40},
    "more ranks than the corpus has": {"num_negatives": 3, "range_max": 60, "range_min": 21},
    "nothing": {"max_score": -2.0},
}


@pytest.mark.parametrize("name, output_format", list(zip(OPTIONS, itertools.cycle(FORMATS))))
def test_the_same_negatives_with_the_same_scores(both, name, output_format):
    assert_same(*mine(both, output_format=output_format, output_scores=True, **OPTIONS[name]))


@pytest.mark.parametrize("output_scores", [True, False])
@pytest.mark.parametrize("output_format", FORMATS)
def test_every_format_where_some_queries_have_too_few(both, output_format, output_scores):
    assert_same(
        *mine(both, output_format=output_format, output_scores=output_scores, **OPTIONS["scores"])
    )


@pytest.mark.parametrize(
    "options",
    [
        {"query_prompt": "under ", "corpus_prompt": "it was "},
        {"query_prompt_name": "other", "corpus_prompt_name": "query"},
        {"query_prompt_name": "other", "query_prompt": "a "},
    ],
)
def test_prompts(both, options):
    plain, _ = mine(both, output_scores=True)
    got, wanted = mine(both, output_scores=True, **options)
    assert_same(got, wanted)
    assert got["scores"] != plain["scores"]


def test_positives_among_the_candidates(both):
    got, wanted = mine(
        both, include_positives=True, output_format="n-tuple", num_negatives=6, output_scores=True
    )
    assert_same(got, wanted)
    assert any(row[0] in row[1:] for row in np.round(got["scores"], 6).tolist())


@pytest.mark.parametrize("similarity", ["dot", "euclidean", "manhattan"])
def test_other_similarities(both, similarity, monkeypatch):
    for model in both["bi"]:
        monkeypatch.setattr(model, "similarity_fn_name", similarity)
    assert_same(*mine(both, output_scores=True, relative_margin=0.05, corpus=True))


def test_columns_by_name(both):
    swapped = both["dataset"].add_column("id", range(len(both["dataset"])))
    options = {
        "anchor_column_name": "answer",
        "positive_column_name": "query",
        "output_scores": True,
    }
    assert_same(*mine(both, dataset=swapped, **options))


@pytest.mark.parametrize("output_format", FORMATS[:3])
def test_examples_give_what_a_dataset_gives(both, output_format):
    wanted, _ = mine(both, output_format=output_format)
    pairs = Examples.from_dataset(both["dataset"])
    got = mine_hard_negatives(pairs, both["bi"][0], output_format=output_format, verbose=False)
    columns = dict(zip(got.names, got.texts, strict=True))
    if got.label_name:
        columns[got.label_name] = got.labels.tolist()
    assert columns == wanted
