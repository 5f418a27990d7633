"""The k nearest of a corpus of codes, with float queries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jsbert.arrays import AnyArray
from jsbert.quantization import (
    Precision,
    Ranges,
    checked_ranges,
    code_dtype,
    code_width,
    dequantize_embeddings,
    quantize_embeddings,
)
from jsbert.search.nearest import TopK, block, block_rows, check_count, checked_vectors, scan
from jsbert.similarity import dot_score

BIT_ROWS = 64, 16_384
"""Queries and rows of a corpus of bits in one block. Comparing bits takes no longer than choosing
the best, of which wide blocks leave less to do: of eight shapes the fastest on two cores, in a
third of the time of `top_k`'s."""

RESCORED = 64
"""Queries whose candidates are rescored together."""


def top_k_quantized(
    queries: Float[AnyArray, "queries dim"],
    corpus: Int[AnyArray, "corpus codes"],
    k: int = 10,
    *,
    precision: Precision,
    ranges: Ranges | None = None,
    rescore_multiplier: int = 4,
    corpus_float: Float[AnyArray, "corpus dim"] | None = None,
) -> TopK:
    """The `k` rows of a corpus of codes with the highest dot products with each of `queries`, ties
    by lower index.

    First all of the corpus is looked at: bytes by the dot product of the query with the vectors
    that they stand for, bits by the Hamming distance from the query's own. Of what is best by that,
    k * `rescore_multiplier`, the best are taken by the dot product of the query with the vectors in
    `corpus_float`; without these, bits by that with the vectors of 1 and -1 that they stand for,
    and bytes as they are. With vectors of length 1 the scores are cosines, but for bits without
    `corpus_float`: sqrt(D) times the cosine with the vector of signs.

    Args:
        queries: float vectors (Q, D), or one (D,).
        corpus: codes of `quantize_embeddings`, (N, D) or (N, ceil(D / 8)), NumPy (a memory map too:
            it is read block by block) or JAX.
        k: matches wanted; with k > N all N come back.
        precision: that of the corpus: "int8", "uint8", "binary" or "ubinary".
        ranges: those of the corpus, (2, D); for "int8" and "uint8".
        rescore_multiplier: how many times k are looked at twice.
        corpus_float: the vectors that were coded, (N, D); of a memory map only the rows that are
            looked at twice are read.

    Returns:
        scores (Q, min(k, N)) float32 and indices (Q, min(k, N)) int32, best first.

    Raises:
        ValueError: for shapes, dtypes or ranges that do not fit each other, k or rescore_multiplier
            < 1, or entries that are not finite.

    >>> import numpy as np
    >>> corpus = quantize_embeddings(np.float32([[1, 2], [-1, -2], [1, -2]]), "ubinary")
    >>> top_k_quantized(np.float32([1, -3]), corpus, 2, precision="ubinary").indices.tolist()
    [[2, 1]]
    """
    queries, corpus = checked_vectors(queries, "queries"), checked_vectors(corpus, "corpus")
    check_count("k", k)
    check_count("rescore_multiplier", rescore_multiplier)
    _check_codes(queries, corpus, precision)
    if corpus_float is not None:
        corpus_float = _checked_originals(corpus_float, (len(corpus), queries.shape[1]))
    k, num_candidates = int(k), int(k * rescore_multiplier)
    if precision in ("int8", "uint8"):
        ranges = jnp.asarray(checked_ranges(ranges, queries.shape[1], precision))
        score, how = BYTE_SCORES[precision], {"prepare": lambda rows: (rows, ranges)}
        if corpus_float is None:
            return scan(score, queries, corpus, k, dtype=corpus.dtype, **how)
    else:
        score, how = (
            _minus_hamming,
            {"prepare": functools.partial(_coded, precision=precision), "rows": BIT_ROWS},
        )
    candidates = scan(score, queries, corpus, num_candidates, dtype=corpus.dtype, **how).indices
    if corpus_float is None:
        return _best_of(candidates, queries, corpus, precision, k)
    return _best_of(candidates, queries, corpus_float, "float32", k)


