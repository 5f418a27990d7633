"""Accuracy on the pairs of STSb test: the accuracy of scores, and of finding the counterpart of a
sentence among all sentences.

`benchmarks.tradeoff` uses this file; its docstring says what is counted.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jsbert import CrossEncoder, SentenceTransformer
from jsbert.metrics import spearman
from jsbert.search import top_k
from jsbert.similarity import pairwise_cos_sim

METHODS = ("untuned bi-encoder", "bi-encoder", "cross-encoder", "retrieve-then-rerank")

ALIKE = 4.0
"""The lowest score, of 0 to 5, of a pair that is to be found."""


class Finding(NamedTuple):
    """Sentences, and for the places of the queries the places of the right answers."""

    pool: list[str]
    queries: dict[int, set[int]]


def accuracies(
    untuned: SentenceTransformer,
    bi: SentenceTransformer,
    cross: CrossEncoder,
    pairs: tuple[Sequence[str], Sequence[str], Sequence[float]],
    *,
    k: int,
    exhaustive: int,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return ({method: its Spearman x 100 and accuracy@1}, counts of the finding).

    Args:
        untuned, bi, cross: the models.
        pairs: sentences1, sentences2 and scores, 0 to 5.
        k: the number of sentences that are retrieved for each query and then reranked.
        exhaustive: the most passes for which the cross-encoder alone runs on the whole pool; with
            more passes, its accuracy is None.
    """
    first, second, scores = pairs
    task = finding(first, second, scores)
    place = {text: i for i, text in enumerate(task.pool)}
    firsts, seconds = ([place[text] for text in column] for column in (first, second))
    results: dict[str, dict[str, Any]] = {}
    for name, model in zip(METHODS, (untuned, bi), strict=False):
        vectors = model.encode(task.pool)
        cosines, near = (
            np.asarray(pairwise_cos_sim(vectors[firsts], vectors[seconds])),
            nearest(vectors, k),
        )
        results[name] = _accuracy(
            task, scores, cosines, {query: int(near[query][0]) for query in task.queries}
        )
    retrieved = np.array([i == j or j in near[i] for i, j in zip(firsts, seconds, strict=True)])
    shortlists = {query: near[query] for query in task.queries}
    crossed, size = cross.predict(list(zip(first, second, strict=True))), len(task.pool)
    passes = {"bi-encoder": size, "cross-encoder": len(task.queries) * (size - 1)}
    passes["retrieve-then-rerank"] = size + sum(map(len, shortlists.values()))
    named = None
    if passes["cross-encoder"] <= exhaustive:
        named = best_by_cross(
            cross, task.pool, {query: np.delete(np.arange(size), query) for query in task.queries}
        )
    results["cross-encoder"] = _accuracy(task, scores, crossed, named)
    results["retrieve-then-rerank"] = _accuracy(
        task,
        scores,
        reranked(crossed, cosines, retrieved),
        best_by_cross(cross, task.pool, shortlists),
    )
    counts = {
        "pairs": len(first),
        "pairs_retrieved": int(retrieved.sum()),
        "pool": size,
        "queries": len(task.queries),
    }
    return results, counts | {"passes": passes}


def finding(first: Sequence[str], second: Sequence[str], scores: Sequence[float]) -> Finding:
    """Return the task in scored pairs. The pool is the distinct sentences of the pairs. A query is
    the first sentence of a pair with a score of `ALIKE` or more.

    A sentence is right if the sentence and the query are such a pair, in either order. A pair of
    equal texts does not count.

    Raises:
        ValueError: if no pair makes a query.

    >>> finding(["a", "c", "b"], ["b", "d", "e"], [4.0, 3.9, 5.0])
    Finding(pool=['a', 'c', 'b', 'd', 'e'], queries={0: {2}, 2: {0, 4}})
    """
    place = {text: i for i, text in enumerate(dict.fromkeys([*first, *second]))}
    right: dict[int, set[int]] = {}
    alike = [
        (place[a], place[b])
        for a, b, score in zip(first, second, scores, strict=True)
        if score >= ALIKE
    ]
    alike = [(a, b) for a, b in alike if a != b]
    if not alike:
        raise ValueError(
            f"none of {len(first)} pairs has a score of {ALIKE} or more; give more pairs"
        )
    for a, b in alike:
        right.setdefault(a, set()).add(b)
        right.setdefault(b, set()).add(a)
    return Finding(list(place), {a: right[a] for a, _ in alike})


def nearest(vectors: np.ndarray, k: int) -> list[np.ndarray]:
    """Return, for each row of (N, D), the places of the min(k, N - 1) other rows of highest cosine,
    closest first."""
    return [
        others[others != row][:k]
        for row, others in enumerate(top_k(vectors, vectors, k + 1).indices)
    ]


def best_by_cross(
    cross: CrossEncoder, pool: Sequence[str], candidates: Mapping[int, Sequence[int]]
) -> dict[int, int]:
    """Return, for each query, the candidate that the cross-encoder scores highest; of equal
    candidates the first. The cross-encoder reads the query first."""
    scores = cross.predict(
        [(pool[query], pool[other]) for query, others in candidates.items() for other in others]
    )
    best, start = {}, 0
    for query, others in candidates.items():
        best[query] = int(others[int(np.argmax(scores[start : start + len(others)]))])
        start += len(others)
    return best


def accuracy_at_1(named: Mapping[int, int], queries: Mapping[int, set[int]]) -> float:
    """Return the share of the queries whose named sentence is right.

    >>> accuracy_at_1({0: 2, 2: 1}, {0: {2}, 2: {0, 4}})
    0.5
    """
    return statistics.mean(float(named[query] in right) for query, right in queries.items())


def reranked(crossed: np.ndarray, cosines: np.ndarray, retrieved: np.ndarray) -> np.ndarray:
    """Return scores of pairs (P,): the cross-encoder's scores for retrieved pairs, and below these
    scores all other pairs in the order of their cosines.

    >>> crossed, cosines = np.array([0.2, 0.9, 0.5]), np.array([0.7, 0.8, 0.6])
    >>> reranked(crossed, cosines, np.array([True, False, True])).round(1).tolist()
    [0.2, -1.0, 0.5]
    """
    return np.where(retrieved, crossed, crossed.min() - 2 + cosines.astype(np.float64))


def _accuracy(task, scores, found, named):
    accuracy = None if named is None else accuracy_at_1(named, task.queries)
    return {"spearman": 100 * spearman(scores, found), "accuracy_at_1": accuracy}
