"""Training objectives as pure functions: they take arrays and return one number for each example,
(B,). The caller takes the mean.

The signature is `loss(embeddings, labels, *, options)`, with embeddings (T, B, D) of T towers.
`softmax_classification` takes its classifier before the embeddings, and the losses of
cross-encoders take logits in place of embeddings. Labels are always an argument: None for a loss
without labels. The mean equals the loss of sentence-transformers (ST). Losses are computed in
float32, or in float64 if the embeddings are float64. Gradients are finite at equal vectors and at
zero vectors.
"""

from jsbert.losses.adaptive_layers import adaptive_layers
from jsbert.losses.batch_triplets import (
    batch_all_triplet,
    batch_hard_soft_margin_triplet,
    batch_hard_triplet,
    batch_semi_hard_triplet,
)
from jsbert.losses.classification import concatenate, init_classifier, softmax_classification
from jsbert.losses.distillation import embedding_mse, margin_mse, similarity_distillation
from jsbert.losses.global_orthogonal import global_orthogonal_regularization
from jsbert.losses.graded import angle, cosent, cosine_regression
from jsbert.losses.guided import guided_negatives_ranking
from jsbert.losses.in_batch import in_batch, is_in_batch
from jsbert.losses.kl_distillation import kl_distillation
from jsbert.losses.logits import binary_cross_entropy, cross_entropy, mse
from jsbert.losses.margins import contrastive, online_contrastive, triplet
from jsbert.losses.masked_lm import init_masked_lm_head, masked_lm, masked_lm_logits
from jsbert.losses.matryoshka import matryoshka
from jsbert.losses.ranking import multiple_negatives_ranking

__all__ = [
    "adaptive_layers",
    "angle",
    "batch_all_triplet",
    "batch_hard_soft_margin_triplet",
    "batch_hard_triplet",
    "batch_semi_hard_triplet",
    "binary_cross_entropy",
    "concatenate",
    "contrastive",
    "cosent",
    "cosine_regression",
    "cross_entropy",
    "embedding_mse",
    "global_orthogonal_regularization",
    "guided_negatives_ranking",
    "in_batch",
    "init_classifier",
    "init_masked_lm_head",
    "is_in_batch",
    "kl_distillation",
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
