"""From ragged token ids to a few shapes: which texts go together, and how large the array is that they lie in.

Texts are sorted by token count and cut where it costs least. The shapes come from a finite ladder, so a model is
compiled a bounded number of times, and small inputs get small shapes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jsbert.tokenizer import Ragged

WINDOW = 32_768
"""Texts tokenised, sorted and batched together. Larger windows pad a little less and hold more in memory."""

BATCH_COST = 1 / 8
"""What a batch costs beside its tokens, as a share of a full one. Measured for all-MiniLM-L6-v2 on two cores: .03 in
float32, .12 in bfloat16, .13 in int8. Not measured on accelerators."""


class Batch(NamedTuple):
    """Texts that share an array of `rows` x `length` tokens; rows beyond `len(indices)` stay empty."""

    indices: np.ndarray  # (n,) int64, into the window
    rows: int
    length: int


def length_ladder(max_length: int) -> tuple[int, ...]:
    """The array lengths in use up to `max_length` tokens, ascending: steps of 2 up to 32, of 4 up to 64, of 8 up to
    128, and so on.

    >>> length_ladder(50)
    (4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 50)
    """
    lengths, length = [], 4
    while length < max_length:
        lengths.append(length)
        length += max(2, 2 ** length.bit_length() // 16)
    return (*lengths, max_length)


def row_ladder(length: int, *, token_budget: int, max_rows: int | None = None, multiple: int = 1) -> tuple[int, ...]:
    """The row counts in use at one length, ascending: 1, 8, 64, ... and the full batch, each times `multiple`.

    >>> row_ladder(16, token_budget=1024)
    (1, 8, 64)
    """
    full = max(1, token_budget // (length * multiple))
    if max_rows is not None:
        full = max(1, min(full, max_rows // multiple))
    small = [8**power for power in range(12) if 8**power < full]
    return tuple(rows * multiple for rows in (*small, full))


def num_shapes(max_length: int, **rows: int | None) -> int:
    """How many shapes there are at most; `rows` as for `row_ladder`."""
    return sum(len(row_ladder(length, **rows)) for length in length_ladder(max_length))


def plan(
    lengths: np.ndarray, *, max_length: int, token_budget: int, max_rows: int | None = None, multiple: int = 1
) -> list[Batch]:
    """Batches that hold each text once, longest first.

    Each has as many texts as rows, but for the last. Of all such plans it is the one that costs least: the tokens of
    its batches, padding included, and `BATCH_COST` for each.

    Args:
        lengths: tokens of each text, (N,).
        max_length: the longest that a text can be.
        token_budget: tokens of a full batch, padding included.
        max_rows: cap on the rows of a batch.
        multiple: what the rows must be divisible by (the number of devices).
    """
    order = np.argsort(-lengths, kind="stable")
    ladder = np.asarray(length_ladder(max_length))
    array_lengths = ladder[np.searchsorted(ladder, lengths[order])].tolist()
    extra = BATCH_COST * token_budget
    steps = {}  # for each length the row counts, from many to few, and what a batch of them costs
    for length in set(array_lengths):
        rows = row_ladder(length, token_budget=token_budget, max_rows=max_rows, multiple=multiple)
        steps[length] = [(count, count * length + extra) for count in reversed(rows)]
    # From the last text to the first: what the texts from this one on cost at least, and the rows of their first batch.
    most = max((counts[0][0] for counts in steps.values()), default=0)
    costs, choices = [math.inf] * len(order) + [0.0] * most, [0] * len(order)
    for start in reversed(range(len(order))):
        for rows, cost in steps[array_lengths[start]]:
            if cost + costs[start + rows] < costs[start]:
                costs[start], choices[start] = cost + costs[start + rows], rows
    batches, start = [], 0
    while start < len(order):
        rows = choices[start]
        batches.append(Batch(order[start : start + rows], rows, array_lengths[start]))
        start += rows
    return batches


def pack(tokens: Ragged, batch: Batch) -> dict[str, np.ndarray]:
    """The arrays of one batch: `ids` (rows, length) int32, `lengths` (rows,) int32, and `token_types` where there are
    any."""
    lengths = np.zeros(batch.rows, np.int32)
    lengths[: len(batch.indices)] = tokens.lengths[batch.indices]
    filled = np.arange(batch.length) < lengths[:, None]
    # Where each row's tokens lie in the flat arrays: its start plus 0, 1, 2, ...
    source = (tokens.starts[batch.indices][:, None] + np.arange(batch.length))[filled[: len(batch.indices)]]

    def spread(flat):
        array = np.zeros((batch.rows, batch.length), np.int32)
        array[filled] = flat[source]
        return array

    arrays = {"ids": spread(tokens.ids), "lengths": lengths}
    if tokens.token_types is not None:
        arrays["token_types"] = spread(tokens.token_types)
    return arrays


def padding_share(lengths: np.ndarray, batches: Sequence[Batch]) -> float:
    """The share of the batches' tokens that is padding, 0 to 1."""
    total = sum(batch.rows * batch.length for batch in batches)
    return 1.0 - float(np.sum(lengths)) / total if total else 0.0
