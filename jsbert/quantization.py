"""Vectors to codes of a byte or a bit for each dimension, and back.

The codes are the same as in sentence_transformers.util.quantization, value for value. NumPy arrays
give NumPy arrays. JAX arrays give JAX arrays, under `jit` too.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

    from jsbert.arrays import AnyArray

Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

Ranges: TypeAlias = "Float[AnyArray, '2 dim']"
"""The smallest (row 0) and the largest (row 1) entry of each dimension. The 256 buckets of int8 and
uint8 divide the range between them."""

OFFSET = np.uint8(128)
"""Codes of "uint8" and "ubinary" are those of "int8" and "binary" plus 128. As bytes, the
codes differ in this bit alone."""


def quantize_embeddings(
    embeddings: Any,
    precision: Precision,
    ranges: Ranges | Literal["batch"] | None = None,
    calibration_embeddings: Float[AnyArray, "rows dim"] | None = None,
) -> Any:
    """The codes of vectors.

    "uint8" gives a byte for each dimension: floor((x - lowest) / step), where step = (highest -
    lowest) / 255. Entries outside the range are clipped. "int8" gives the same less 128.

    "ubinary" gives a bit for each dimension, which is 1 if the entry is above 0. Eight bits make a
    byte; the first bit is the highest; zeros fill the last byte. "binary" gives the same bytes less
    128.

    Args:
        embeddings: float vectors (N, D), or one vector (D,); or a list of matrices (L, D), which
            gives a list.
        precision: "float32", "int8", "uint8", "binary" or "ubinary".
        ranges: only for "int8" and "uint8": (2, D), lowest and highest entry of each dimension (see
            `calibration_ranges`); or "batch" for the ranges of `embeddings`. Codes made with
            different ranges cannot be compared.
        calibration_embeddings: vectors of the same kind. If `ranges` is None, the ranges are those
            of these vectors.

    Returns:
        float32 or codes (N, D); (N, ceil(D / 8)) for "binary" and "ubinary".

    Raises:
        ValueError: for an unknown precision, vectors that are not floats or not finite, "int8" and
            "uint8" without ranges, or ranges that do not fit.

    >>> import numpy as np
    >>> ranges = np.float32([[-1, -1, -1], [1, 1, 1]])
    >>> quantize_embeddings(np.float32([[-1, 0, 9]]), "uint8", ranges=ranges).tolist()
    [[0, 127, 255]]
    >>> quantize_embeddings(np.float32([[-1, 0, 9]]), "ubinary").tolist()
    [[32]]
    """
    # A list of matrices shares its ranges.
    dtype = code_dtype(precision)
    if isinstance(embeddings, (list, tuple)) and len(embeddings) and np.ndim(embeddings[0]) == 2:
        if isinstance(ranges, str) and precision in ("int8", "uint8"):
            together = np.concatenate([np.asarray(matrix) for matrix in embeddings])
            ranges = _resolved_ranges(ranges, together, precision)
        return [
            quantize_embeddings(matrix, precision, ranges, calibration_embeddings)
            for matrix in embeddings
        ]
    # Codes as unsigned bytes; the last line turns them into signed ones.
    embeddings = _floats(embeddings)
    if precision == "float32":
        return embeddings.astype(np.float32)
    module = _module(embeddings)
    if precision in ("binary", "ubinary"):
        codes = module.packbits(embeddings > 0, axis=-1)
    else:
        if ranges is None and calibration_embeddings is not None:
            ranges = calibration_ranges(calibration_embeddings)
        lowest, step = _buckets(_resolved_ranges(ranges, embeddings, precision), embeddings.ndim)
        step = module.where(step == 0, 1, step)  # all entries are equal: bucket 0
        codes = module.clip(module.floor((embeddings - lowest) / step), 0, 255).astype(np.uint8)
    return (codes ^ OFFSET).view(np.int8) if dtype == np.int8 else codes


def dequantize_embeddings(
    codes: Any, precision: Precision, ranges: Ranges | None = None, dim: int | None = None
) -> Any:
    """The float32 vectors (..., D) that codes represent, for codes (..., D) or (..., ceil(D / 8)).

    "int8" and "uint8" give the middle of each bucket. It is at most half a bucket away from the
    original entry, unless that was outside the ranges. "binary" and "ubinary" give 1 and -1.

    Args:
        codes: from `quantize_embeddings`.
        precision: the precision of the codes.
        ranges: only for "int8" and "uint8": the ranges (2, D) that the codes were made with.
        dim: only for "binary" and "ubinary": D; by default eight times the number of bytes.

    Raises:
        ValueError: for codes whose dtype is not that of the precision, missing ranges, or ranges
            that do not fit.

    >>> import numpy as np
    >>> dequantize_embeddings(np.uint8([[32]]), "ubinary", dim=3).tolist()
    [[-1.0, -1.0, 1.0]]
    """
    codes = _as_array(codes)
    wanted = code_dtype(precision)
    if codes.dtype != wanted:
        raise ValueError(f"{precision} codes must be {wanted.name}; given {codes.dtype}")
    module = _module(codes)
    if precision == "float32":
        return codes
    codes = codes.view(np.uint8) ^ OFFSET if wanted == np.int8 else codes
    if precision in ("binary", "ubinary"):
        if codes.size == 0:  # jnp.unpackbits does not take empty arrays
            return module.zeros(
                (*codes.shape[:-1], 8 * codes.shape[-1] if dim is None else dim), np.float32
            )
        return module.unpackbits(codes, axis=-1)[..., :dim].astype(np.float32) * 2 - 1
    lowest, step = _buckets(checked_ranges(ranges, codes.shape[-1], precision), codes.ndim)
    return lowest + (codes.astype(np.float32) + np.float32(0.5)) * step


def calibration_ranges(embeddings: Float[AnyArray, "rows dim"]) -> Any:
    """The ranges of vectors (N, D): (2, D) float32, the smallest and the largest entry of each
    dimension.

    The vectors should be like those to be coded: from the same model, truncated and normalised in
    the same way.

    Raises:
        ValueError: for fewer than two vectors, or entries that are not finite.

    >>> import numpy as np
    >>> calibration_ranges(np.float32([[1, 5], [2, 4]])).tolist()
    [[1.0, 4.0], [2.0, 5.0]]
    """
    embeddings = _floats(embeddings)
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise ValueError(
            f"ranges need at least two vectors (N, D); given shape {embeddings.shape}; give more"
        )
    return (
        _module(embeddings)
        .stack([embeddings.min(axis=0), embeddings.max(axis=0)])
        .astype(np.float32)
    )


def code_dtype(precision: Precision) -> np.dtype:
    """The dtype of the codes of a precision. Raises ValueError for an unknown precision."""
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision is {precision!r}; choose one of {', '.join(map(repr, PRECISIONS))}"
        )
    return np.dtype(precision.replace("binary", "int8"))


def code_width(dim: int, precision: Precision) -> int:
    """The number of codes of a vector of `dim` dimensions."""
    return -(-dim // 8) if precision in ("binary", "ubinary") else dim


def checked_ranges(ranges: Ranges | None, dim: int, precision: Precision) -> Any:
    """`ranges` as float32 (2, D). Raises ValueError if they are None or do not fit."""
    if ranges is None:
        raise ValueError(
            f"precision {precision!r} needs the ranges of the dimensions: give "
            "ranges=calibration_ranges(vectors) of "
            "jsbert.quantization, with a sample of vectors of the same model, truncated and "
            "normalised alike; or "
            "ranges='batch' to take them from the vectors of this call, whose codes then fit no "
            "other call's"
        )
    ranges = _as_array(ranges)
    if ranges.shape != (2, dim):
        raise ValueError(
            f"ranges have shape {ranges.shape}, the vectors {dim} dimensions; give (2, {dim}), "
            "made of vectors that are truncated alike"
        )
    if not _is_traced(ranges) and not (
        np.isfinite(ranges).all() and (ranges[0] <= ranges[1]).all()
    ):
        raise ValueError("ranges must be finite, with the lowest in row 0 and the highest in row 1")
    return ranges.astype(np.float32)


def _resolved_ranges(ranges, embeddings, precision):
    dim = embeddings.shape[-1]
    if not isinstance(ranges, str):
        return checked_ranges(ranges, dim, precision)
    if ranges != "batch":
        raise ValueError(f"ranges is {ranges!r}; give an array (2, {dim}), or 'batch'")
    return calibration_ranges(embeddings) if len(embeddings) else np.zeros((2, dim), np.float32)


def _buckets(ranges, ndim):
    """(lowest, width of a bucket), in shapes that broadcast with arrays of `ndim` axes."""
    lowest, highest = ranges.reshape(2, *[1] * (ndim - 1), -1)
    return lowest, (highest - lowest) / 255


def _floats(embeddings):
    embeddings = _as_array(embeddings)
    is_float = np.issubdtype(embeddings.dtype, np.floating) or embeddings.dtype.name == "bfloat16"
    if not is_float or embeddings.ndim not in (1, 2):
        raise ValueError(
            f"embeddings must be float vectors (N, D), or one (D,); given {embeddings.dtype} of "
            "shape "
            f"{embeddings.shape}"
        )
    if not _is_traced(embeddings) and not _module(embeddings).isfinite(embeddings).all():
        raise ValueError("embeddings hold NaN or infinity, which have no code")
    return embeddings


def _is_jax(array):
    # Nobody has an array of JAX before JAX is imported, and importing it takes a second.
    return "jax" in sys.modules and isinstance(array, sys.modules["jax"].Array)


def _is_traced(array):
    return _is_jax(array) and isinstance(array, sys.modules["jax"].core.Tracer)


def _as_array(value):
    return value if _is_jax(value) else np.asarray(value)


def _module(array):
    return sys.modules["jax"].numpy if _is_jax(array) else np
