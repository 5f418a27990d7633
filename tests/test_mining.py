"""Hard negatives by hand, on vectors in the plane; parity/ compares with sentence-transformers."""

import types

import numpy as np
import pytest

from jsbert.config import Router
from jsbert.data import Examples
from jsbert.mining import mine_hard_negatives

DEGREES = {"q": 0, "r": 90, "q+": 10, "r+": 80, "near q": 5, "near r": 97, "far": 200}


class Compass:
    """A model whose texts are directions. `scale` takes the place of its weights, `tokenizer` the
    place of a tokenizer."""

    similarity_fn_name, config, truncate_dim, default_prompt_name = "cosine", "compass", None, None

    def __init__(self, scale=1.0, tokenizer="lower-casing", router=None):
        self.params, self.prompts, self.calls = {"scale": np.float32(scale)}, {}, 0
        self.tokenizer, self.router = types.SimpleNamespace(description=tokenizer), router

    def encode_query(self, texts, **options):
        assert options["normalize_embeddings"]
        self.calls += 1
        angles = self.params["scale"] * np.radians([DEGREES[text] for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    encode_document = encode_query


PAIRS = Examples.from_columns({"anchor": ["q", "r"], "positive": ["q+", "r+"]})
CORPUS = ["near q", "near r", "far"]


def mine(dataset=PAIRS, model=None, *, verbose=False, **options):
    return mine_hard_negatives(
        dataset, model or Compass(), verbose=verbose, **{"corpus": CORPUS} | options
    )


def rows_of(examples):
    return list(zip(*examples.texts, strict=True))


def test_the_nearest_that_are_no_positives():
    got = mine(num_negatives=1, output_scores=True)
    assert (got.names, rows_of(got)) == (
        ("anchor", "positive", "negative"),
        [("q", "q+", "near q"), ("r", "r+", "near r")],
    )
    cosines = np.cos(np.radians([[10, 5], [10, 7]]))
    np.testing.assert_allclose(got.labels, cosines, atol=1e-6)


def test_a_positive_of_any_row_of_the_anchor_is_no_negative():
    dataset = Examples.from_columns({"anchor": ["q", "q", "q"], "positive": ["q+", "near q", "q+"]})
    assert rows_of(mine(dataset, num_negatives=1)) == [
        ("q", "q+", "near r"),
        ("q", "near q", "near r"),
    ]


def test_a_margin_leaves_out_what_is_nearer_than_the_positive():
    got = mine(num_negatives=2, absolute_margin=0.0, output_format="n-tuple")
    assert got.names == ("anchor", "positive", "negative_1", "negative_2")
    assert rows_of(got) == [("q", "q+", "r+", "near r"), ("r", "r+", "q+", "near q")]


def test_range_min_counts_the_ranks_that_are_left():
    got = mine(num_negatives=1, range_min=1, max_score=0.99, corpus=None)
    assert len(got) == 0  # with q+ and r+ only, each anchor has one candidate, which is skipped
    assert rows_of(mine(num_negatives=1, range_min=1)) == [("q", "q+", "r+"), ("r", "r+", "q+")]


def test_random_negatives_are_those_of_the_seed():
    first, again, other = (
        mine(sampling_strategy="random", num_negatives=2, range_max=4, seed=n) for n in (0, 0, 2)
    )
    assert rows_of(first) == rows_of(again) != rows_of(other)


def test_a_cross_encoder_scores_anew():
    model = types.SimpleNamespace(
        predict=lambda pairs, **options: np.float32([len(document) for _, document in pairs])
    )
    got = mine(cross_encoder=model, max_score=5, num_negatives=1, output_scores=True)
    assert rows_of(got) == [("q", "q+", "far"), ("r", "r+", "far")]
    assert got.labels.tolist() == [[2, 3], [2, 3]]
    several = types.SimpleNamespace(predict=lambda pairs, **options: np.zeros((len(pairs), 3)))
    with pytest.raises(
        ValueError,
        match="the cross_encoder gives 3 labels a pair; one with a single label is needed",
    ):
        mine(cross_encoder=several, max_score=5)


def test_vectors_are_kept_for_the_same_model_texts_and_prompts(tmp_path):
    model, folder = Compass(), tmp_path / "cache"
    first = mine(model=model, cache_folder=folder)
    assert model.calls == 2
    assert rows_of(mine(model=model, cache_folder=folder)) == rows_of(first)
    assert model.calls == 2
    mine(model=model, cache_folder=folder, corpus=None)
    mine(model=model, cache_folder=folder, query_prompt="q: ")
    assert model.calls == 4
    trained = Compass(scale=1.1)
    mine(model=trained, cache_folder=folder)
    assert trained.calls == 2
    cased = Compass(tokenizer="cased")
    mine(model=cased, cache_folder=folder)
    assert cased.calls == 2
    assert all(file.suffix == ".npy" for file in folder.iterdir())


def test_vectors_are_kept_for_the_encoder_of_their_route(tmp_path):
    def routed(document):
        return Compass(
            router=Router((("query", Compass()), ("document", Compass(scale=document))), "query")
        )

    first, same, other = routed(1.1), routed(1.1), routed(1.2)
    for model in (first, same, other):
        mine(model=model, cache_folder=tmp_path)
    assert (first.calls, same.calls, other.calls) == (2, 0, 1)  # another encoder of documents


def test_statistics_are_printed_if_wanted(capsys):
    mine(num_negatives=2, max_score=0.5, verbose=True)
    printed = capsys.readouterr().out
    assert "Mean           0.9848" in printed
    # Each has four candidates. Only near q is within 60 degrees of q, and only near r of r.
    assert "Skipped 2 potential negatives (25.00%) due to the max_score of 0.5." in printed
    mine()
    assert capsys.readouterr().out == ""


def test_nothing_found_is_no_rows():
    assert len(mine(max_score=-1.0, output_scores=True)) == 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"use_faiss": True}, "use_faiss is True; leave it False: the search is exact"),
        ({"use_multi_process": ["cpu"]}, "use_multi_process is \\['cpu'\\]; leave it False"),
        (
            {"output_format": "pairs"},
            "output_format is 'pairs'; choose one of 'triplet', 'n-tuple'",
        ),
        (
            {"output_format": "labeled-list"},
            "lists of texts, which Examples cannot hold; give a Dataset",
        ),
        (
            {"sampling_strategy": "best"},
            "sampling_strategy is 'best'; choose one of 'top', 'random'",
        ),
        ({"num_negatives": 0}, "num_negatives is 0"),
        ({"range_min": -1}, "range_min=-1"),
        ({"range_max": 2}, "range_min=0 to range_max=2 do not hold num_negatives=3"),
        ({"anchor_column_name": "query"}, "no column 'query'; there are 'anchor', 'positive'"),
        ({"positive_column_name": "anchor"}, "these must be two columns"),
        (
            {"dataset": Examples.from_columns({"anchor": ["q"]})},
            "1 rows of 1 columns; at least one row of two columns",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        mine(**options)
