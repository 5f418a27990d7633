"""Evaluators: they measure how good a model is on labelled texts. Their names, keys and values are
those of sentence-transformers."""

from jsbert.evaluate.beir import Beir, read_beir
from jsbert.evaluate.binary_classification import BinaryClassificationEvaluator
from jsbert.evaluate.cross_encoder import (
    CrossEncoderClassificationEvaluator,
    CrossEncoderCorrelationEvaluator,
)
from jsbert.evaluate.embedding_similarity import EmbeddingSimilarityEvaluator, sts_subsets
from jsbert.evaluate.evaluator import Evaluator
from jsbert.evaluate.information_retrieval import InformationRetrievalEvaluator
from jsbert.evaluate.label_accuracy import LabelAccuracyEvaluator
from jsbert.evaluate.mse import MSEEvaluator
from jsbert.evaluate.paraphrase_mining import ParaphraseMiningEvaluator
from jsbert.evaluate.reranking import CrossEncoderRerankingEvaluator, RerankingEvaluator
from jsbert.evaluate.sequential import SequentialEvaluator
from jsbert.evaluate.triplet import TripletEvaluator

__all__ = [
    "Beir",
    "BinaryClassificationEvaluator",
    "CrossEncoderClassificationEvaluator",
    "CrossEncoderCorrelationEvaluator",
    "CrossEncoderRerankingEvaluator",
    "EmbeddingSimilarityEvaluator",
    "Evaluator",
    "InformationRetrievalEvaluator",
    "LabelAccuracyEvaluator",
    "MSEEvaluator",
    "ParaphraseMiningEvaluator",
    "RerankingEvaluator",
    "SequentialEvaluator",
    "TripletEvaluator",
    "read_beir",
    "sts_subsets",
]
