"""Measures of classification: two classes by a threshold on a score, or several predicted classes.

A pair counts as positive if its score is at least the threshold, so that pairs with equal scores
are on the same side. Values and thresholds are those of sentence-transformers'
BinaryClassificationEvaluator and scikit-learn's average_precision_score, matthews_corrcoef and
f1_score.
"""

from typing import NamedTuple

import numpy as np


class BestAccuracy(NamedTuple):
    """The highest accuracy over all thresholds, and the threshold."""

    accuracy: float
    threshold: float


class BestF1(NamedTuple):
    """The highest F1 over all thresholds, with its precision, recall and threshold."""

    f1: float
    precision: float
    recall: float
    threshold: float


class F1(NamedTuple):
    """F1 over several classes. `macro` is the plain mean over the classes, `micro` counts all
    examples at once, and `weighted` is the mean weighted by the frequency of the classes."""

    macro: float
    micro: float
    weighted: float


def best_accuracy(labels, scores) -> BestAccuracy:
    """The highest accuracy over all thresholds; of several thresholds the highest.

    The threshold is midway between the scores that it separates, or above all scores if that is
    best.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), finite.

    >>> best_accuracy([1, 0, 1, 0], [0.9, 0.2, 0.6, 0.4])
    BestAccuracy(accuracy=1.0, threshold=0.5)
    """
    cuts = _cuts(labels, scores)
    num_negatives = len(labels) - cuts.num_correct[-1]
    right = cuts.num_correct + num_negatives - (cuts.num_taken - cuts.num_correct)
    right = np.append(num_negatives, right)
    best = int(np.argmax(right))
    thresholds = np.append(
        np.nextafter(cuts.highest, np.inf, dtype=cuts.highest.dtype), cuts.thresholds
    )
    return BestAccuracy(float(right[best] / len(labels)), float(thresholds[best]))


def best_f1(labels, scores, *, num_positives: int | None = None) -> BestF1:
    """The highest F1 over all thresholds; of several thresholds the highest. All values are 0 if no
    label is 1.

    Args:
        labels: (N,) of 0 and 1.
        scores: (N,), finite.
        num_positives: the number of positives, if `labels` lacks positives that were not found; by
            default the number of ones in `labels`.

    >>> best_f1([1, 1, 0, 0], [0.75, 0.5, 0.5, 0.25])
    BestF1(f1=0.8, precision=0.6666666666666666, recall=1.0, threshold=0.375)
    """
    cuts = _cuts(labels, scores)
    precision = cuts.num_correct / cuts.num_taken
    recall = cuts.num_correct / max(
        1, cuts.num_correct[-1] if num_positives is None else num_positives
    )
    # Keep this order of operations: it rounds as the reference does, and the rounding decides
    # which of several thresholds is best.
    f1 = np.divide(
        2 * precision * recall, precision + recall, out=np.zeros_like(recall), where=recall > 0
    )
    best = int(np.argmax(f1))
    if f1[best] == 0:
        return BestF1(0.0, 0.0, 0.0, 0.0)
    return BestF1(*(float(values[best]) for values in (f1, precision, recall, cuts.thresholds)))


def average_precision(labels, scores, *, num_positives: int | None = None) -> float:
    """The sum over thresholds of precision times gain in recall, 0 to 1; 0 if no label is 1. The
    arguments are those of `best_f1`.

    >>> average_precision([1, 0, 1], [3, 2, 1])
    0.8333333333333333
    """
    cuts = _cuts(labels, scores)
    num_positives = cuts.num_correct[-1] if num_positives is None else num_positives
    gains = np.diff(cuts.num_correct, prepend=0)
    return float(np.sum(cuts.num_correct / cuts.num_taken * gains) / max(1, num_positives))


def matthews(labels, predicted) -> float:
    """Matthews' correlation of two columns of 0 and 1, -1 to 1; 0 if a column is constant.

    >>> round(matthews([1, 1, 0, 0], [1, 0, 0, 0]), 4)
    0.5774
    """
    labels, predicted = np.asarray(labels) == 1, np.asarray(predicted) == 1
    if labels.ndim != 1 or labels.shape != predicted.shape:
        raise ValueError(
            f"labels and predictions have shapes {labels.shape} and {predicted.shape}; give two "
            "columns"
        )
    both, n = float(np.sum(labels & predicted)), float(len(labels))
    actual, said = float(labels.sum()), float(predicted.sum())
    spread = actual * (n - actual) * said * (n - said)
    return (n * both - actual * said) / spread**0.5 if spread else 0.0


def f1_scores(labels, predicted) -> F1:
    """F1 of predicted classes (N,) against `labels` (N,), over the classes in either column.

    >>> f1_scores([0, 0, 1, 2], [0, 1, 1, 1])
    F1(macro=0.38888888888888884, micro=0.5, weighted=0.4583333333333333)
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if labels.ndim != 1 or labels.shape != predicted.shape or len(labels) == 0:
        raise ValueError(
            f"labels and predictions have shapes {labels.shape} and {predicted.shape}; give two "
            "columns"
        )
    classes = np.unique(np.append(labels, predicted))[:, None]
    actual, said = labels[None] == classes, predicted[None] == classes
    right, support = np.sum(actual & said, axis=1), actual.sum(axis=1)
    f1 = 2 * right / (support + said.sum(axis=1))
    return F1(
        float(f1.mean()), float(right.sum() / len(labels)), float(np.average(f1, weights=support))
    )


class _Cuts(NamedTuple):
    num_taken: np.ndarray
    num_correct: np.ndarray
    thresholds: np.ndarray
    highest: np.floating


def _cuts(labels, scores):
    """All cuts between different scores, from the fewest positives to all: the number of pairs
    above each cut, how many of them have label 1, and the threshold; and the highest score."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.ndim != 1 or labels.shape != scores.shape or len(labels) == 0:
        raise ValueError(
            f"labels and scores have shapes {labels.shape} and {scores.shape}; give columns of one "
            "length"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels hold {np.setdiff1d(labels, (0, 1))[0]}; they must be 0 or 1")
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity; they must be finite")
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    above, below = scores[ends], scores[np.minimum(ends + 1, len(scores) - 1)]
    midway = above / 2 + below / 2
    # Between neighbouring floats there is no number midway: then take the upper one.
    thresholds = np.where(midway > below, midway, above)
    num_correct = np.cumsum(labels[order] == 1)[ends]
    return _Cuts(ends + 1, num_correct, thresholds, scores[0])
