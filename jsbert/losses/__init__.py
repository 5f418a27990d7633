"""Training objectives as pure functions: arrays in, one number an example out, (B,); the caller
takes the mean.

`loss(embeddings, labels, *, options)`, with embeddings (T, B, D) of T towers;
`softmax_classification` takes its classifier in front, the losses of cross-encoders take logits.
Labels are always given: None where a loss has none. The mean equals sentence-transformers' (ST's)
number. Computed in at least float32, and in float64 where float64 comes in; gradients are finite at
equal vectors and at zero vectors.
"""

from jsbert.losses.classification import concatenate, init_classifier, softmax_classification
from jsbert.losses.distillation import embedding_mse, margin_mse, similarity_distillation
from jsbert.losses.graded import angle, cosent, cosine_regression
from jsbert.losses.in_batch import in_batch, is_in_batch
from jsbert.losses.logits import binary_cross_entropy, cross_entropy, mse
from jsbert.losses.margins import contrastive, online_contrastive, triplet
from jsbert.losses.masked_lm import init_masked_lm_head, masked_lm, masked_lm_logits
from jsbert.losses.matryoshka import matryoshka
from jsbert.losses.ranking import multiple_negatives_ranking

__all__ = [
    "angle",
    "binary_cross_entropy",
    "concatenate",
    "contrastive",
    "cosent",
    "cosine_regression",
    "cross_entropy",
    "embedding_mse",
    "in_batch",
    "init_classifier",
    "init_masked_lm_head",
    "is_in_batch",
    "margin_mse",
    "masked_lm",
    "masked_lm_logits",
    "matryoshka",
    "mse",
    "multiple_negatives_ranking",
    "online_contrastive",
    "similarity_distillation",
    "softmax_classification",
    "triplet",
]
