"""Find pairs of vectors in one set that are close to each other."""

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
"""The number of rows and of columns of one block of similarities, which takes 16 MB."""

NEIGHBOURS = 2**22
"""The number of neighbours compared at a time, which takes about 330 MB."""


class Pair(NamedTuple):
    """A pair of rows and their similarity; first < second."""

    score: float
    first: int
    second: int


class Pairs(NamedTuple):
    """Pairs of rows and their similarities, closest first; firsts < seconds."""

    scores: Float[np.ndarray, " pairs"]
    firsts: Int[np.ndarray, " pairs"]
    seconds: Int[np.ndarray, " pairs"]


def most_similar_pair(embeddings: ArrayLike) -> Pair:
    """Return the two rows of `embeddings` (N, D) with the highest cosine. Ties go to the lowest
    `first`, then to the lowest `second`.

    The function computes N(N-1)/2 cosines, block by block above the diagonal.

    Raises:
        ValueError: if there are fewer than two rows, or an entry is not finite.

    >>> import numpy as np
    >>> most_similar_pair(np.float32([[1, 0], [0, 1], [2, 0]]))
    Pair(score=1.0, first=0, second=2)
    """
    vectors = checked_vectors(embeddings, "embeddings")
    if len(vectors) < 2:
        raise ValueError(f"a pair needs two vectors; given {len(vectors)}")
    rows = block_rows(len(vectors), ROWS)
    starts = range(0, len(vectors), rows)
    blocks = [normalize_block(block(vectors, start, rows)) for start in starts]
    found = [
        _best_in_block(blocks[i], blocks[j], i * rows, j * rows, len(vectors))
        for i in range(len(blocks))
        for j in range(i, len(blocks))
    ]
    score, first, second = min(((-float(s), int(i), int(j)) for s, i, j in jax.device_get(found)))
    return Pair(-score, first, second)


def close_pairs(
    embeddings: ArrayLike, *, k: int = 100, max_pairs: int = 500_000, similarity: str = "cosine"
) -> Pairs:
    """Return the closest pairs among the `k` nearest neighbours of every row. Ties go to the lower
    indices.

    Memory: `NEIGHBOURS` neighbours at a time, and the best pairs so far.

    Args:
        embeddings: (N, D).
        k: the number of neighbours of each row that are considered.
        max_pairs: the largest number of pairs returned.
        similarity: as for `top_k`. It must be symmetric, as all of them are.

    Raises:
        ValueError: as `top_k`.
    """
    vectors = checked_vectors(embeddings, "embeddings")
    num_vectors = len(vectors)
    check_count("k", k)
    if num_vectors < 2:
        return Pairs(np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, np.int32))
    num_rows = max(1, NEIGHBOURS // min(k + 1, num_vectors))
    # The best pairs so far: their scores, and their codes first * N + second.
    best, codes = np.zeros(0, np.float32), np.zeros(0, np.int64)
    for start in range(0, num_vectors, num_rows):
        # Find the k nearest other rows of each row. One more is searched, because a row is its own
        # neighbour. A row whose own index lost a tie has one neighbour too many.
        rows = vectors[start : start + num_rows]
        scores, neighbours = top_k(rows, vectors, k + 1, similarity=similarity)
        itself = np.arange(start, start + len(rows))[:, None]
        others = neighbours != itself
        others &= np.cumsum(others, axis=1) <= k
        found = np.minimum(itself, neighbours) * num_vectors + np.maximum(itself, neighbours)
        # Add the pairs to the best so far, and keep each pair once.
        best, codes = np.append(best, scores[others]), np.append(codes, found[others])
        order = np.lexsort((codes, -best))
        # A pair that was found from both rows keeps the better score. So a pair that was dropped
        # before cannot change the result.
        once = np.sort(np.unique(codes[order], return_index=True)[1])[:max_pairs]
        best, codes = best[order[once]], codes[order[once]]
    firsts, seconds = np.divmod(codes, num_vectors)
    return Pairs(best, firsts.astype(np.int32), seconds.astype(np.int32))


@jax.jit
def _best_in_block(
    a: jax.Array, b: jax.Array, row_start: int, column_start: int, num_rows: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return (score, first, second) of the best pair in a block above the diagonal."""
    scores = jnp.matmul(a, b.T, precision="highest")
    rows = row_start + jnp.arange(len(a))[:, None]
    columns = column_start + jnp.arange(len(b))[None]
    scores = jnp.where((rows < columns) & (columns < num_rows), scores, -jnp.inf)
    place = jnp.argmax(scores)  # argmax takes the first of equal scores, row by row
    return scores.reshape(-1)[place], row_start + place // len(b), column_start + place % len(b)
