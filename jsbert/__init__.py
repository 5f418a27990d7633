"""Sentence-BERT in JAX and Flax: sentence embeddings by `encode`, or by pure functions."""

import importlib
from types import ModuleType

from jsbert import adapters, search, siamese, util
from jsbert.cross_encoder import CrossEncoder
from jsbert.quantization import quantize_embeddings
from jsbert.sentence_transformer import SentenceTransformer
from jsbert.shortcut import encode
from jsbert.version import VERSION as __version__

_LAZY = (
    "cross", "data", "encoders", "engine", "evaluate", "export", "losses", "metrics", "pooling",
    "quantization", "similarity", "train",
)  # fmt: skip
"""The modules that are imported at their first use: some need an extra, and all take time."""

__all__ = [
    "CrossEncoder",
    "SentenceTransformer",
    "__version__",
    "adapters",
    "cross",
    "data",
    "encode",
    "encoders",
    "engine",
    "evaluate",
    "export",
    "losses",
    "metrics",
    "pooling",
    "quantization",
    "quantize_embeddings",
    "search",
    "siamese",
    "similarity",
    "train",
    "util",
]


def __getattr__(name: str) -> ModuleType:
    if name in _LAZY:
        return importlib.import_module(f"jsbert.{name}")
    raise AttributeError(f"module 'jsbert' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
