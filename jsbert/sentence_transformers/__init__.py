"""The public names of sentence-transformers over what jsbert has: put `jsbert.` in front of the
import, and a script that encodes, reranks, searches, trains or evaluates goes on as before.

>>> from jsbert.sentence_transformers import SentenceTransformer
>>> SentenceTransformer().similarity_fn_name
'cosine'

What is different: `convert_to_tensor=True` returns a `jax.Array`. A name that jsbert does not have
raises an error that says how jsbert does the same. Nothing else in jsbert imports this room.
"""

import importlib
from typing import Any

from jsbert.mining import mine_hard_negatives
from jsbert.quantization import quantize_embeddings
from jsbert.sentence_transformers.bi_encoder import SentenceTransformer
from jsbert.sentence_transformers.cross_encoder import CrossEncoder
from jsbert.sentence_transformers.missing import CARD, TRAIN, raise_for
from jsbert.sentence_transformers.readers import InputExample
from jsbert.sentence_transformers.similarity_functions import SimilarityFunction

__all__ = [
    "CrossEncoder",
    "CrossEncoderTrainer",
    "CrossEncoderTrainingArguments",
    "InputExample",
    "SentenceTransformer",
    "SentenceTransformerTrainer",
    "SentenceTransformerTrainingArguments",
    "SimilarityFunction",
    "mine_hard_negatives",
    "quantize_embeddings",
]

_ONNX = "jsbert.export writes ONNX, or use SentenceTransformer(..., dtype='int8')"
_OTHER = "jsbert has bi-encoders with one vector for each text, and cross-encoders"

_LAZY = {
    "CrossEncoderTrainer": "trainer",
    "CrossEncoderTrainingArguments": "training_args",
    "SentenceTransformerTrainer": "trainer",
    "SentenceTransformerTrainingArguments": "training_args",
    "evaluation": "",
    "losses": "",
    "quantization": "",
    "training_args": "",
    "util": "",
}
"""Names and modules that are imported at their first use: training takes time to import."""

_missing = raise_for(
    __name__,
    {
        "CrossEncoderModelCardData": CARD,
        "DefaultBatchSampler": TRAIN,
        "LoggingHandler": "use Python's logging",
        "MultiDatasetDefaultBatchSampler": TRAIN,
        "MultiVectorEncoder": _OTHER,
        "MultiVectorEncoderModelCardData": _OTHER,
        "MultiVectorEncoderTrainer": _OTHER,
        "MultiVectorEncoderTrainingArguments": _OTHER,
        "ParallelSentencesDataset": TRAIN,
        "SentenceTransformerModelCardData": CARD,
        "SentencesDataset": TRAIN,
        "SparseEncoder": _OTHER,
        "SparseEncoderModelCardData": _OTHER,
        "SparseEncoderTrainer": _OTHER,
        "SparseEncoderTrainingArguments": _OTHER,
        "export_dynamic_quantized_onnx_model": _ONNX,
        "export_optimized_onnx_model": _ONNX,
        "export_static_quantized_openvino_model": _ONNX,
        "models": "SentenceTransformer.from_parts puts a model together from config and params",
        "resolve_ids": "search results of jsbert have the positions of the corpus",
    },
)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        return _missing(name)
    module = importlib.import_module(f"{__name__}.{_LAZY[name] or name}")
    return getattr(module, name) if _LAZY[name] else module
