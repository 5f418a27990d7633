"""Exact search in a folder that `jsbert embed` wrote, and the best of several searches."""

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike

from jsbert.corpus import Embeddings
from jsbert.search.nearest import TopK, check_count, checked_vectors, top_k
from jsbert.search.quantized import top_k_quantized


class StoredCorpus(Embeddings):
    """A folder of embedded texts that can be searched. One block of vectors is in memory at a
    time."""

    def top_k(self, queries: ArrayLike, k: int = 10, *, similarity: str | None = None) -> TopK:
        """Return the `k` best rows for each query, best first, ties by lower place. All vectors are
        read once, whatever the number of queries.

        Args:
            queries: float vectors (Q, D), or one (D,), from the same model.
            k: matches wanted; with k > N all N come back.
            similarity: "cosine" (default), "dot", "euclidean" or "manhattan". Codes are compared by
                the dot product with what they stand for, and take no other; of bits, only the best
                4 * k of each block are, by the number of equal bits.

        Returns:
            scores (Q, min(k, N)) float32 and places (Q, min(k, N)) int64. `ids` and `texts` say
            what is at these places.

        Raises:
            ValueError: as `jsbert.search.top_k`, and if a file is broken.
        """
        check_count("k", k)
        asking = checked_vectors(queries, "queries")
        if asking.shape[1] != self.dim:
            raise ValueError(
                f"queries have {asking.shape[1]} dimensions, and the corpus has {self.dim}"
            )
        is_coded = self.precision not in ("float32", "float16")
        if is_coded and similarity not in (None, "dot"):
            raise ValueError(f"codes are compared by dot products; given {similarity!r}")
        best = TopK(np.zeros((len(asking), 0), np.float32), np.zeros((len(asking), 0), np.int64))
        for block in self.blocks():
            if is_coded:
                precision, ranges = self.precision, self.ranges
                found = top_k_quantized(
                    asking,
                    block.vectors,
                    k,
                    precision=precision,  # type: ignore[arg-type]
                    ranges=ranges,
                )
            else:
                found = top_k(asking, block.vectors, k, similarity=similarity or "cosine")
            best = merge_top_k([best, found], k, firsts=[0, block.first])
        return best


def open_corpus(folder: str | os.PathLike) -> StoredCorpus:
    """Open the folder that `jsbert embed` wrote, to search it.

    Raises:
        FileNotFoundError: if the folder is not finished, or is none of `jsbert embed`.
        ValueError: if a file is missing or has another size than when it was written.
    """
    return StoredCorpus(folder)


def merge_top_k(results: Sequence[TopK], k: int, *, firsts: Sequence[int] | None = None) -> TopK:
    """Return the `k` best of several searches for the same queries, best first, ties by lower
    index: of parts of a corpus, maybe on several machines.

    Args:
        results: at least one, with the same number of queries.
        k: matches wanted; all that there are if they are fewer.
        firsts: the index in the whole corpus of each part's first row; without it the indices are
            those of the whole corpus already.

    Raises:
        ValueError: if there are no results, or their numbers do not fit.

    >>> import numpy as np
    >>> one, two = (TopK(np.float32([[score, 0]]), np.array([[7, 3]])) for score in (1, 2))
    >>> merge_top_k([one, two], 3, firsts=[0, 10]).indices.tolist()
    [[17, 7, 3]]
    """
    check_count("k", k)
    firsts = [0] * len(results) if firsts is None else firsts
    sizes = {len(result.scores) for result in results}
    if len(sizes) != 1 or len(firsts) != len(results):
        raise ValueError(
            f"results of {sorted(sizes)} queries with {len(firsts)} firsts; give at least one, all "
            "for the same queries, and a first for each"
        )
    scores = np.concatenate([result.scores for result in results], axis=1)
    indices = np.concatenate(
        [
            result.indices.astype(np.int64) + first
            for result, first in zip(results, firsts, strict=True)
        ],
        axis=1,
    )
    order = np.lexsort((indices, -scores), axis=1)[:, :k]
    return TopK(np.take_along_axis(scores, order, 1), np.take_along_axis(indices, order, 1))