def _byte_score(precision, prepared, codes):
    queries, ranges = prepared
    return dot_score(queries, dequantize_embeddings(codes, precision, ranges))


BYTE_SCORES = {
    precision: functools.partial(_byte_score, precision) for precision in ("int8", "uint8")
}
"""Scores of (queries, ranges) and a block of codes. On two cores, with jax 0.10 and 0.12, the
product of int8 took two to three times as long as this one of float32, that of bfloat16 as long."""

_coded = jax.jit(quantize_embeddings, static_argnames="precision")


def _minus_hamming(queries, codes):
    """Minus the number of differing bits, one query at a time over words of 32: on a CPU an eighth
    of the time of the product of matrices of 1 and -1."""
    corpus = _words(codes).T

    def distances(query):
        return jnp.sum(jax.lax.population_count(query[:, None] ^ corpus), axis=0)

    return -jax.lax.map(distances, _words(queries)).astype(jnp.float32)


def _words(codes):
    """Bytes (N, W) as uint32 (N, ceil(W / 4))."""
    padded = jnp.pad(codes, ((0, 0), (0, -codes.shape[1] % 4)))
    return jax.lax.bitcast_convert_type(padded.reshape(len(codes), -1, 4), jnp.uint32)


def _best_of(candidates, queries, held, precision, k):
    """The `k` of each query's candidates (Q, C) with the highest dot products with it; `held` has
    the vectors, in codes of `precision`."""
    num_queries, k = len(queries), min(k, candidates.shape[1])
    results = TopK(np.zeros((num_queries, k), np.float32), np.zeros((num_queries, k), np.int32))
    rows = block_rows(num_queries, RESCORED)
    for start in range(0, num_queries, rows):
        stop = min(start + rows, num_queries)
        places = np.sort(candidates[start:stop], axis=1)  # `lax.top_k` takes the first of equals
        filled = np.pad(places, ((0, rows - len(places)), (0, 0)))
        vectors = jnp.asarray(held[filled], code_dtype(precision))
        if precision == "float32" and not jnp.isfinite(vectors).all():
            raise ValueError("corpus_float holds NaN or infinity in rows that were looked at")
        scores, columns = _chosen(block(queries, start, rows), vectors, k, precision)
        results.scores[start:stop] = scores[: stop - start]
        results.indices[start:stop] = np.take_along_axis(
            places, np.asarray(columns[: stop - start]), axis=1
        )
    return results


@functools.partial(jax.jit, static_argnames=("k", "precision"))
def _chosen(queries, vectors, k, precision):
    vectors = dequantize_embeddings(vectors, precision, dim=queries.shape[1])
    return jax.lax.top_k(jnp.einsum("qd,qcd->qc", queries, vectors, precision="highest"), k)


def _check_codes(queries, corpus, precision):
    if precision == "float32":
        raise ValueError("a float32 corpus is searched by jsbert.search.top_k")
    if np.issubdtype(queries.dtype, np.integer):
        raise ValueError(
            f"queries are {queries.dtype}; give float vectors, for only the corpus is coded"
        )
    wanted, width = code_dtype(precision), code_width(queries.shape[1], precision)
    if corpus.dtype != wanted or corpus.shape[1] != width:
        raise ValueError(
            f"the corpus is {corpus.dtype} of shape {corpus.shape}; queries of {queries.shape[1]} "
            "dimensions and "
            f"{precision!r} need {wanted} of shape (N, {width}), as quantize_embeddings gives"
        )


def _checked_originals(vectors, shape):
    vectors = vectors if isinstance(vectors, (np.ndarray, jax.Array)) else np.asarray(vectors)
    if vectors.shape != shape:
        raise ValueError(
            f"corpus_float has shape {vectors.shape}; the corpus' codes are of {shape}"
        )
    return vectors
