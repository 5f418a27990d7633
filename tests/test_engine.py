"""The engine's seam: any pure function over texts, pairs, ids or tokens; requests of several
callers in one stream."""

import jax.numpy as jnp
import numpy as np
import pytest

import jsbert
from jsbert.engine import Placement, Truncations
from jsbert.tokenizer import Ragged
from tests import models

TEXTS = [*models.sentences(40, seed=4), "", "the red cat " * 9]


def token_counts(params, ids, lengths):
    """Count tokens: a function of the caller's own, which does not even read the params."""
    mask = jnp.arange(ids.shape[1])[None] < lengths[:, None]
    return {"sum": jnp.where(mask, ids, 0).sum(axis=1), "count": lengths}


def in_order(stream, num_texts):
    found = {}
    for positions, outputs in stream:
        rows = zip(outputs["sum"].tolist(), outputs["count"].tolist(), strict=True)
        found |= dict(zip(positions.tolist(), rows, strict=True))
    assert sorted(found) == list(range(num_texts))
    return [found[i] for i in range(num_texts)]


def expected(tokens):
    rows = [
        tokens.ids[start:stop]
        for start, stop in zip(tokens.starts, tokens.starts[1:], strict=False)
    ]
    return [(int(row.sum()), len(row)) for row in rows]


@pytest.mark.parametrize("window", [7, 1000])
def test_any_function_sees_each_text_once_without_its_padding(tiny, monkeypatch, window):
    monkeypatch.setattr("jsbert.engine.stream.WINDOW", window)
    wanted = expected(tiny.tokenizer(TEXTS))
    assert in_order(tiny.engine.stream(token_counts, TEXTS), len(TEXTS)) == wanted
    ids = [[5, 6, 7], [8]] * 9
    assert in_order(tiny.engine.stream(token_counts, ids), 18) == [(18, 3), (8, 1)] * 9


def test_requests_with_prompts_of_their_own_share_batches(tiny):
    requests = [(TEXTS[:5], ""), (TEXTS[5:8], "query: "), (TEXTS[8:], "passage: ")]
    tokens = [tiny.engine.tokenize(texts, prompt=prompt) for texts, prompt in requests]
    merged = in_order(tiny.engine.stream(token_counts, Ragged.join(tokens)), len(TEXTS))
    assert merged == [row for one in tokens for row in expected(one)]
    batches = [positions for positions, _ in tiny.engine.stream(token_counts, Ragged.join(tokens))]
    assert any(positions.min() < 5 and positions.max() >= 8 for positions in batches)


def test_joined_tokens_keep_types_and_what_was_cut():
    first = Ragged.from_lists([[1, 2], [3]], None, [1])
    second = Ragged.from_lists([[4], [5, 6, 7]], [[1], [0, 1, 1]], [0])
    joined = Ragged.join([first, second])
    assert joined.ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert joined.starts.tolist() == [0, 2, 3, 4, 7]
    assert joined.token_types.tolist() == [0, 0, 0, 1, 0, 1, 1]
    assert list(joined.truncated) == [1, 2]
    empty = Ragged.join([])
    assert (len(empty.ids), empty.starts.tolist(), empty.token_types) == (0, [0], None)


def test_pairs_go_through_the_same_seam(tiny_cross_folder):
    model, pairs = (
        jsbert.CrossEncoder(tiny_cross_folder),
        [("a cat", "the dog"), ("red", "blue tree")],
    )
    wanted = expected(model.tokenizer(pairs))

    def counts(params, ids, lengths, token_types):
        return token_counts(params, ids, lengths)

    assert in_order(model.engine.stream(counts, pairs), 2) == wanted


def test_texts_that_are_cut_are_counted_in_every_window(tiny, monkeypatch):
    monkeypatch.setattr("jsbert.engine.stream.WINDOW", 2)
    truncations = Truncations("ignore", tiny.max_seq_length)
    texts = ["cat " * 90, "a", "b", "dog " * 90, "c"]
    in_order(tiny.engine.stream(token_counts, texts, truncations=truncations), 5)
    assert (truncations.num_truncated, truncations.num_texts) == (2, 5)


def test_a_batch_is_spread_by_rows_or_copied(tiny):
    placement = Placement(jsbert.SentenceTransformer(device=["cpu:0", "cpu:1"]).devices)
    even, odd = (placement.put_rows({"x": np.zeros((rows, 3))}, rows)["x"] for rows in (4, 3))
    assert [shard.data.shape for shard in even.addressable_shards] == [(2, 3)] * 2
    assert [shard.data.shape for shard in odd.addressable_shards] == [(3, 3)] * 2
