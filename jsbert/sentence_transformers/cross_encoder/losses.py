"""The peer's `cross_encoder.losses`: each names an objective of `jsbert.train`."""

from typing import Any

from jsbert.sentence_transformers.losses import Loss
from jsbert.sentence_transformers.missing import raise_for, refuse

_ACTIVATION = {"activation_fn": "the loss is of the logits; leave it out"}


class BinaryCrossEntropyLoss(Loss):
    """Labels from 0 to 1: "binary-cross-entropy"."""

    def __init__(self, model: Any, activation_fn: Any = None, pos_weight: float | None = None):
        refuse("BinaryCrossEntropyLoss", {"activation_fn": activation_fn}, _ACTIVATION)
        weight = {} if pos_weight is None else {"pos_weight": float(pos_weight)}
        super().__init__("binary-cross-entropy", weight)


class CrossEntropyLoss(Loss):
    """Classes: "cross-entropy"."""

    def __init__(self, model: Any, activation_fn: Any = None):
        refuse("CrossEntropyLoss", {"activation_fn": activation_fn}, _ACTIVATION)
        super().__init__("cross-entropy")


class MSELoss(Loss):
    """A teacher's scores: "mse"."""

    def __init__(self, model: Any, activation_fn: Any = None):
        refuse("MSELoss", {"activation_fn": activation_fn}, _ACTIVATION)
        super().__init__("mse")


__getattr__ = raise_for(
    __name__,
    dict.fromkeys(
        [
            "ADRMSELoss", "CachedMultipleNegativesRankingLoss", "LambdaLoss", "LambdaRankScheme",
            "ListMLELoss", "ListNetLoss", "MarginMSELoss", "MultipleNegativesRankingLoss",
            "NDCGLoss1Scheme", "NDCGLoss2PPScheme", "NDCGLoss2Scheme", "NoWeightingScheme",
            "PListMLELambdaWeight", "PListMLELoss", "RankNetLoss",
        ],
        "write a function of jsbert.losses' form, and use jsbert.train.of_logits",
    ),
)  # fmt: skip
