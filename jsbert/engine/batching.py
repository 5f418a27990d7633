"""Which texts share a batch, and the padded arrays of a batch.

Texts are sorted by token count and divided into batches where it costs least. The shapes come from
a finite ladder, so that a model is compiled a bounded number of times, and small inputs get small
shapes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jsbert.engine.ladder import length_ladder, row_ladder
from jsbert.tokenizer import Ragged

BATCH_COST = 1 / 8
"""The cost of a batch in addition to its tokens, as a share of the cost of a full batch. Measured
for all-MiniLM-L6-v2 on two cores: .03 in float32, .12 in bfloat16, .13 in int8. Not measured on
accelerators."""


class Batch(NamedTuple):
    """Texts that share an array of `rows` x `length` tokens; other rows stay empty.

    In a padded batch text i has row i. In a batch of packed rows text i has a slot of a row: the
    texts of a row are side by side, in the order of their slots.
    """

    indices: np.ndarray  # (n,) int64, into the window
    rows: int
    length: int
    row: np.ndarray | None = None  # (n,), with the texts of a row one after the other
    slot: np.ndarray | None = None  # (n,)


def plan(
    lengths: np.ndarray,
    *,
    max_length: int,
    token_budget: int,
    max_rows: int | None = None,
    multiple: int = 1,
) -> list[Batch]:
    """Plan batches that hold each text once, longest first.

    Every batch except the last has as many texts as rows. Of all such plans this plan costs least:
    the tokens of all batches, padding included, plus `BATCH_COST` for each batch.

    Args:
        lengths: the number of tokens of each text, (N,).
        max_length: the largest number of tokens that a text can have.
        token_budget: the number of tokens of a full batch, padding included.
        max_rows: cap on the rows of a batch.
        multiple: the rows of a batch are a multiple of it: the number of devices.
    """
    order = np.argsort(-lengths, kind="stable")
    ladder = np.asarray(length_ladder(max_length))
    array_lengths = ladder[np.searchsorted(ladder, lengths[order])].tolist()
    extra = BATCH_COST * token_budget
    # For each length: the row counts, from many to few, and the cost of a batch with that many
    # rows.
    steps: dict[int, list[tuple[int, float]]] = {}
    for length in set(array_lengths):
        counts = row_ladder(length, token_budget=token_budget, max_rows=max_rows, multiple=multiple)
        steps[length] = [(count, count * length + extra) for count in reversed(counts)]
    # From the last text to the first: `costs[i]` is the lowest cost of the texts from i on, and
    # `choices[i]` is the number of rows of their first batch.
    most = max((choices[0][0] for choices in steps.values()), default=0)
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


def pad(tokens: Ragged, batch: Batch, slots: int = 1) -> dict[str, np.ndarray]:
    """The arrays of a batch, int32: `ids` (rows, length); `token_types` (rows, length), if the
    texts have token types; `lengths` (rows,), or (rows, slots) for packed rows."""
    sizes = tokens.lengths[batch.indices]
    row = np.arange(len(sizes)) if batch.row is None else batch.row
    if batch.slot is None:
        lengths, column = np.zeros(batch.rows, np.int32), 0
        lengths[row] = sizes
    else:
        lengths = np.zeros((batch.rows, slots), np.int32)
        lengths[row, batch.slot] = sizes
        column = (np.cumsum(lengths, axis=1) - lengths)[row, batch.slot]
    # For each token: its place in its text (0, 1, 2, ...), its index in the flat token ids, and its
    # index in the flattened array.
    place = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    source = np.repeat(tokens.starts[batch.indices], sizes) + place
    target = np.repeat(row * batch.length + column, sizes) + place

    def spread(flat):
        array = np.zeros(batch.rows * batch.length, np.int32)
        array[target] = flat[source]
        return array.reshape(batch.rows, batch.length)

    arrays = {"ids": spread(tokens.ids), "lengths": lengths}
    if tokens.token_types is not None:
        arrays["token_types"] = spread(tokens.token_types)
    return arrays


def padding_share(lengths: np.ndarray, batches: Sequence[Batch]) -> float:
    """The share of the batches' tokens that is padding, 0 to 1."""
    total = sum(batch.rows * batch.length for batch in batches)
    return 1.0 - float(np.sum(lengths)) / total if total else 0.0
