"""The k nearest of a corpus for each query."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, DTypeLike, Float, Int, Num

from jsbert.arrays import AnyArray, normalize
from jsbert.similarity import SIMILARITIES, dot_score

QUERIES, CORPUS = 1024, 4096
"""Rows of one block on a CPU: its similarities take 16 MB. With 32 MB the product takes a third
longer."""

LARGE = 131_072
"""Rows of the corpus in a block on an accelerator. Its similarities take 512 MB, and a million rows
take 8 launches in place of 245."""

GROUP, LARGE_GROUP = 16, 128
"""Neighbouring columns of a block of which only the largest is looked at first; those of a large
block."""


class TopK(NamedTuple):
    """The best matches of each query, best first."""

    scores: Float[np.ndarray, "queries k"]
    indices: Int[np.ndarray, "queries k"]

    def __repr__(self) -> str:
        num_queries, k = self.scores.shape
        best = [
            f"{index}: {score:.4f}"
            for index, score in zip(self.indices[:1].flat, self.scores[:1].flat, strict=True)
        ]
        shown = ", ".join(best[:3] + ["..."] * (len(best) > 3))
        return f"TopK({num_queries} queries x {k}; of the first {{{shown}}})"


def top_k(
    queries: ArrayLike, corpus: ArrayLike, k: int = 10, *, similarity: str = "cosine"
) -> TopK:
    """The `k` most similar rows of `corpus` for each of `queries`: exact, best first, ties by lower
    index.

    Args:
        queries: (Q, D), or one query (D,).
        corpus: (N, D), NumPy (a memory map too: it is read block by block) or JAX.
        k: matches wanted; with k > N all N come back.
        similarity: "cosine", "dot", "euclidean" or "manhattan".

    Returns:
        scores (Q, min(k, N)) float32 and indices (Q, min(k, N)) int32.

    Raises:
        ValueError: for other shapes, k < 1, an unknown similarity, or entries that are not finite.

    >>> import numpy as np
    >>> scores, indices = top_k(np.float32([1, 0]), np.float32([[0, 1], [1, 1], [2, 0]]), k=2)
    >>> indices.tolist()
    [[2, 1]]
    """
    asking, searched = (
        checked_vectors(queries, "queries"),
        checked_vectors(corpus, "corpus"),
    )
    if asking.shape[1] != searched.shape[1]:
        raise ValueError(
            f"queries have {asking.shape[1]} dimensions, the corpus has {searched.shape[1]}"
        )
    check_count("k", k)
    if similarity not in SIMILARITIES:
        raise ValueError(f"unknown similarity {similarity!r}; supported: {', '.join(SIMILARITIES)}")
    if similarity == "cosine":
        return scan(cosine_to_units, asking, searched, int(k), prepare=normalize_block)
    return scan(SIMILARITIES[similarity][0], asking, searched, int(k))


def scan(
    score: Callable,
    queries: Float[AnyArray, "queries dim"],
    corpus: AnyArray,
    k: int,
    *,
    prepare: Callable = jnp.asarray,
    dtype: DTypeLike = jnp.float32,
    rows: tuple[int, int] | None = None,
) -> TopK:
    """The `k` rows of `corpus` with the highest scores for each of `queries`, best first, ties by
    lower index.

    Args:
        score: pure, hashable, the same object in each call: (a prepared block of q queries, n rows
            of the corpus) -> (q, n) float32.
        queries: (Q, D), read as float32.
        corpus: (N, ...), read block by block.
        k: matches wanted; with k > N all N come back.
        prepare: applied to each block of queries, once.
        dtype: in which blocks of the corpus go to the device.
        rows: queries and rows of the corpus in a block at most; by default `QUERIES`, and `CORPUS`
            or on accelerators `LARGE`.
    """
    num_queries, num_corpus, k = len(queries), len(corpus), min(k, len(corpus))
    results = TopK(np.zeros((num_queries, k), np.float32), np.zeros((num_queries, k), np.int32))
    if num_queries == 0 or k == 0:
        return results
    query_rows, corpus_rows = map(
        block_rows, (num_queries, num_corpus), rows or (QUERIES, _corpus_rows(corpus))
    )
    # Scan the corpus once if the running best of all queries fit beside it; they are small.
    starts = range(0, num_queries, query_rows)
    query_blocks = [prepare(block(queries, start, query_rows)) for start in starts]
    best = [
        (jnp.full((query_rows, k), -jnp.inf, jnp.float32), jnp.zeros((query_rows, k), jnp.int32))
        for _ in starts
    ]
    for start in range(0, num_corpus, corpus_rows):
        corpus_block, num_filled = (
            block(corpus, start, corpus_rows, dtype),
            min(corpus_rows, num_corpus - start),
        )
        best = [
            merge(
                score,
                query_block,
                corpus_block,
                running,
                start,
                num_filled,
                num_filled == corpus_rows,
            )
            for query_block, running in zip(query_blocks, best, strict=True)
        ]
    for start, (scores, indices) in zip(starts, best, strict=True):
        stop = min(start + query_rows, num_queries)
        results.scores[start:stop], results.indices[start:stop] = (
            scores[: stop - start],
            indices[: stop - start],
        )
    return results


@functools.partial(jax.jit, static_argnames=("score", "is_full"))
def merge(score, queries, corpus, best, start, num_filled, is_full):
    """The best of the best so far and a block, whose first `num_filled` rows are the corpus'."""
    scores, indices = best
    fresh = score(queries, corpus)
    if not is_full:
        fresh = jnp.where(jnp.arange(len(corpus))[None] < num_filled, fresh, -jnp.inf)
    fresh, columns = _leading_groups(fresh, scores.shape[1])
    # Not even a product that overflows may tie with what stands for "none yet".
    fresh = jnp.where(
        columns < num_filled, jnp.maximum(fresh, jnp.finfo(jnp.float32).min), -jnp.inf
    )
    # The best so far stand in front of the block: `lax.top_k` takes the first of equals, which is
    # the lower index.
    scores = jnp.concatenate([scores, fresh], axis=1)
    indices = jnp.concatenate([indices, start + columns], axis=1)
    scores, places = jax.lax.top_k(scores, best[0].shape[1])
    return scores, jnp.take_along_axis(indices, places, axis=1)


