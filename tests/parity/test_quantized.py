"""Codes and their search against sentence_transformers.util.quantization. A stand-in that compares
everything with everything replaces faiss, an optional library of sentence-transformers."""

import sys
import types

import numpy as np
import pytest
import sentence_transformers
import torch
from sentence_transformers.util import quantization as theirs

import jsbert
from jsbert import search
from jsbert.quantization import PRECISIONS, calibration_ranges, quantize_embeddings
from tests import models

TEXTS = models.sentences(150, seed=8)


def vectors(count, dim, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal((count, dim))).astype(np.float32)


def assert_same(found, wanted):
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("dim", [1, 13, 24, 64])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_codes_are_the_same_value_for_value(precision, dim, dtype):
    sample, embeddings = vectors(200, dim), vectors(100, dim, seed=1, scale=1.5).astype(dtype)
    sample[:, dim // 2] = 0.25  # all equal
    embeddings[:3] = sample[:3]
    embeddings[3, :] = 0
    ranges = np.vstack([sample.min(axis=0), sample.max(axis=0)])
    assert dim == 1 or (
        (embeddings < ranges[0]).any() and (embeddings > ranges[1]).any()
    )  # and neither overflows
    for options in ({"ranges": ranges}, {"calibration_embeddings": sample}):
        wanted = theirs.quantize_embeddings(embeddings, precision, **options)
        assert_same(quantize_embeddings(embeddings, precision, **options), wanted)
        assert_same(quantize_embeddings(list(embeddings), precision, **options), wanted)
        assert_same(quantize_embeddings(torch.tensor(embeddings), precision, **options), wanted)
        one = theirs.quantize_embeddings(embeddings[7], precision, **options)
        assert_same(quantize_embeddings(embeddings[7], precision, **options), one)
        none = theirs.quantize_embeddings(embeddings[:0], precision, **options)
        assert_same(quantize_embeddings(embeddings[:0], precision, **options), none)
    assert_same(
        quantize_embeddings(embeddings, precision, "batch"),
        theirs.quantize_embeddings(embeddings, precision),
    )
    tokens = [embeddings[:9], embeddings[9:12]]
    wanted = theirs.quantize_embeddings(tokens, precision)
    for found, matrix in zip(quantize_embeddings(tokens, precision, "batch"), wanted, strict=True):
        assert_same(found, matrix)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_encode_gives_the_same_codes(tiny, tiny_folder, precision):
    reference = sentence_transformers.SentenceTransformer(str(tiny_folder), device="cpu")
    options = {"truncate_dim": 13, "normalize_embeddings": True}
    floats = reference.encode(TEXTS, **options)
    found = tiny.encode(TEXTS, precision=precision, ranges="batch", on_truncate="ignore", **options)
    wanted = reference.encode(TEXTS, precision=precision, **options)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    if precision in ("binary", "ubinary"):
        bits = [np.unpackbits(codes.view(np.uint8), axis=1)[:, :13] for codes in (found, wanted)]
        clear = np.abs(floats) > 1e-5  # as far apart as float32 vectors may be
        assert clear.mean() > 0.99
        assert np.array_equal(*(of[clear] for of in bits))
    elif precision == "float32":
        assert np.abs(found - wanted).max() <= 1e-5
    else:
        differences = np.abs(found.astype(int) - wanted)
        assert differences.max() <= 1  # only at the edge of a bucket
        assert (differences > 0).mean() < 0.01


class Everything:
    """A stand-in for an index of faiss over codes: exact, ties by lower index."""

    def __init__(self, dim):
        self.d = dim

    def add(self, codes):
        self.codes = codes

    def reconstruct(self, index):
        return self.codes[index]

    def search(self, queries, k):
        if self.d == self.codes.shape[1]:
            order = -(queries.astype(float) @ self.codes.T.astype(float))
        else:
            order = np.unpackbits(queries[:, None] ^ self.codes[None], axis=-1).sum(axis=-1)
        indices = np.argsort(order, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(order, indices, axis=1), indices


@pytest.fixture
def faiss(monkeypatch):
    module = types.SimpleNamespace(IndexFlatIP=Everything, IndexBinaryFlat=Everything)
    monkeypatch.setitem(sys.modules, "faiss", module)


def their_search(queries, codes, **options):
    """Return (scores, indices) of semantic_search_faiss."""
    found, *_ = theirs.semantic_search_faiss(queries, codes, **options)
    return tuple(
        np.array([[hit[name] for hit in hits] for hits in found]) for name in ("score", "corpus_id")
    )


@pytest.mark.parametrize("multiplier", [1, 4])
def test_search_over_bits_finds_the_same(faiss, multiplier):
    queries, corpus = vectors(20, 32), vectors(500, 32, seed=1)
    codes = quantize_embeddings(corpus, "ubinary")
    options = {"top_k": 10, "rescore_multiplier": multiplier, "corpus_precision": "ubinary"}
    scores, indices = their_search(queries, codes, **options)
    found = search.top_k_quantized(
        queries, codes, 10, precision="ubinary", rescore_multiplier=multiplier
    )
    assert np.array_equal(found.indices, indices)
    # They multiply with 0 and 1, and we with -1 and 1. The order is the same.
    assert found.scores == pytest.approx(2 * scores - queries.sum(axis=1, keepdims=True), abs=1e-4)


def test_search_over_bytes_scores_the_same(faiss):
    queries, corpus = vectors(20, 24), vectors(90, 24, seed=1)
    ranges = calibration_ranges(vectors(300, 24, seed=2))
    codes = quantize_embeddings(corpus, "uint8", ranges)
    options = {"top_k": 90, "corpus_precision": "uint8", "ranges": ranges, "rescore_multiplier": 1}
    scores, indices = their_search(queries, codes, **options)
    found = search.top_k_quantized(queries, codes, 90, precision="uint8", ranges=ranges)
    assert (found.indices == indices).mean() > 0.99  # they sort by float64
    # They take the lower edge of a bucket, and we take the middle. All scores of a query differ by
    # the same amount.
    half = (queries @ (ranges[1] - ranges[0]) / 510)[:, None]
    assert found.scores == pytest.approx(scores + half, abs=1e-4)


def test_bytes_find_more_than_products_of_codes(faiss):
    """If codes are multiplied as they are, the offset of every bucket counts too. Before rescoring,
    such products find other vectors."""
    queries, corpus = vectors(50, 24), vectors(2000, 24, seed=1)
    ranges = calibration_ranges(corpus)
    codes = quantize_embeddings(corpus, "uint8", ranges)
    exact = search.top_k(queries, corpus, 10, similarity="dot").indices
    options = {"top_k": 10, "corpus_precision": "uint8", "ranges": ranges, "rescore_multiplier": 4}
    _, their_indices = their_search(queries, codes, **options)
    indices = search.top_k_quantized(queries, codes, 10, precision="uint8", ranges=ranges).indices
    ours, others = (
        np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, of, strict=True)])
        for of in (indices, their_indices)
    )
    assert ours > 0.95 > others


def test_their_names_are_here():
    assert jsbert.quantize_embeddings is jsbert.util.quantize_embeddings
    assert hasattr(sentence_transformers.util, "quantize_embeddings")
