"""The peer's `quantization`: vectors as bytes or bits."""

import warnings
from typing import Any

from jsbert import quantization
from jsbert.quantization import Precision
from jsbert.sentence_transformers.missing import raise_for

__all__ = ["quantize_embeddings"]


def quantize_embeddings(
    embeddings: Any,
    precision: Precision,
    ranges: Any = None,
    calibration_embeddings: Any = None,
) -> Any:
    """Return the codes of vectors; see `jsbert.quantization.quantize_embeddings`.

    Args:
        embeddings: (N, D) floats.
        precision: "float32", "int8", "uint8", "binary" or "ubinary".
        ranges: for "int8" and "uint8": the lowest and the highest value of each dimension, (2, D).
        calibration_embeddings: vectors from which the ranges are computed. Without both, the ranges
            are those of `embeddings`, with a warning for fewer than 100.

    Raises:
        ValueError: for an unknown precision, or ranges that do not fit.
    """
    if precision in ("int8", "uint8") and ranges is None and calibration_embeddings is None:
        if len(embeddings) < 100:
            warnings.warn(
                f"the ranges are those of {len(embeddings)} vectors, which are few; give "
                "calibration_embeddings or ranges",
                stacklevel=2,
            )
        ranges = "batch"
    return quantization.quantize_embeddings(embeddings, precision, ranges, calibration_embeddings)


_SEARCH = "jsbert.search.top_k_quantized searches bytes and bits exactly, without an index"

__getattr__ = raise_for(
    __name__, {"semantic_search_faiss": _SEARCH, "semantic_search_usearch": _SEARCH}
)
