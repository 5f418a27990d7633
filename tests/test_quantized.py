"""Search over codes against brute force, and its recall; parity/ compares with
sentence-transformers."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import quantized as benchmark
from jsbert import search
from jsbert.quantization import calibration_ranges, quantize_embeddings
from jsbert.search import nearest, quantized

BYTES, BITS = ("int8", "uint8"), ("binary", "ubinary")


def vectors(count, dim, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


@pytest.fixture
def small_blocks(monkeypatch):
    """Make blocks small, with sizes that divide no size here."""
    monkeypatch.setattr(nearest, "QUERIES", 8)
    monkeypatch.setattr(nearest, "CORPUS", 64)
    monkeypatch.setattr(nearest, "GROUP", 4)
    monkeypatch.setattr(quantized, "BIT_ROWS", (8, 64))
    monkeypatch.setattr(quantized, "RESCORED", 8)


def brute_force(queries, corpus, k, *, precision, ranges, rescore_multiplier, corpus_float):
    """Return (scores, indices) in float64 by sorting everything; signs and bytes are decoded with
    NumPy alone."""
    queries = np.float64(queries)
    if precision in BYTES:
        step = np.float64(ranges[1] - ranges[0]) / 255
        held = ranges[0] + (np.float64(corpus) + (128.5 if precision == "int8" else 0.5)) * step
        first = queries @ held.T
    else:
        bits = np.unpackbits(
            (corpus.astype(int) % 256 ^ (128 if precision == "binary" else 0)).astype(np.uint8),
            axis=1,
        )
        held = np.where(bits[:, : queries.shape[1]], 1.0, -1.0)
        first = -(np.sign(queries)[:, None] != held[None]).sum(axis=-1)
    candidates = np.argsort(-first, axis=1, kind="stable")[:, : k * rescore_multiplier]
    second = queries @ (held if corpus_float is None else np.float64(corpus_float)).T
    left_out = np.ones_like(second, bool)
    np.put_along_axis(left_out, candidates, False, axis=1)
    second[left_out] = -np.inf
    order = np.argsort(-second, axis=1, kind="stable")[:, : min(k, len(corpus))]
    return np.take_along_axis(second, order, axis=1), order


@pytest.mark.parametrize("with_floats", [False, True])
@pytest.mark.parametrize(
    "precision, num_queries, num_corpus, dim, k, multiplier",
    [
        ("int8", 19, 203, 37, 5, 3),
        ("uint8", 3, 50, 8, 30, 2),
        ("binary", 19, 203, 37, 5, 3),
        ("ubinary", 3, 50, 8, 30, 2),
    ],
)
def test_search_over_codes_equals_brute_force(
    small_blocks, precision, with_floats, num_queries, num_corpus, dim, k, multiplier
):
    queries, corpus = vectors(num_queries, dim), vectors(num_corpus, dim, seed=1)
    options = {"precision": precision, "rescore_multiplier": multiplier}
    options |= {
        "ranges": calibration_ranges(vectors(30, dim, seed=2)),
        "corpus_float": corpus if with_floats else None,
    }
    codes = quantize_embeddings(corpus, precision, options["ranges"])
    scores, indices = search.top_k_quantized(queries, codes, k, **options)
    wanted = brute_force(queries, codes, k, **options)
    assert (scores.dtype, indices.dtype, scores.shape) == (
        np.float32,
        np.int32,
        (num_queries, min(k, num_corpus)),
    )
    assert np.array_equal(indices, wanted[1])
    assert scores == pytest.approx(wanted[0], abs=1e-4)


@pytest.mark.parametrize("precision", [*BYTES, *BITS])
def test_ties_go_to_the_lower_index_across_blocks(small_blocks, precision):
    corpus = np.tile(np.float32([[1, -1], [-1, 1], [1, -1]]), (60, 1))
    codes = quantize_embeddings(corpus, precision, "batch")
    options = {
        "precision": precision,
        "ranges": calibration_ranges(corpus),
        "rescore_multiplier": 1,
    }
    for floats in (None, corpus):
        found = search.top_k_quantized(
            np.float32([[3, -1], [-2, 1]]), codes, 150, corpus_float=floats, **options
        )
        first, second = np.flatnonzero(corpus[:, 0] > 0), np.flatnonzero(corpus[:, 0] < 0)
        assert found.indices[0].tolist() == [*first, *second][:150]
        assert found.indices[1].tolist() == [*second, *first][:150]


@pytest.mark.parametrize("precision", ["int8", "binary"])
def test_memory_maps_jax_and_single_queries_are_all_taken(tmp_path, precision):
    queries, corpus = vectors(2, 12), vectors(40, 12, seed=1)
    options = {"precision": precision, "ranges": calibration_ranges(corpus)}
    codes = quantize_embeddings(corpus, precision, options["ranges"])
    np.save(tmp_path / "codes.npy", codes)
    np.save(tmp_path / "floats.npy", corpus)
    wanted = search.top_k_quantized(queries, codes, 3, corpus_float=corpus, **options).indices[:1]
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("codes", "floats")]
    for query, held, floats in [
        (queries[0], codes, corpus.astype(np.float64)),
        (queries[0].tolist(), *mapped),
        (jnp.asarray(queries[0]), jnp.asarray(codes), jnp.asarray(corpus)),
    ]:
        assert np.array_equal(
            search.top_k_quantized(query, held, 3, corpus_float=floats, **options).indices, wanted
        )
    for floats in (None, corpus):
        assert search.top_k_quantized(
            queries[:0], codes, 3, corpus_float=floats, **options
        ).scores.shape == (0, 3)
        empty = None if floats is None else floats[:0]
        assert search.top_k_quantized(
            queries, codes[:0], 3, corpus_float=empty, **options
        ).scores.shape == (2, 0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"precision": "float32"}, "searched by jsbert.search.top_k"),
        ({"precision": "int4"}, "precision is 'int4'"),
        (
            {"precision": "uint8"},
            r"corpus is int8 of shape \(9, 6\).*'uint8' need uint8 of shape \(N, 6\)",
        ),
        ({"precision": "binary"}, r"need int8 of shape \(N, 1\)"),
        ({"ranges": None}, "needs the ranges"),
        ({"queries": np.ones((1, 6), np.int8)}, "queries are int8; give float vectors"),
        ({"queries": np.ones((1, 5))}, "queries of 5 dimensions"),
        ({"queries": np.full((1, 6), np.nan)}, "queries hold NaN"),
        ({"k": 0}, "k is 0"),
        ({"rescore_multiplier": 1.5}, "rescore_multiplier is 1.5"),
        ({"corpus_float": np.ones((9, 5))}, r"corpus_float has shape \(9, 5\).*\(9, 6\)"),
        ({"corpus_float": np.full((9, 6), np.inf)}, "corpus_float holds NaN or infinity"),
    ],
)
def test_what_cannot_be_searched_is_refused(change, message):
    corpus = vectors(9, 6)
    ranges = calibration_ranges(corpus)
    codes = quantize_embeddings(corpus, "int8", ranges)
    options = {
        "queries": corpus[:1],
        "corpus": codes,
        "k": 2,
        "precision": "int8",
        "ranges": ranges,
    }
    with pytest.raises(ValueError, match=message):
        search.top_k_quantized(**options | change)


def test_recall_among_clusters():
    """Bytes find nearly all of the ten nearest, and bits find few of them. If the best 16 times ten
    are scored again with floats, bits find all of them."""
    generator = np.random.default_rng(5)
    centres = generator.standard_normal((60, 64))

    def draw(count):
        found = centres[generator.integers(60, size=count)] + 0.6 * generator.standard_normal(
            (count, 64)
        )
        return np.float32(found / np.linalg.norm(found, axis=1, keepdims=True))

    corpus, queries, ranges = draw(4000), draw(100), calibration_ranges(draw(500))
    exact = search.top_k(queries, corpus, 10).indices

    def recall(precision, multiplier, corpus_float=None):
        options = {"precision": precision, "ranges": ranges, "rescore_multiplier": multiplier}
        codes = quantize_embeddings(corpus, precision, ranges)
        found = search.top_k_quantized(
            queries, codes, 10, corpus_float=corpus_float, **options
        ).indices
        return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)])

    assert 0.9 < recall("int8", 1) < 1
    assert recall("int8", 4, corpus) > 0.999
    hamming, signs, floats, more = (
        recall("ubinary", 1),
        recall("ubinary", 4),
        recall("ubinary", 4, corpus),
        recall("ubinary", 16, corpus),
    )
    assert 0.3 < hamming < signs < 0.5
    assert 0.8 < floats < more
    assert more > 0.99


def test_the_benchmark_shows_bytes_recall_and_speed(tmp_path, tiny_folder, capsys):
    argv = f"--quick --model {tiny_folder} --out {tmp_path} --sentences 300 --queries 20".split()
    values = benchmark.main(argv)
    assert json.loads((tmp_path / "quantized.json").read_text())["rows"] == values["rows"]
    rows = {(row["precision"], row["rescored"]): row for row in values["rows"]}
    assert rows["float32", None]["recall_at_10"] == 1
    assert rows["float32", None]["bytes"] == 280 * 24 * 4
    assert rows["ubinary", "signs"]["bytes"] == 280 * 3
    assert rows["int8", None]["recall_at_10"] > 0.8
    assert rows["ubinary", "floats"]["recall_at_10"] > rows["ubinary", None]["recall_at_10"]
    assert all(row["queries_per_second"] > 0 for row in values["rows"])
    assert "recall@10" in capsys.readouterr().out
