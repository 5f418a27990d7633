"""Several texts side by side in a row: arrays nearly without padding, for work where a batch's shape is free.

A batch of 16 sentence pairs, padded to its longest sentence, is half padding; packed into rows of 64 tokens, a tenth.
"""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

ROW = 64
"""Tokens of a row, unless a text is longer. Longer rows hold less padding, and attention takes more of the time."""

PACKED = ("ids", "numbers", "positions", "token_types", "starts")
"""The arrays of packed texts."""


def packed(
    ids: Int[np.ndarray, "texts length"],
    lengths: Int[np.ndarray, " texts"],
    token_types: Int[np.ndarray, "texts length"] | None = None,
) -> dict[str, np.ndarray]:
    """Padded texts as packed rows, int32.

    `ids`, `numbers`, `positions` and, if given, `token_types` are (R, L), `starts` is (N,). `numbers` tells each
    token's text, from 1, and 0 where there is none; `positions` its place in the text; `starts` where each text's
    first token stands in the flat arrays. Longest texts first, each goes into the first row with
    room for it. L is `ROW`, or for longer texts the next multiple of 32; R comes from a ladder, in steps of about an
    eighth: so there are few shapes.

    >>> rows = packed(np.array([[7, 8, 0], [9, 0, 0]]), np.array([2, 1]))
    >>> rows["ids"].shape, rows["ids"][0, :4].tolist(), rows["numbers"][0, :4].tolist(), rows["starts"].tolist()
    ((1, 64), [7, 8, 9, 0], [1, 1, 2, 0], [0, 2])
    """
    row_length = length_of_rows(int(lengths.max(initial=1)))
    starts, filled = np.zeros(len(lengths), np.int32), []
    for text in np.argsort(-lengths, kind="stable"):
        row = next((row for row, used in enumerate(filled) if used + lengths[text] <= row_length), len(filled))
        if row == len(filled):
            filled.append(0)
        starts[text] = row * row_length + filled[row]
        filled[row] += int(lengths[text])
    size = _rounded(max(1, len(filled))) * row_length

    text, place = np.nonzero(np.arange(ids.shape[1]) < lengths[:, None])
    target = starts[text] + place

    def spread(values):
        flat = np.zeros(size, np.int32)
        flat[target] = values
        return flat.reshape(-1, row_length)

    rows = {"ids": spread(ids[text, place]), "numbers": spread(text + 1), "positions": spread(place), "starts": starts}
    return rows if token_types is None else rows | {"token_types": spread(token_types[text, place])}


def length_of_rows(longest: int) -> int:
    """Tokens of each row where the longest text has `longest`."""
    return ROW if longest <= ROW else -(-longest // 32) * 32


def unpacked(hidden: Float[Array, "rows length dim"], starts: Int[Array, " texts"]) -> Float[Array, "texts length dim"]:
    """The token vectors of each text from its own row on, (N, L, D); those beyond a text's length are others'."""
    places = starts[:, None] + jnp.arange(hidden.shape[1])[None]
    return jnp.take(hidden.reshape(-1, hidden.shape[-1]), places, axis=0, mode="clip")


def is_packed(batch: Mapping) -> bool:
    """Whether a batch's arrays come from `packed`."""
    return "starts" in batch


def _rounded(rows):
    """The next number of the ladder 1, 2, ..., 16, 18, 20, ..., 32, 36, ..."""
    step = max(1, 2 ** (rows - 1).bit_length() // 16)
    return -(-rows // step) * step
