"""The peer's `cross_encoder.evaluation`: the evaluators of cross-encoders."""

from jsbert.evaluate import (
    CrossEncoderClassificationEvaluator,
    CrossEncoderCorrelationEvaluator,
    CrossEncoderRerankingEvaluator,
)
from jsbert.sentence_transformers.missing import raise_for

__all__ = [
    "CrossEncoderClassificationEvaluator",
    "CrossEncoderCorrelationEvaluator",
    "CrossEncoderRerankingEvaluator",
]

__getattr__ = raise_for(
    __name__,
    {"CrossEncoderNanoBEIREvaluator": "use CrossEncoderRerankingEvaluator with a BEIR folder"},
)
