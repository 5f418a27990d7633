"""Several texts side by side in a row: arrays with little padding, for batches that may have any
shape.

If a batch of 16 sentence pairs is padded to its longest sentence, half of its tokens are padding.
If it is packed into rows of 64 tokens, a tenth is padding.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from jsbert.engine.ladder import packed_length, packed_rows

PACKED = ("ids", "segment_ids", "positions", "token_types", "starts")
"""The arrays of packed texts."""


def packed(
    ids: Int[np.ndarray, "texts length"],
    lengths: Int[np.ndarray, " texts"],
    token_types: Int[np.ndarray, "texts length"] | None = None,
) -> dict[str, np.ndarray]:
    """Pack N padded texts into rows. Return the packed arrays, int32.

    `ids`, `segment_ids`, `positions` and, if given, `token_types` are (R, L); `starts` is (N,).
    `segment_ids` hold the number of each token's text, from 1, and 0 for padding. `positions` hold
    the place of each token in its text. `starts` hold the index of each text's first token in the
    flattened rows. The longest text is packed first, and each text goes into the first row with
    room. L is `packed_length` of the longest text, and R comes from `packed_rows`, so that there
    are few shapes.

    >>> rows = packed(np.array([[7, 8, 0], [9, 0, 0]]), np.array([2, 1]))
    >>> rows["ids"].shape, rows["ids"][0, :4].tolist(), rows["segment_ids"][0, :4].tolist()
    ((1, 64), [7, 8, 9, 0], [1, 1, 2, 0])
    >>> rows["starts"].tolist()
    [0, 2]
    """
    row_length = packed_length(int(lengths.max(initial=1)))
    starts = np.zeros(len(lengths), np.int32)
    filled: list[int] = []
    for text in np.argsort(-lengths, kind="stable"):
        row = next(
            (row for row, used in enumerate(filled) if used + lengths[text] <= row_length),
            len(filled),
        )
        if row == len(filled):
            filled.append(0)
        starts[text] = row * row_length + filled[row]
        filled[row] += int(lengths[text])
    size = packed_rows(max(1, len(filled))) * row_length

    # For each token: its text, its place in the text, and its index in the flattened rows.
    text, place = np.nonzero(np.arange(ids.shape[1]) < lengths[:, None])
    target = starts[text] + place

    def spread(values):
        flat = np.zeros(size, np.int32)
        flat[target] = values
        return flat.reshape(-1, row_length)

    rows = {
        "ids": spread(ids[text, place]),
        "segment_ids": spread(text + 1),
        "positions": spread(place),
    }
    rows |= {"starts": starts}
    return rows if token_types is None else rows | {"token_types": spread(token_types[text, place])}


def is_packed(batch: Mapping) -> bool:
    """Whether a batch's arrays come from `packed`."""
    return "starts" in batch
