"""Measures of quality as pure functions: numbers in, numbers out, in NumPy on the host.

Inputs are anything that becomes an array of the shape told; larger scores mean more similar. What
has no answer (correlation with a constant) is NaN, never a warning; inputs that cannot be scored
are a ValueError.
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
