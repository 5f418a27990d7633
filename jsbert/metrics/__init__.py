"""Measures of quality as pure functions: numbers in, numbers out, in NumPy on the host.

Inputs are anything that becomes an array of the given shape. Larger scores mean more similar. A
measure without an answer, such as the correlation with a constant, is NaN, without a warning.
Inputs that cannot be scored raise ValueError.
"""

from jsbert.metrics.classification import (
    F1,
    BestAccuracy,
    BestF1,
    average_precision,
    best_accuracy,
    best_f1,
    f1_scores,
    matthews,
)
from jsbert.metrics.correlation import pearson, spearman
from jsbert.metrics.ranking import (
    average_precision_at_k,
    hit_at_k,
    ndcg,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
    reciprocal_rank_at_k,
)

__all__ = [
    "F1",
    "BestAccuracy",
    "BestF1",
    "average_precision",
    "average_precision_at_k",
    "best_accuracy",
    "best_f1",
    "f1_scores",
    "hit_at_k",
    "matthews",
    "ndcg",
    "ndcg_at_k",
    "pearson",
    "precision_at_k",
    "recall_at_k",
    "reciprocal_rank",
    "reciprocal_rank_at_k",
    "spearman",
]
