"""Batches for accelerators: texts side by side in rows of a few fixed lengths.

A program for a TPU or a GPU takes seconds to minutes to compile, so that all texts share a few
shapes. There is still little padding, because short texts fill up the rows of longer texts.
"""

import math
from collections.abc import Sequence

import numpy as np

from jsbert.engine.batching import Batch

LENGTHS = (128, 512, 2048, 8192)
"""The numbers of tokens of a row. Longer rows have less padding, but attention takes more of the
time."""

SLOTS = 32
"""The number of texts that a row can hold. It fills a row of 128 tokens with texts of 4 tokens;
shorter texts are rare."""

SHARES = (1, 8, 64)
"""The rows of a full batch are divided by these numbers to get the row counts."""

SLACK = 0.02
"""The share of padding that is accepted to compute the last rows with fewer programs."""


def row_shapes(max_length: int, *, token_budget: int, multiple: int = 1) -> list[tuple[int, int]]:
    """All (rows, length) that `packed_batches` uses: the row counts of each row length.

    >>> row_shapes(256, token_budget=32_768)
    [(256, 128), (32, 128), (4, 128), (128, 256), (16, 256), (2, 256)]
    """
    return [
        (rows, length)
        for length in row_lengths(max_length)
        for rows in _row_counts(length, token_budget, multiple)
    ]


def row_lengths(max_length: int) -> tuple[int, ...]:
    """The lengths of rows for texts of at most `max_length` tokens, ascending. The last length is
    `max_length`, rounded up to a multiple of 128, because the TPU's kernels need such lengths.

    >>> row_lengths(100), row_lengths(512), row_lengths(1000)
    ((128,), (128, 512), (128, 512, 1024))
    """
    last = -(-max_length // 128) * 128
    return (*(length for length in LENGTHS if length < last), last)


def packed_batches(
    lengths: np.ndarray,
    *,
    max_length: int,
    token_budget: int,
    max_rows: int | None = None,
    multiple: int = 1,
    slots: int = SLOTS,
) -> list[Batch]:
    """Plan batches that hold each text once. Batches of long rows come first; for each length full
    batches come first.

    Args:
        lengths: the number of tokens of each text, (N,).
        max_length: the largest number of tokens that a text can have.
        token_budget: the number of tokens of a full batch, padding included.
        max_rows: cap on the rows of a batch. If even the smallest shape has more rows, the batch
            has that shape.
        multiple: the rows of a batch are a multiple of it: the number of devices.
        slots: the number of texts that a row can hold.
    """
    ladder = row_lengths(max_length)
    # Without packing, positions count through the whole row, padding included, and a model may have
    # no position embeddings past max_length.
    if slots == 1:
        ladder = (*ladder[:-1], max_length)
    texts_of_rows = _fill(lengths, ladder, slots)
    tokens = sum(len(rows) * length for length, rows in texts_of_rows.items())
    batches = []
    for length, rows in sorted(texts_of_rows.items(), reverse=True):
        counts = _row_counts(length, token_budget, multiple)
        if max_rows is not None:
            counts = [count for count in counts if count <= max_rows] or counts[-1:]
        start = 0
        for count in _cover(len(rows), counts, slack=SLACK * tokens / length):
            batches.append(_batch(rows[start : start + count], count, length, slots))
            start += count
    return batches


def _row_counts(length, token_budget, multiple):
    """The row counts at one length, descending."""
    full = max(1, token_budget // (length * multiple))
    return [rows * multiple for rows in sorted({max(1, full // s) for s in SHARES}, reverse=True)]


def _fill(lengths, row_lengths, slots):
    """{length of a row: [the texts of each row]}. The longest text is placed first. Each text goes
    into the row with the least free tokens that suffice; if there is none, into a new row of the
    smallest length that suffices."""
    rows: dict[int, list[list[int]]] = {length: [] for length in row_lengths}
    # `open_rows` are the rows with room by their number of free tokens. Bit n of `free_bits` says
    # whether there is a row with n free tokens: so the best row is found in one step, however many
    # rows there are.
    open_rows: dict[int, list[list[int]]] = {}
    free_bits = 0
    classes = np.asarray(row_lengths)[np.searchsorted(row_lengths, lengths)]
    order = np.argsort(-lengths, kind="stable")
    for text, tokens, length in zip(
        order.tolist(), lengths[order].tolist(), classes[order].tolist(), strict=True
    ):
        # The lowest bit of `fitting` belongs to the row with the least room that suffices.
        fitting = free_bits >> tokens
        if fitting:
            free = tokens + (fitting & -fitting).bit_length() - 1
            row = open_rows[free].pop()
            if not open_rows[free]:
                free_bits ^= 1 << free
        else:
            free, row = length, []
            rows[length].append(row)
        row.append(text)
        free -= tokens
        if free > 0 and len(row) < slots:
            open_rows.setdefault(free, []).append(row)
            free_bits |= 1 << free
    return {length: found for length, found in rows.items() if found}


def _cover(num_rows, counts, slack):
    """Row counts, descending, that together hold `num_rows`: full batches, then the fewest programs
    that leave at most `slack` rows empty."""
    full, rest = divmod(num_rows, counts[0])
    chosen = [counts[0]] * full
    for i, count in enumerate(counts[1:], 1):
        whole, over = divmod(rest, count)
        empty = (count - over) % count
        if empty <= slack or i == len(counts) - 1:
            return chosen + [count] * math.ceil(rest / count)
        chosen, rest = chosen + [count] * whole, over
    return chosen + [counts[0]] * bool(rest)


def _batch(rows: Sequence[Sequence[int]], count, length, slots):
    """The batch of `count` rows, of which the first have the texts `rows`."""
    sizes = [len(row) for row in rows]
    indices = np.asarray([text for row in rows for text in row], np.int64)
    row = np.repeat(np.arange(len(rows)), sizes)
    slot = np.arange(len(indices)) - np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)
    return Batch(indices, count, length, row, slot if slots > 1 else None)
