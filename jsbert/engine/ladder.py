"""The ladders of shapes: few lengths and row counts, so that few programs are compiled.

Encoding pads each text to a length of `length_ladder` and uses the row counts of `row_ladder`.
Programs of training take longer to compile. Training has ladders of its own with fewer steps.
"""

import functools

TOKEN_BUDGETS = {"cpu": 1024, "gpu": 32_768, "tpu": 32_768}
"""The number of tokens of a full batch, padding included. On a CPU small batches stay in the cache:
1,024 was measured as the best of 512 to 4,096 on two cores. The numbers of accelerators are not
measured."""

ROW = 64
"""The number of tokens of a packed row, unless a text is longer. Longer rows have less padding, but
attention takes more of the time."""


def length_ladder(max_length: int) -> tuple[int, ...]:
    """The lengths of arrays up to `max_length` tokens, ascending: steps of 2 up to 32, of 4 up to
    64, of 8 up to 128, and so on.

    >>> length_ladder(50)
    (4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 50)
    """
    lengths, length = [], 4
    while length < max_length:
        lengths.append(length)
        length += max(2, 2 ** length.bit_length() // 16)
    return (*lengths, max_length)


def row_ladder(
    length: int, *, token_budget: int, max_rows: int | None = None, multiple: int = 1
) -> tuple[int, ...]:
    """The row counts at one length, ascending: 1, 8, 64, ... and the rows of a full batch, each
    times `multiple`.

    >>> row_ladder(16, token_budget=1024)
    (1, 8, 64)
    """
    full = max(1, token_budget // (length * multiple))
    if max_rows is not None:
        full = max(1, min(full, max_rows // multiple))
    small = [8**power for power in range(12) if 8**power < full]
    return tuple(rows * multiple for rows in (*small, full))


def num_shapes(
    max_length: int, *, token_budget: int, max_rows: int | None = None, multiple: int = 1
) -> int:
    """The largest number of shapes. The options are those of `row_ladder`."""
    return sum(
        len(row_ladder(length, token_budget=token_budget, max_rows=max_rows, multiple=multiple))
        for length in length_ladder(max_length)
    )


@functools.lru_cache
def training_lengths(max_length: int) -> tuple[int, ...]:
    """The lengths of arrays for padded training batches: the multiples of 4 of `length_ladder`, and
    `max_length`.

    >>> training_lengths(30)
    (4, 8, 12, 16, 20, 24, 28, 30)
    """
    lengths = length_ladder(max_length)
    return tuple(length for length in lengths if length % 4 == 0 or length == max_length)


def packed_length(longest: int) -> int:
    """The number of tokens of a packed row if the longest text has `longest` tokens.

    >>> packed_length(20), packed_length(70)
    (64, 96)
    """
    return ROW if longest <= ROW else -(-longest // 32) * 32


def packed_rows(num_rows: int) -> int:
    """`num_rows`, rounded up to the ladder 1, 2, ..., 16, 18, 20, ..., 32, 36, ...: steps of at
    most an eighth.

    >>> packed_rows(17), packed_rows(33)
    (18, 36)
    """
    step = max(1, 2 ** (num_rows - 1).bit_length() // 16)
    return -(-num_rows // step) * step
