"""Ragged texts are batched into a few shapes, and put back in order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.lib.sentences import docstring_sentences
from jsbert.checkpoint import find_folder
from jsbert.engine import length_ladder, num_shapes, pad, padding_share, plan, row_ladder
from jsbert.tokenizer import Ragged, Tokenizer

lengths_lists = st.lists(st.integers(1, 70), max_size=300)


@settings(deadline=None)
@given(
    lengths_lists,
    st.integers(70, 90),
    st.integers(16, 600),
    st.none() | st.integers(1, 40),
    st.sampled_from([1, 2, 8]),
)
def test_every_text_is_in_one_batch_that_holds_it(
    lengths, max_length, token_budget, max_rows, multiple
):
    lengths = np.array(lengths, np.int64)
    options = dict(token_budget=token_budget, max_rows=max_rows, multiple=multiple)
    batches = plan(lengths, max_length=max_length, **options)
    seen = np.concatenate([batch.indices for batch in batches]) if batches else np.zeros(0, int)
    assert sorted(seen) == list(range(len(lengths)))
    for batch in batches:
        assert lengths[batch.indices].max() <= batch.length
        assert batch.length in length_ladder(max_length)
        assert len(batch.indices) <= batch.rows
        assert batch.rows in row_ladder(batch.length, **options)
        assert batch.rows % multiple == 0
        if batch.rows > multiple:
            assert batch.rows * batch.length <= max(token_budget, batch.length * multiple)
            assert max_rows is None or batch.rows <= max(max_rows, multiple)
    assert len({(batch.rows, batch.length) for batch in batches}) <= num_shapes(
        max_length, **options
    )


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=40),
    st.booleans(),
)
def test_packed_rows_are_the_texts(texts, with_types):
    types = [[token % 2 for token in text] for text in texts] if with_types else None
    tokens = Ragged.from_lists(texts, types)
    for batch in plan(tokens.lengths, max_length=12, token_budget=30):
        arrays = pad(tokens, batch)
        assert ("token_types" in arrays) == with_types
        assert arrays["lengths"].tolist() == [len(texts[i]) for i in batch.indices] + [0] * (
            batch.rows - len(batch.indices)
        )
        for row, index in enumerate(batch.indices):
            assert arrays["ids"][row].tolist() == texts[index] + [0] * (
                batch.length - len(texts[index])
            )
            if with_types:
                assert arrays["token_types"][row, : len(texts[index])].tolist() == types[index]


@pytest.mark.parametrize(
    ("num_texts", "rows"),
    [
        (1, [1]),
        (2, [8]),
        (8, [8]),
        (9, [8, 1]),
        (20, [8, 8, 8]),
        (50, [64]),
        (70, [64, 8]),
        (102, [102]),
    ],
)
def test_few_texts_get_few_rows(num_texts, rows):
    assert [
        batch.rows for batch in plan(np.full(num_texts, 9), max_length=512, token_budget=1024)
    ] == rows


def test_of_plans_that_cost_the_same_the_one_of_fewer_batches_is_taken():
    assert [batch[1:3] for batch in plan(np.full(3, 256), max_length=256, token_budget=1024)] == [
        (4, 256)
    ]


def test_a_long_text_does_not_lengthen_many_short_ones():
    batches = plan(np.array([17, 250, 17, 17]), max_length=256, token_budget=1024)
    assert [batch[1:3] for batch in batches] == [(1, 256), (8, 18)]


def _least_cost(lengths, token_budget):
    """Compute what `plan` promises by trying all full batches at each place: the least cost of
    texts from long to short."""
    if not lengths:
        return 0
    length = next(length for length in length_ladder(40) if length >= lengths[0])
    return min(
        rows * length + token_budget / 8 + _least_cost(lengths[rows:], token_budget)
        for rows in row_ladder(length, token_budget=token_budget)
    )


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 40), max_size=12), st.integers(40, 400))
def test_no_other_full_batches_cost_less(lengths, token_budget):
    batches = plan(np.array(lengths, np.int64), max_length=40, token_budget=token_budget)
    cost = sum(batch.rows * batch.length + token_budget / 8 for batch in batches)
    assert cost == _least_cost(sorted(lengths, reverse=True), token_budget)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(4, 300),
    st.integers(300, 3000),
    st.none() | st.integers(1, 40),
    st.sampled_from([1, 2, 8]),
)
def test_as_many_texts_as_a_step_has_rows_are_one_batch(length, token_budget, max_rows, multiple):
    options = dict(token_budget=token_budget, max_rows=max_rows, multiple=multiple)
    for rows in row_ladder(length, **options):  # so every program can be compiled beforehand
        (batch,) = plan(np.full(rows, length), max_length=length, **options)
        assert batch[1:3] == (rows, length)


def test_a_few_mixed_texts_need_few_shapes():
    lengths = np.random.default_rng(0).permutation([250] * 40 + [17] * 160)
    assert len({batch[1:3] for batch in plan(lengths, max_length=256, token_budget=1024)}) <= 4


@pytest.mark.weights
def test_padding_of_8000_real_sentences_stays_under_15_percent():
    tokens = Tokenizer.from_folder(find_folder(), max_length=256)(docstring_sentences(8000)[:8000])
    batches = plan(tokens.lengths, max_length=256, token_budget=1024)
    assert len(tokens.lengths) == 8000
    assert padding_share(tokens.lengths, batches) < 0.15
