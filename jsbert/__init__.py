"""Sentence-BERT in JAX and Flax: sentence embeddings as `encode`, and as pure functions."""

from importlib.metadata import version

from jsbert import adapters, search, siamese, util
from jsbert.cross_encoder import CrossEncoder
from jsbert.quantization import quantize_embeddings
from jsbert.sentence_transformer import SentenceTransformer
from jsbert.shortcut import encode

__all__ = [
    "CrossEncoder",
    "SentenceTransformer",
    "adapters",
    "encode",
    "quantize_embeddings",
    "search",
    "siamese",
    "util",
]
__version__ = version("jsbert")
