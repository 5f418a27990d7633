"""The peer's `evaluation`: the evaluators of bi-encoders."""

from jsbert.evaluate import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    LabelAccuracyEvaluator,
    MSEEvaluator,
    ParaphraseMiningEvaluator,
    RerankingEvaluator,
    SequentialEvaluator,
    TripletEvaluator,
)
from jsbert.evaluate import Evaluator as BaseEvaluator
from jsbert.evaluate import Evaluator as SentenceEvaluator
from jsbert.sentence_transformers.missing import raise_for
from jsbert.sentence_transformers.similarity_functions import SimilarityFunction

__all__ = [
    "BaseEvaluator",
    "BinaryClassificationEvaluator",
    "EmbeddingSimilarityEvaluator",
    "InformationRetrievalEvaluator",
    "LabelAccuracyEvaluator",
    "MSEEvaluator",
    "ParaphraseMiningEvaluator",
    "RerankingEvaluator",
    "SentenceEvaluator",
    "SequentialEvaluator",
    "SimilarityFunction",
    "TripletEvaluator",
]

__getattr__ = raise_for(
    __name__,
    {
        "MSEEvaluatorFromDataFrame": "use MSEEvaluator with two columns",
        "NanoBEIREvaluator": "jsbert.evaluate.read_beir reads a BEIR folder for "
        "InformationRetrievalEvaluator",
        "TranslationEvaluator": "jsbert.util.semantic_search finds the nearest translation",
    },
)
