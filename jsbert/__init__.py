"""Sentence-BERT in JAX and Flax: sentence embeddings by `encode`, or by pure functions."""

from typing import TYPE_CHECKING

from jsbert.lazy import lazy
from jsbert.version import VERSION as __version__

if TYPE_CHECKING:
    from jsbert import adapters, search, siamese, util
    from jsbert.cross_encoder import CrossEncoder
    from jsbert.quantization import quantize_embeddings
    from jsbert.sentence_transformer import SentenceTransformer
    from jsbert.shortcut import encode

__all__ = [
    "CrossEncoder",
    "SentenceTransformer",
    "__version__",
    "adapters",
    "corpus",
    "cross",
    "data",
    "embed",
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

_PLACES = {
    "CrossEncoder": "cross_encoder",
    "SentenceTransformer": "sentence_transformer",
    "encode": "shortcut",
    "quantize_embeddings": "quantization",
}
"""The module of each name that is no module. All names are imported at their first use: JAX takes
a second to import, and a model in another runtime does without JAX."""

__getattr__ = lazy(__name__, {name: _PLACES.get(name, "") for name in __all__})


def __dir__() -> list[str]:
    return sorted(__all__)
