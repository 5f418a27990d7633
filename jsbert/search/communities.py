"""Find groups of vectors around a common centre."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Num
from tqdm.auto import tqdm

from jsbert.arrays import AnyArray, normalize
from jsbert.search.nearest import block, checked_vectors


def communities(
    embeddings: Num[AnyArray, "rows dim"],
    *,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Find disjoint groups of rows whose cosine to a central row is at least `threshold`. Return
    the groups' row indices, largest group first.

    Every row is a possible centre. Centres with larger neighbourhoods form their groups first, and
    each row joins one group. A group lists its centre first, then the other rows by falling cosine.

    Memory: `batch_size` rows of the N x N cosines at a time, and the neighbourhood of every
    possible centre with 4 bytes for each member. If all rows are similar, that is 4 N^2 bytes.

    Reference: sentence_transformers.util.community_detection.

    Args:
        embeddings: (N, D).
        threshold: the smallest cosine to the centre, -1 to 1.
        min_community_size: the smallest group that is returned.
        batch_size: the number of rows compared at a time.
        show_progress_bar: show the number of rows done.
    """
    if len(embeddings) == 0:
        return []
    embeddings = checked_vectors(embeddings, "embeddings")
    num_rows = len(embeddings)
    if num_rows < min_community_size:
        return []
    # Find the neighbourhood of each row that has enough neighbours to be a centre.
    everything = normalize(jnp.asarray(embeddings, jnp.float32))
    batch_size = min(batch_size, num_rows)
    candidates: list[tuple[int, np.ndarray]] = []
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
    # Form groups, the largest neighbourhoods first, from rows that are not in a group yet.
    candidates.sort(key=lambda candidate: -len(candidate[1]))
    taken = np.zeros(num_rows, bool)
    found: list[list[int]] = []
    for centre, members in candidates:
        free = members[~taken[members]]
        if not taken[centre] and len(free) >= min_community_size:
            found.append([centre, *free[free != centre].tolist()])
            taken[found[-1]] = True
    return sorted(found, key=len, reverse=True)


@jax.jit
def _scores(rows: jax.Array, everything: jax.Array) -> jax.Array:
    return jnp.matmul(rows, everything.T, precision="highest")