def _leading_groups(scores, k):
    """(scores, columns) of the `k` groups with the largest maxima: the k best are in them, and
    `lax.top_k`, which takes longer than the product where it has to look at every column, has less
    to look at."""
    rows, width = scores.shape
    group = GROUP if width <= CORPUS else LARGE_GROUP
    if width % group or k * group >= width:
        return scores, jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32)[None], scores.shape)
    grouped = scores.reshape(rows, -1, group)
    _, groups = jax.lax.top_k(grouped.max(axis=2), k)  # of equals the lower
    groups = jnp.sort(groups, axis=1)[:, :, None]
    columns = groups * group + jnp.arange(group, dtype=jnp.int32)[None, None]
    return jnp.take_along_axis(grouped, groups, axis=1).reshape(rows, -1), columns.reshape(rows, -1)


normalize_block = jax.jit(normalize)
"""`normalize`, compiled: the same for every block of a search."""


def cosine_to_units(queries, corpus):
    return dot_score(queries, normalize(corpus))


def check_count(name: str, value: int) -> None:
    """ValueError unless `value` is a positive integer."""
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a positive integer")


def checked_vectors(vectors: ArrayLike, name: str) -> Num[AnyArray, "rows dim"]:
    """`vectors` as a float32 (N, D) array where it lies (NumPy or JAX), one vector as (1, D);
    ValueError unless all finite."""
    given = vectors if isinstance(vectors, (np.ndarray, jax.Array)) else np.asarray(vectors)
    if given.ndim == 1 and given.size:
        given = given[None]
    if given.ndim != 2 or (
        not np.issubdtype(np.dtype(given.dtype).type, np.number) and given.dtype != jnp.bfloat16
    ):
        raise ValueError(
            f"{name} must be numbers of shape (N, D); given {given.dtype} of shape {given.shape}"
        )
    if np.issubdtype(given.dtype, np.integer):
        return given
    if isinstance(given, jax.Array) and bool(_all_finite(given)):
        return given  # the host has waited for the device once, not once a block
    for start in range(0, len(given), CORPUS):
        rows = given[start : start + CORPUS]
        if not bool((jnp if isinstance(rows, jax.Array) else np).isfinite(rows).all()):
            raise ValueError(
                f"{name} hold NaN or infinity in the rows from {start} to {start + len(rows) - 1}"
            )
    return given


@jax.jit
def _all_finite(vectors):
    return jnp.isfinite(vectors).all()


def _corpus_rows(corpus):
    device = next(iter(corpus.devices())) if isinstance(corpus, jax.Array) else jax.devices()[0]
    return CORPUS if device.platform == "cpu" else LARGE


def block_rows(num_rows: int, most: int) -> int:
    """Rows of a block: a power of 8 or `most`, so that inputs of every size share a few compiled
    programs."""
    rows = 8
    while rows < min(num_rows, most):
        rows *= 8
    return min(rows, most)


def block(vectors, start: int, rows: int, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """`rows` rows from `start` on the device, filled up with zeros."""
    part = jnp.asarray(vectors[start : start + rows], dtype)
    return part if len(part) == rows else jnp.pad(part, ((0, rows - len(part)), (0, 0)))
