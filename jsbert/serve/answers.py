"""Answers as JSON, written fast: long lists of floats come straight from arrays."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

TRUNCATED = "x-truncated-texts"
"""The header with the number of texts of the request that were cut at the model's limit; it is
there only if there are such texts."""


def base64_floats(array: np.ndarray) -> str:
    """Return an array as base64 of float32, little-endian, in C order."""
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode("ascii")


class Json(Response):
    """An answer of plain values, and of arrays of numbers in C order."""

    media_type = "application/json"

    def __init__(
        self,
        content: Any,
        *,
        num_truncated: int = 0,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ):
        headers = dict(headers or {}) | ({TRUNCATED: str(num_truncated)} if num_truncated else {})
        super().__init__(content, status_code, headers)

    def render(self, content: Any) -> bytes:
        """Return the JSON text."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
