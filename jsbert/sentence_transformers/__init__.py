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
from jsbert.sentence_transformers import places
from jsbert.sentence_transformers.bi_encoder import SentenceTransformer
from jsbert.sentence_transformers.cross_encoder import CrossEncoder
from jsbert.sentence_transformers.missing import CARD, OTHER, TRAIN, raise_for
from jsbert.sentence_transformers.quantization import quantize_embeddings
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

places.install()

_ONNX = "jsbert.export writes ONNX, or use SentenceTransformer(..., dtype='int8')"

_LAZY = {
    "CrossEncoderTrainer": "trainer",
    "CrossEncoderTrainingArguments": "training_args",
    "SentenceTransformerTrainer": "trainer",
    "SentenceTransformerTrainingArguments": "training_args",
    "evaluation": "",
    "losses": "",
    "models": "",
    "modules": "",
    "readers": "",
    "sentence_transformer": "",
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
        "MultiVectorEncoder": OTHER,
        "MultiVectorEncoderModelCardData": OTHER,
        "MultiVectorEncoderTrainer": OTHER,
        "MultiVectorEncoderTrainingArguments": OTHER,
        "ParallelSentencesDataset": TRAIN,
        "SentenceTransformerModelCardData": CARD,
        "SentencesDataset": TRAIN,
        "SparseEncoder": OTHER,
        "SparseEncoderModelCardData": OTHER,
        "SparseEncoderTrainer": OTHER,
        "SparseEncoderTrainingArguments": OTHER,
        "export_dynamic_quantized_onnx_model": _ONNX,
        "export_optimized_onnx_model": _ONNX,
        "export_static_quantized_openvino_model": _ONNX,
        "resolve_ids": "search results of jsbert have the positions of the corpus",
    },
)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        return _missing(name)
    module = importlib.import_module(f"{__name__}.{_LAZY[name] or name}")
    return getattr(module, name) if _LAZY[name] else module
