"""Requests as work: which texts a request has, and how it is cut into pieces."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jsbert.engine import Engine
from jsbert.tokenizer import Ragged

Rows = Sequence[np.ndarray] | np.ndarray
"""One array for each text."""


@dataclasses.dataclass(frozen=True)
class Program:
    """What is computed for texts. Requests with equal programs share batches.

    Attributes:
        engine: computes.
        function: as for `Engine.stream`.
        packs: as for `Engine.stream`.
        scalars: the names and values of `Engine.stream`'s `scalars`.
        rows: turns the outputs of a batch into one array for each text.
    """

    engine: Engine
    function: Callable
    packs: bool
    scalars: tuple[tuple[str, int], ...]
    rows: Callable[[Any], Rows]


class Job:
    """The texts of one request that wait or are computed.

    The worker takes pieces from the job, longest texts first, so that the texts of a piece have
    similar lengths. Only the worker calls `take` and `put`; only the event loop reads `future`.

    Attributes:
        program: what is computed.
        tokens: the texts.
        future: gets one array for each text, in the order of the texts.
        submitted: the time of `time.perf_counter` when the job was made.
        started: the same when its first piece was taken; None before.
    """

    def __init__(self, program: Program, tokens: Ragged, future: asyncio.Future):
        self.program, self.tokens, self.future = program, tokens, future
        self.submitted = time.perf_counter()
        self.started: float | None = None
        self._order = np.argsort(-tokens.lengths, kind="stable")
        self._ends = np.cumsum(tokens.lengths[self._order])  # the tokens up to each text
        self._next = 0
        self._found: list = [None] * len(tokens.lengths)
        self._missing = len(tokens.lengths)

    @property
    def num_tokens(self) -> int:
        """The number of tokens of all texts."""
        return len(self.tokens.ids)

    @property
    def is_taken(self) -> bool:
        """Whether each text was taken."""
        return self._next == len(self._order)

    def take(self, num_tokens: int) -> tuple[np.ndarray, int]:
        """Take the next texts, of at most `num_tokens` tokens, or one text if the next text is
        longer. Return their positions in the request, and their number of tokens."""
        if self.started is None:
            self.started = time.perf_counter()
        before = self._ends[self._next - 1] if self._next else 0
        end = int(np.searchsorted(self._ends, before + num_tokens, side="right"))
        end = max(end, self._next + 1)
        positions = self._order[self._next : end]
        self._next = end
        return positions, int(self._ends[end - 1] - before)

    def put(self, position: int, row: np.ndarray) -> bool:
        """Keep the result of one text that was taken. Return whether it was the last."""
        self._found[position] = row
        self._missing -= 1
        return not self._missing

    @property
    def results(self) -> list[np.ndarray]:
        """One array for each text, in the order of the texts."""
        return self._found
