"""Search for the k nearest vectors in a corpus of codes, with float queries."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

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
"""The number of queries and of corpus rows in one block of bits. Choosing the best rows takes as
long as comparing the bits, and wide blocks leave fewer rows to choose from. Of eight shapes this
one was the fastest on two cores: it took a third of the time of `top_k`'s shape."""

RESCORED = 64
"""The number of queries whose candidates are rescored together."""


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
    """Return the `k` rows of a corpus of codes with the highest dot products with each of
    `queries`, ties by lower index.

    The search has two passes:

    1. Score the whole corpus. Bytes are scored by the dot product of the query with the dequantised
       vectors, bits by the Hamming distance to the query's bits.
    2. Rescore the best k * `rescore_multiplier` rows by the dot product of the query with the
       vectors in `corpus_float`. Without `corpus_float`, bits are rescored with their vectors of 1
       and -1, and bytes are not rescored.

    If all vectors have length 1, the scores are cosines. The exception is bits without
    `corpus_float`: their scores are sqrt(D) times the cosine with the vector of signs.

    Args:
        queries: float vectors (Q, D), or one (D,).
        corpus: codes of `quantize_embeddings`, (N, D) or (N, ceil(D / 8)), NumPy or JAX. A memory
            map is read block by block.
        k: the number of matches wanted; with k > N all N are returned.
        precision: the precision of the corpus: "int8", "uint8", "binary" or "ubinary".
        ranges: for "int8" and "uint8": the ranges of the corpus, (2, D).
        rescore_multiplier: the number of rows to rescore, as a multiple of k.
        corpus_float: the vectors from which the codes were made, (N, D). Of a memory map only the
            rows to rescore are read.

    Returns:
        scores (Q, min(k, N)) float32 and indices (Q, min(k, N)) int32, best first.

    Raises:
        ValueError: if shapes, dtypes or ranges do not fit each other, k or rescore_multiplier is
            below 1, or an entry is not finite.

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
    # First pass: score the whole corpus.
    search = functools.partial(scan, queries=queries, corpus=corpus, dtype=corpus.dtype)
    if precision in ("int8", "uint8"):
        spans = jnp.asarray(checked_ranges(ranges, queries.shape[1], precision))
        search = functools.partial(
            search, BYTE_SCORES[precision], prepare=lambda rows: (rows, spans)
        )
        if corpus_float is None:
            return search(k=k)
    else:
        coded = functools.partial(_coded, precision=precision)
        search = functools.partial(search, _minus_hamming, prepare=coded, rows=BIT_ROWS)
    candidates = search(k=num_candidates).indices
    # Second pass: rescore the candidates.
    if corpus_float is None:
        return _best_of(candidates, queries, corpus, precision, k)
    return _best_of(candidates, queries, corpus_float, "float32", k)


def _byte_score(
    precision: Precision, prepared: tuple[jax.Array, jax.Array], codes: jax.Array
) -> jax.Array:
    queries, ranges = prepared
    return dot_score(queries, dequantize_embeddings(codes, precision, ranges))


BYTE_SCORES: Mapping[str, Callable] = {
    "int8": functools.partial(_byte_score, "int8"),
    "uint8": functools.partial(_byte_score, "uint8"),
}
"""The functions that score (queries, ranges) with a block of codes. The product is computed in
float32. On two cores, with jax 0.10 and 0.12, a product in int8 took two to three times as long,
and a product in bfloat16 took as long."""

_coded = jax.jit(quantize_embeddings, static_argnames="precision")


def _minus_hamming(queries: jax.Array, codes: jax.Array) -> jax.Array:
    """Return minus the number of differing bits. The function compares one query at a time, in
    words of 32 bits. On a CPU this takes an eighth of the time of a product of matrices of 1 and
    -1."""
    corpus = _words(codes).T

    def distances(query: jax.Array) -> jax.Array:
        return jnp.sum(jax.lax.population_count(query[:, None] ^ corpus), axis=0)

    return -jax.lax.map(distances, _words(queries)).astype(jnp.float32)


def _words(codes: jax.Array) -> jax.Array:
    """Return bytes (N, W) as uint32 (N, ceil(W / 4))."""
    padded = jnp.pad(codes, ((0, 0), (0, -codes.shape[1] % 4)))
    return jax.lax.bitcast_convert_type(padded.reshape(len(codes), -1, 4), jnp.uint32)


def _best_of(
    candidates: np.ndarray, queries: AnyArray, held: AnyArray, precision: Precision, k: int
) -> TopK:
    """Return the `k` candidates (Q, C) of each query with the highest dot products with the query.
    `held` holds the vectors of the corpus as codes of `precision`."""
    num_queries, k = len(queries), min(k, candidates.shape[1])
    results = TopK(np.zeros((num_queries, k), np.float32), np.zeros((num_queries, k), np.int32))
    rows = block_rows(num_queries, RESCORED)
    for start in range(0, num_queries, rows):
        stop = min(start + rows, num_queries)
        # Sorted, because `lax.top_k` takes the first of equal scores: that is the lower index.
        places = np.sort(candidates[start:stop], axis=1)
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
def _chosen(
    queries: jax.Array, vectors: jax.Array, k: int, precision: Precision
) -> tuple[jax.Array, jax.Array]:
    """Return (scores, columns) of the k best of each query's candidate vectors (Q, C, D)."""
    vectors = dequantize_embeddings(vectors, precision, dim=queries.shape[1])
    return jax.lax.top_k(jnp.einsum("qd,qcd->qc", queries, vectors, precision="highest"), k)


def _check_codes(queries: AnyArray, corpus: AnyArray, precision: Precision) -> None:
    """Raise ValueError unless the corpus holds codes of `precision` that fit the queries."""
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
            f"dimensions and {precision!r} need {wanted} of shape (N, {width}), as "
            "quantize_embeddings gives"
        )


def _checked_originals(vectors: AnyArray, shape: tuple[int, int]) -> AnyArray:
    """Return the float vectors as an array. Raise ValueError if they have another shape."""
    vectors = vectors if isinstance(vectors, (np.ndarray, jax.Array)) else np.asarray(vectors)
    if vectors.shape != shape:
        raise ValueError(
            f"corpus_float has shape {vectors.shape}; the corpus' codes are of {shape}"
        )
    return vectors
