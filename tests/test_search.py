"""Exact search against brute force; parity/ compares with sentence-transformers."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest

from jsbert import search
from jsbert.search import nearest, pairs


def brute_force(queries, corpus, k, similarity="cosine"):
    """Return (scores, indices) of all similarities sorted, ties by lower index, in float64."""
    queries, corpus = np.float64(queries), np.float64(corpus)
    if similarity == "cosine":
        queries, corpus = (
            x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
            for x in (queries, corpus)
        )
    if similarity in ("cosine", "dot"):
        scores = queries @ corpus.T
    else:
        scores = -np.linalg.norm(
            queries[:, None] - corpus[None],
            ord={"euclidean": 2, "manhattan": 1}[similarity],
            axis=-1,
        )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), order


@pytest.fixture
def small_blocks(monkeypatch):
    """Make blocks small, with sizes that divide no size here."""
    monkeypatch.setattr(nearest, "QUERIES", 8)
    monkeypatch.setattr(nearest, "CORPUS", 64)
    monkeypatch.setattr(nearest, "GROUP", 4)
    monkeypatch.setattr(pairs, "ROWS", 8)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize(
    "num_queries, num_corpus, k", [(1, 1, 1), (19, 203, 10), (8, 64, 64), (3, 50, 80)]
)
def test_top_k_equals_brute_force(small_blocks, similarity, num_queries, num_corpus, k):
    generator = np.random.default_rng(num_corpus)
    queries, corpus = (
        generator.standard_normal((num_queries, 9)),
        generator.standard_normal((num_corpus, 9)),
    )
    scores, indices = search.top_k(queries, corpus, k, similarity=similarity)
    assert scores.shape == indices.shape == (num_queries, min(k, num_corpus))
    assert (scores.dtype, indices.dtype) == (np.float32, np.int32)
    wanted = brute_force(queries, corpus, k, similarity)
    assert np.array_equal(indices, wanted[1])
    assert scores == pytest.approx(wanted[0], abs=1e-5)


def test_ties_go_to_the_lower_index_across_blocks(small_blocks):
    corpus = np.tile(np.float32([[1, 0], [0, 1], [1, 0]]), (60, 1))
    scores, indices = search.top_k(np.float32([[2, 0], [0, 3]]), corpus, 150)
    ones, zeros = np.flatnonzero(corpus[:, 0]), np.flatnonzero(corpus[:, 1])
    assert indices[0].tolist() == [*ones, *zeros][:150]
    assert indices[1].tolist() == [*zeros, *ones][:150]
    assert np.array_equal(scores[0], np.repeat([1, 0], [120, 30]))


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 7, 300])
def test_an_accelerators_large_blocks_give_the_same_to_the_bit(
    small_blocks, monkeypatch, similarity, k
):
    generator = np.random.default_rng(5)
    corpus = generator.integers(-2, 3, (700, 3)).astype(np.float32)  # full of ties
    queries = generator.integers(-2, 3, (11, 3)).astype(np.float32)
    wanted = search.top_k(queries, corpus, k, similarity=similarity)
    monkeypatch.setattr(nearest, "LARGE_GROUP", 8)
    monkeypatch.setattr(nearest, "_corpus_rows", lambda corpus: 512)
    for given in (corpus, jnp.asarray(corpus)):
        found = search.top_k(queries, given, k, similarity=similarity)
        assert np.array_equal(found.scores, wanted.scores)
        assert np.array_equal(found.indices, wanted.indices)


def test_products_that_overflow_are_not_taken_for_none(small_blocks):
    corpus = np.float32([[-3e38, -3e38], [1, 1], [-3e38, -3e38]])
    assert search.top_k(
        np.float32([[3e38, 3e38]]), corpus, 3, similarity="dot"
    ).indices.tolist() == [[1, 0, 2]]


def test_numpy_jax_lists_memory_maps_and_single_queries_are_all_taken(tmp_path):
    corpus = np.random.default_rng(0).standard_normal((30, 5)).astype(np.float32)
    np.save(tmp_path / "corpus.npy", corpus)
    wanted = search.top_k(corpus[:1], corpus, 3)
    for queries, where in [
        (corpus[0], corpus),
        (jnp.asarray(corpus[0]), jnp.asarray(corpus)),
        (corpus[0].tolist(), corpus.tolist()),
        (corpus[0], np.load(tmp_path / "corpus.npy", mmap_mode="r")),
        (corpus[0], np.asfortranarray(corpus)),
    ]:
        found = search.top_k(queries, where, 3)
        assert np.array_equal(found.indices, wanted.indices)
    assert search.top_k(corpus, np.zeros((0, 5)), 3).indices.shape == (30, 0)
    assert search.top_k(np.zeros((0, 5)), corpus, 3).scores.shape == (0, 3)


@pytest.mark.parametrize(
    "queries, corpus, options, message",
    [
        (np.ones((2, 3)), np.ones((2, 4)), {}, "queries have 3 dimensions, the corpus has 4"),
        (np.ones((2, 3)), np.ones((2, 3, 1)), {}, r"corpus must be numbers of shape \(N, D\)"),
        (np.array([["a"]]), np.ones((2, 1)), {}, "queries must be numbers"),
        (
            np.ones((2, 3)),
            np.full((2, 3), np.nan),
            {},
            "corpus hold NaN or infinity in the rows from 0 to 1",
        ),
        (np.full((2, 3), np.inf), np.ones((2, 3)), {}, "queries hold NaN or infinity"),
        (np.ones((2, 3)), np.ones((2, 3)), {"k": 0}, "k is 0"),
        (
            np.ones((2, 3)),
            np.ones((2, 3)),
            {"similarity": "jaccard"},
            "unknown similarity 'jaccard'",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(queries, corpus, options, message):
    with pytest.raises(ValueError, match=message):
        search.top_k(queries, corpus, **options)


@pytest.mark.parametrize("count", [2, 7, 8, 9, 100])
def test_the_most_similar_pair_equals_brute_force(small_blocks, count):
    vectors = np.random.default_rng(count).standard_normal((count, 6))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = np.where(np.triu(np.ones((count, count), bool), 1), unit @ unit.T, -np.inf)
    first, second = np.unravel_index(cosines.argmax(), cosines.shape)
    assert search.most_similar_pair(vectors) == (
        pytest.approx(cosines.max(), abs=1e-6),
        first,
        second,
    )


def test_of_equal_pairs_the_lowest_is_found_across_blocks(small_blocks):
    vectors = np.eye(40, dtype=np.float32)
    vectors[37] = vectors[3]
    vectors[6] = vectors[5]
    assert search.most_similar_pair(vectors)[1:] == (3, 37)  # in a later block than (5, 6)


def test_a_pair_needs_two():
    with pytest.raises(ValueError, match="a pair needs two vectors; given 1"):
        search.most_similar_pair(np.ones((1, 4)))


def test_close_pairs_are_sorted_distinct_and_capped():
    vectors = np.random.default_rng(4).standard_normal((30, 8))
    found = search.close_pairs(vectors, k=5, max_pairs=20)
    assert len(found.scores) == 20
    assert (np.diff(found.scores) <= 0).all()
    assert (found.firsts < found.seconds).all()
    assert len(set(zip(found.firsts, found.seconds, strict=True))) == 20
    assert search.most_similar_pair(vectors)[1:] == (found.firsts[0], found.seconds[0])
    assert len(search.close_pairs(vectors[:1]).scores) == 0


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "manhattan"])
def test_close_pairs_block_by_block_are_those_of_brute_force(monkeypatch, similarity):
    vectors = np.random.default_rng(6).standard_normal((41, 8))
    vectors[[7, 23, 40]] = vectors[3]
    monkeypatch.setattr(pairs, "NEIGHBOURS", 40)  # six rows a block, the last one five
    found = search.close_pairs(vectors, k=5, max_pairs=30, similarity=similarity)
    scores, indices = brute_force(vectors, vectors, len(vectors), similarity)
    wanted = {}
    for row, (of_row, neighbours) in enumerate(zip(scores, indices, strict=True)):
        others = neighbours != row
        for score, other in zip(of_row[others][:5], neighbours[others][:5], strict=True):
            wanted[min(row, other), max(row, other)] = score
    wanted = sorted(wanted.items(), key=lambda pair: (-np.round(pair[1], 9), pair[0]))[:30]
    assert list(zip(found.firsts, found.seconds, strict=True)) == [pair for pair, _ in wanted]
    assert found.scores == pytest.approx([score for _, score in wanted], abs=1e-5)
    monkeypatch.undo()
    for block, whole in zip(
        found, search.close_pairs(vectors, k=5, max_pairs=30, similarity=similarity), strict=True
    ):
        np.testing.assert_allclose(block, whole, atol=1e-6)


def test_close_pairs_take_the_memory_of_a_block(monkeypatch):
    monkeypatch.setattr(pairs, "NEIGHBOURS", 4000)

    def most_bytes(count):
        vectors = np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)
        search.close_pairs(vectors, k=40, max_pairs=100)  # the memory of compiling does not count
        tracemalloc.start()
        try:
            search.close_pairs(vectors, k=40, max_pairs=100)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert most_bytes(2000) < 2 * most_bytes(500)


def test_close_pairs_with_many_duplicates():
    found = search.close_pairs(np.ones((12, 3)), k=3)
    assert (found.firsts < found.seconds).all()
    assert np.allclose(found.scores, 1)


def test_communities_are_disjoint_and_close_to_their_centre():
    generator = np.random.default_rng(2)
    vectors = np.concatenate(
        [centre + 0.2 * generator.standard_normal((15, 7)) for centre in 2 * np.eye(7)[:4]]
    )
    found = search.communities(vectors, threshold=0.8, min_community_size=5)
    assert sorted(map(len, found), reverse=True) == [len(group) for group in found]
    members = [row for group in found for row in group]
    assert len(members) == len(set(members))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for group in found:
        assert (unit[group] @ unit[group[0]] >= 0.8 - 1e-6).all()
    assert search.communities(vectors[:3]) == []
    assert search.communities(np.zeros((0, 4))) == []


def test_one_query_on_the_device_is_a_row():
    corpus = jnp.asarray(np.eye(3, dtype=np.float32))
    assert search.top_k(corpus[1], corpus, 1).indices.tolist() == [[1]]
