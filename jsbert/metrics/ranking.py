"""Measures of a ranking.

There are two kinds of input. The functions `..._at_k` take ranked lists: `relevant` (Q, K) says
whether the result of each query at each rank is relevant, best first. A list shorter than k counts
as if irrelevant results followed. The other functions take scores of one query's documents, in any
order; there the order of documents with equal scores has no influence.

Each result is for one query, 0 to 1; a query without relevant documents gets 0. The means over
queries are known as MRR, MAP and so on.
"""

import numpy as np
from jaxtyping import Float

Column = Float[np.ndarray, " queries"]


def hit_at_k(relevant, k: int) -> Column:
    """1 if one of the first `k` results is relevant, else 0. The mean is sentence-transformers'
    accuracy@k."""
    return _first(relevant, k).any(axis=1).astype(np.float64)


def precision_at_k(relevant, k: int) -> Column:
    """The number of relevant results among the first `k`, divided by k, also if the list is
    shorter.

    >>> precision_at_k([[True, False, True]], 2).tolist()
    [0.5]
    """
    return _first(relevant, k).sum(axis=1) / k


def recall_at_k(relevant, num_relevant, k: int) -> Column:
    """The share of a query's relevant documents that are among the first `k` results;
    `num_relevant` (Q,) is their number."""
    return _first(relevant, k).sum(axis=1) / np.maximum(num_relevant, 1)


def reciprocal_rank_at_k(relevant, k: int) -> Column:
    """1 / the rank of the first relevant result; 0 if no relevant result is among the first `k`.

    >>> reciprocal_rank_at_k([[False, True, True], [False, False, False]], 3).tolist()
    [0.5, 0.0]
    """
    relevant = _first(relevant, k)
    return (relevant / _ranks(relevant)).max(axis=1, initial=0)


def average_precision_at_k(relevant, num_relevant, k: int) -> Column:
    """The sum of the precisions at each relevant result among the first `k`, divided by min(k,
    num_relevant); `num_relevant` is (Q,).

    >>> average_precision_at_k([[True, False, True]], [2], 3).tolist()
    [0.8333333333333333]
    """
    relevant = _first(relevant, k)
    total = np.sum(relevant * np.cumsum(relevant, axis=1) / _ranks(relevant), axis=1)
    return total / np.clip(num_relevant, 1, k)


def ndcg_at_k(relevant, num_relevant, k: int) -> Column:
    """The discounted gain of the first `k` results, divided by that of the best ranking.

    A relevant result gains 1 / log2(rank + 1). The best ranking begins with all `num_relevant` (Q,)
    relevant documents.

    >>> ndcg_at_k([[True, True, False], [False, True, False]], [2, 1], 3).round(4).tolist()
    [1.0, 0.6309]
    """
    relevant = _first(relevant, k)
    gained = np.sum(relevant / np.log2(_ranks(relevant) + 1), axis=1)
    best = np.cumsum(_discounts(k))[np.clip(num_relevant, 1, k) - 1]
    return gained / best


def reciprocal_rank(relevant, scores, *, k: int) -> float:
    """1 / the rank of the best relevant document; 0 if that rank is above `k`. Among documents with
    equal scores the irrelevant ones rank first.

    Args:
        relevant: (N,), whether each document is relevant.
        scores: (N,), the score of each document.
        k: the number of ranks that count.

    >>> reciprocal_rank([1, 0, 0], [0.5, 0.5, 0.1], k=10)
    0.5
    """
    relevant, scores = _documents(relevant, scores)
    if not relevant.any():
        return 0.0
    rank = 1 + int(np.sum(~relevant & (scores >= scores[relevant].max())))
    return 1 / rank if rank <= k else 0.0


def ndcg(relevant, scores, *, k: int) -> float:
    """nDCG of the `k` documents with the highest scores, averaged over all orders of equal scores.
    The arguments are those of `reciprocal_rank`.

    Reference: McSherry and Najork 2008; scikit-learn's ndcg_score.

    >>> round(ndcg([1, 0], [0.5, 0.5], k=10), 4)  # half of 1, half of 1 / log2(3)
    0.8155
    """
    relevant, scores = _documents(relevant, scores)
    if not relevant.any():
        return 0.0
    discounts = np.zeros(len(scores))
    discounts[:k] = _discounts(min(k, len(scores)))
    _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    discount = np.add.reduceat(discounts, np.cumsum(sizes) - sizes) / sizes
    return float(discount[group[relevant]].sum() / discounts[: relevant.sum()].sum())


def _first(relevant, k):
    relevant = np.asarray(relevant, bool)
    if relevant.ndim != 2:
        raise ValueError(
            f"relevant has shape {relevant.shape}; give one row of ranks a query, (Q, K)"
        )
    if k < 1:
        raise ValueError(f"k is {k!r}; it must be a positive integer")
    return relevant[:, :k]


def _ranks(relevant):
    return np.arange(1, relevant.shape[1] + 1)[None]


def _discounts(k):
    return 1 / np.log2(np.arange(2, k + 2))


def _documents(relevant, scores):
    relevant, scores = np.asarray(relevant, bool), np.asarray(scores, np.float64)
    if relevant.ndim != 1 or relevant.shape != scores.shape:
        raise ValueError(
            f"relevant and scores have shapes {relevant.shape} and {scores.shape}; give two columns"
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity; they must be finite")
    return relevant, scores
