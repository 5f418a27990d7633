"""The peer's `quantization`: vectors as bytes or bits."""

from jsbert.quantization import quantize_embeddings
from jsbert.sentence_transformers.missing import raise_for

__all__ = ["quantize_embeddings"]

_SEARCH = "jsbert.search.top_k_quantized searches bytes and bits exactly, without an index"

__getattr__ = raise_for(
    __name__, {"semantic_search_faiss": _SEARCH, "semantic_search_usearch": _SEARCH}
)
