"""Search in a folder of `jsbert embed` equals search in an array."""

import numpy as np
import pytest

from jsbert import search
from jsbert.corpus import folder
from jsbert.embed import embed_corpus
from jsbert.quantization import calibration_ranges, quantize_embeddings
from tests.stand_in import DIM, StandIn


class Random(StandIn):
    """Vectors of the texts, as numbers or as codes."""

    def encode_document(self, inputs, **options):
        vectors = super().encode_document(inputs, **options)
        return quantize_embeddings(vectors, options["precision"], options["ranges"])


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A function that embeds 130 texts, some of them equal, into six shards of several blocks."""
    monkeypatch.setattr(folder, "GROUP", 7)
    texts = [f"text {number % 100}" for number in range(130)]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    vectors = StandIn().encode_document(texts, truncate_dim=None)

    def made(precision="float32", format="parquet"):
        ranges = calibration_ranges(vectors) if "int" in precision else None
        embed_corpus(
            tmp_path / "a.txt",
            tmp_path / f"{precision}-{format}",
            Random(),
            shard_rows=25,
            precision=precision,
            ranges=ranges,
            format=format,
            keep_text=True,
        )
        return search.open_corpus(tmp_path / f"{precision}-{format}"), vectors, ranges

    return made


@pytest.mark.parametrize("format", ["parquet", "npy"])
@pytest.mark.parametrize("similarity", [None, "dot", "euclidean"])
@pytest.mark.parametrize("k", [1, 9, 200])
def test_search_in_the_folder_is_search_in_the_array(stored, k, similarity, format):
    corpus, vectors, _ = stored(format=format)
    queries = np.random.default_rng(0).standard_normal((5, DIM)).astype(np.float32)
    found = corpus.top_k(queries, k, similarity=similarity)
    wanted = search.top_k(queries, vectors, k, similarity=similarity or "cosine")
    assert found.indices.dtype == np.int64
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)
    assert corpus.texts(found.indices[:, :1]) == [[f"text {i[0] % 100}"] for i in wanted.indices]
    assert corpus.top_k(queries[0], k).scores.shape == (1, min(k, 130))


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_search_in_stored_bytes_is_search_in_the_codes(stored, precision):
    corpus, vectors, ranges = stored(precision)
    queries = np.random.default_rng(0).standard_normal((5, DIM)).astype(np.float32)
    codes = quantize_embeddings(vectors, precision, ranges)
    wanted = search.top_k_quantized(queries, codes, 9, precision=precision, ranges=ranges)
    found = corpus.top_k(queries, 9)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)


def test_bits_and_halves_are_searched_too(stored):
    queries = StandIn().encode_document(["text 3", "text 40"], truncate_dim=None)
    corpus, vectors, _ = stored("float16")
    wanted = search.top_k(queries, vectors.astype(np.float16), 6)
    np.testing.assert_array_equal(corpus.top_k(queries, 6).indices, wanted.indices)
    corpus, vectors, _ = stored("ubinary")
    signs = np.where(vectors > 0, 1, -1).astype(np.float32)
    exact = search.top_k(queries, signs, 130, similarity="dot").scores
    found = corpus.top_k(queries, 6)
    np.testing.assert_allclose(found.scores, exact[:, :6], atol=1e-5)


def test_what_does_not_fit_is_refused(stored):
    corpus, vectors, _ = stored()
    coded, _, _ = stored("ubinary")
    with pytest.raises(ValueError, match="queries have 3 dimensions, and the corpus has 8"):
        corpus.top_k(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="k is 0"):
        corpus.top_k(vectors[0], 0)
    with pytest.raises(ValueError, match="codes are compared by dot products; given 'cosine'"):
        coded.top_k(vectors[0], similarity="cosine")
    one = search.top_k(vectors[:2], vectors, 3)
    with pytest.raises(ValueError, match="give at least one"):
        search.merge_top_k([], 3)
    with pytest.raises(ValueError, match="all for the same queries"):
        search.merge_top_k([one, search.top_k(vectors[:3], vectors, 3)], 3)


def test_the_best_of_parts_are_the_best_of_the_whole():
    generator = np.random.default_rng(1)
    queries, corpus = generator.standard_normal((4, 6)), generator.integers(0, 3, (50, 6)) * 1.0
    parts = [search.top_k(queries, corpus[start : start + 20], 12) for start in (0, 20, 40)]
    found = search.merge_top_k(parts[::-1], 12, firsts=[40, 20, 0])
    wanted = search.top_k(queries, corpus, 12)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    np.testing.assert_array_equal(found.indices, wanted.indices)


def test_scores_from_elsewhere_are_merged_and_nan_comes_last():
    parts = [
        search.TopK(np.float32([scores]), np.array([[0, 1]])) for scores in ([np.nan, 1], [2, 0])
    ]
    assert search.merge_top_k(parts, 4, firsts=[0, 10]).indices.tolist() == [[10, 1, 11, 0]]
