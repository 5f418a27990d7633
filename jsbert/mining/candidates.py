"""Candidates for hard negatives: (Q, K) scores and (Q, K) indices into the corpus. A score of -inf
marks what is no candidate."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from jsbert.similarity import SIMILARITIES

BLOCK = 8192
"""The number of pairs of vectors compared at a time."""

PAIRS = 65_536
"""The number of pairs of texts given to a cross-encoder at a time."""

Scores = Float[np.ndarray, "queries candidates"]
Places = Int[np.ndarray, "queries candidates"]
Chosen = tuple[Float[np.ndarray, "queries chosen"], Int[np.ndarray, "queries chosen"]]


def similarities(
    similarity: str, a: np.ndarray, rows: np.ndarray, b: np.ndarray, others: np.ndarray
) -> Float[np.ndarray, " pairs"]:
    """The similarity of a[rows[i]] to b[others[i]], for each i: float32 (P,)."""
    pairwise = SIMILARITIES[similarity][1]
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK):
        at = slice(start, start + BLOCK)
        scores[at] = pairwise(a[rows[at]], b[others[at]])
    return scores


def cross_scores(
    model: Any,
    queries: Sequence[str],
    rows: np.ndarray,
    corpus: Sequence[str],
    others: np.ndarray,
    *,
    batch_size: int | None = None,
    show_progress_bar: bool = False,
) -> Float[np.ndarray, " pairs"]:
    """Score the pair of queries[rows[i]] and corpus[others[i]] with a cross-encoder, for each i:
    float32 (P,).

    Raises:
        ValueError: if the cross-encoder has several labels.
    """
    scores = np.empty(len(rows), np.float32)
    starts = range(0, len(rows), PAIRS)
    for start in tqdm(starts, desc="Rescoring with CrossEncoder", disable=not show_progress_bar):
        at = slice(start, start + PAIRS)
        pairs = [
            (queries[row], corpus[other]) for row, other in zip(rows[at], others[at], strict=True)
        ]
        block = np.asarray(model.predict(pairs, batch_size=batch_size, show_progress_bar=False))
        if block.ndim != 1:
            raise ValueError(
                f"the cross_encoder gives {block.shape[1]} labels a pair; one with a single label "
                "is needed"
            )
        scores[at] = block
    return scores


def leave_out(
    scores: Scores, owners: np.ndarray, positive_scores: np.ndarray, limits: Mapping[str, float]
) -> dict[str, tuple[float, int, float]]:
    """Set the scores that break a limit to -inf, in place. Return {limit: (value, number removed,
    share removed)} for each limit that removed a candidate.

    Args:
        scores: (Q, K), changed in place.
        owners: the query of each positive, (P,).
        positive_scores: (P,). The margins count from the lowest score of a query's positives.
        limits: the values of absolute_margin, relative_margin, max_score and min_score; a limit
            that is left out does not hold.
    """
    lowest = np.full(len(scores), np.inf, np.float32)
    np.minimum.at(lowest, owners, positive_scores)
    lowest = lowest[:, None]
    # The relative margin is a share of the size of the positive's score: so the threshold is below
    # the score also if the score is negative.
    breaks = {
        "absolute_margin": lambda margin: scores + margin > lowest,
        "relative_margin": lambda share: scores > lowest - np.abs(lowest) * share,
        "max_score": lambda most: scores > most,
        "min_score": lambda least: scores < least,
    }
    left_out = {}
    for name, broken in breaks.items():
        if name in limits:
            known = scores > -np.inf
            out = broken(limits[name]) & known
            scores[out] = -np.inf
            if out.any():
                left_out[name] = limits[name], int(out.sum()), float(out.sum() / known.sum())
    return left_out


def ranked(scores: Scores, candidates: Places, first: int, last: int) -> Chosen:
    """(scores, candidates) of the ranks first to last - 1, best first. Ties keep their order."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, first:last]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(candidates, order, axis=1)


def sampled(scores: Scores, candidates: Places, count: int, seed: int) -> Chosen:
    """(scores, candidates) of `count` candidates drawn for each query, best first. A query with at
    most `count` candidates keeps all of them."""
    generator = random.Random(seed)
    num_known = np.maximum((scores > -np.inf).sum(axis=1), count)
    drawn = np.array(
        [sorted(generator.sample(range(known), count)) for known in num_known.tolist()]
    )
    return np.take_along_axis(scores, drawn, axis=1), np.take_along_axis(candidates, drawn, axis=1)
