"""Groups of vectors around a common centre."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike
from tqdm.auto import tqdm

from jsbert.arrays import normalize
from jsbert.search.nearest import block, checked_vectors


def communities(
    embeddings: ArrayLike,
    *,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Disjoint groups of rows whose cosine to a central row is at least `threshold`, largest first.

    Every row is a possible centre; centres with larger neighbourhoods are served first, and each
    row joins one group. A group lists its centre first, the others by falling cosine. Memory:
    `batch_size` rows of the N x N cosines at a time, and every possible centre's neighbourhood, 4
    bytes a member: 4 N^2 bytes where all rows are alike. Reference:
    sentence_transformers.util.community_detection.

    Args:
        embeddings: (N, D).
        threshold: the cosine, -1 to 1.
        min_community_size: smaller groups are left out.
        batch_size: rows compared at a time.
        show_progress_bar: show the rows done.
    """
    if len(embeddings) == 0:
        return []
    embeddings = checked_vectors(embeddings, "embeddings")
    num_rows = len(embeddings)
    if num_rows < min_community_size:
        return []
    everything = normalize(jnp.asarray(embeddings, jnp.float32))
    batch_size = min(batch_size, num_rows)
    candidates = []
    for start in tqdm(
        range(0, num_rows, batch_size), desc="communities", disable=not show_progress_bar
    ):
        scores = np.asarray(_scores(normalize(block(embeddings, start, batch_size)), everything))
        close = scores >= np.float32(threshold)
        for row in np.flatnonzero(close.sum(axis=1) >= min_community_size):
            if start + row < num_rows:
                members = np.flatnonzero(close[row])
                by_score = np.argsort(-scores[row, members], kind="stable")
                candidates.append((start + int(row), members[by_score].astype(np.int32)))
    candidates.sort(key=lambda candidate: -len(candidate[1]))
    taken, found = np.zeros(num_rows, bool), []
    for centre, members in candidates:
        free = members[~taken[members]]
        if not taken[centre] and len(free) >= min_community_size:
            found.append([centre, *free[free != centre].tolist()])
            taken[found[-1]] = True
    return sorted(found, key=len, reverse=True)


@jax.jit
def _scores(rows, everything):
    return jnp.matmul(rows, everything.T, precision="highest")
