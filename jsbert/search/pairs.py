"""Pairs of one set of vectors that are close to each other."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Int

from jsbert.search.nearest import (
    block,
    block_rows,
    check_count,
    checked_vectors,
    normalize_block,
    top_k,
)

ROWS = 2048
"""Rows and columns of one block of similarities, 16 MB."""

NEIGHBOURS = 2**22
"""Neighbours looked through at a time, which takes some 330 MB."""


class Pair(NamedTuple):
    """A pair of rows, first < second."""

    score: float
    first: int
    second: int


class Pairs(NamedTuple):
    """Pairs of rows, closest first, firsts < seconds."""

    scores: Float[np.ndarray, " pairs"]
    firsts: Int[np.ndarray, " pairs"]
    seconds: Int[np.ndarray, " pairs"]


def most_similar_pair(embeddings: ArrayLike) -> Pair:
    """The two rows of `embeddings` (N, D) with the highest cosine; of equals the lowest first, then
    the lowest second.

    N(N-1)/2 cosines, computed block by block above the diagonal.

    Raises:
        ValueError: for fewer than two rows, or entries that are not finite.

    >>> import numpy as np
    >>> most_similar_pair(np.float32([[1, 0], [0, 1], [2, 0]]))
    Pair(score=1.0, first=0, second=2)
    """
    embeddings = checked_vectors(embeddings, "embeddings")
    if len(embeddings) < 2:
        raise ValueError(f"a pair needs two vectors; given {len(embeddings)}")
    rows = block_rows(len(embeddings), ROWS)
    blocks = [
        normalize_block(block(embeddings, start, rows)) for start in range(0, len(embeddings), rows)
    ]
    found = [
        _best_in_block(blocks[i], blocks[j], i * rows, j * rows, len(embeddings))
        for i in range(len(blocks))
        for j in range(i, len(blocks))
    ]
    score, first, second = min(((-float(s), int(i), int(j)) for s, i, j in jax.device_get(found)))
    return Pair(-score, first, second)


def close_pairs(
    embeddings: ArrayLike, *, k: int = 100, max_pairs: int = 500_000, similarity: str = "cosine"
) -> Pairs:
    """The closest pairs among the `k` nearest neighbours of every row: at most `max_pairs`, ties by
    lower indices.

    Memory: `NEIGHBOURS` neighbours at a time, and the best pairs so far.

    Args:
        embeddings: (N, D).
        k: neighbours looked at for each row.
        max_pairs: pairs returned at most.
        similarity: as for `top_k`; must be symmetric, as all of these are.

    Raises:
        ValueError: as `top_k`.
    """
    embeddings = checked_vectors(embeddings, "embeddings")
    check_count("k", k)
    if len(embeddings) < 2:
        return Pairs(np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, np.int32))
    num_rows = max(1, NEIGHBOURS // min(k + 1, len(embeddings)))
    best, codes = (
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
    )  # a pair's code is first * N + second
    for start in range(0, len(embeddings), num_rows):
        rows = embeddings[start : start + num_rows]
        scores, neighbours = top_k(rows, embeddings, k + 1, similarity=similarity)
        itself = np.arange(start, start + len(rows))[:, None]
        others = neighbours != itself
        others &= (
            np.cumsum(others, axis=1) <= k
        )  # a row whose own index fell out among equals has one too many
        found = np.minimum(itself, neighbours) * len(embeddings) + np.maximum(itself, neighbours)
        best, codes = np.append(best, scores[others]), np.append(codes, found[others])
        order = np.lexsort((codes, -best))
        # Of a pair found from both its rows the better score counts: so what was left out before
        # changes nothing.
        once = np.sort(np.unique(codes[order], return_index=True)[1])[:max_pairs]
        best, codes = best[order[once]], codes[order[once]]
    firsts, seconds = np.divmod(codes, len(embeddings))
    return Pairs(best, firsts.astype(np.int32), seconds.astype(np.int32))


@jax.jit
def _best_in_block(a, b, row_start, column_start, num_rows):
    scores = jnp.matmul(a, b.T, precision="highest")
    rows = row_start + jnp.arange(len(a))[:, None]
    columns = column_start + jnp.arange(len(b))[None]
    scores = jnp.where((rows < columns) & (columns < num_rows), scores, -jnp.inf)
    place = jnp.argmax(scores)  # the first of equals, row by row
    return scores.reshape(-1)[place], row_start + place // len(b), column_start + place % len(b)
