"""Texts in, outputs out, for any pure function of params and a padded batch.

`Engine.stream` is the way of every text through the library: tokenised in windows, ahead of the
device; sorted into batches of few shapes; computed by a program that is compiled once a shape;
handed out with the texts' positions.
"""

import collections
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Int, PyTree
from tqdm.auto import tqdm

from jsbert.engine.batching import pad, plan
from jsbert.engine.cache import use_compilation_cache
from jsbert.engine.ladder import length_ladder, row_ladder
from jsbert.engine.placement import Placement, resolve_devices
from jsbert.engine.truncations import Truncations
from jsbert.inputs import check_positive, ragged_from_ids
from jsbert.tokenizer import Ragged, Tokenizer

Text = str | tuple[str, str] | Sequence[int]
"""A string, a pair of strings, or token ids with their special tokens."""

WINDOW = 32_768
"""Texts tokenised, sorted and batched together. Larger windows pad a little less and hold more in
memory."""

IN_FLIGHT = 3
"""Batches handed to the device before the host waits for the first of them."""


class Engine:
    """A tokenizer, params on their devices, and the programs compiled for them. Safe to use from
    several threads.

    Attributes:
        tokenizer: splits strings and pairs; its `max_length` is the limit of all texts. Can be set.
        placement: the devices, and where arrays lie on them.
        compile_seconds: time spent so far on making programs.
    """

    def __init__(
        self, params: PyTree, tokenizer: Tokenizer, placement: Placement, *, vocab_size: int
    ):
        """
        Args:
            params: for the functions that will run.
            tokenizer: for texts that are no token ids.
            placement: the devices that compute.
            vocab_size: token ids that are given must be below it.
        """
        self.tokenizer, self.placement, self._vocab_size = tokenizer, placement, vocab_size
        self._params = placement.put(params)
        self._programs: dict[tuple, Callable] = {}
        self._lock = threading.Lock()
        self.compile_seconds = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: params on the host, tokenizer, vocabulary. Devices and
        programs stay here."""
        params = jax.tree.map(np.asarray, self._params)
        return {"params": params, "tokenizer": self.tokenizer, "vocab_size": self._vocab_size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state, placement=Placement(resolve_devices()))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Engine":
        """An engine on the same devices, which shares the params: arrays of JAX never change."""
        return type(self)(self._params, self.tokenizer, self.placement, vocab_size=self._vocab_size)

    @property
    def params(self) -> PyTree:
        """The params on the devices. Can be set, to a tree of the same names, shapes and dtypes:
        the programs stay, and streams that have begun go on with the old params.

        Raises:
            ValueError: when set to another form.
        """
        return self._params

    @params.setter
    def params(self, params: PyTree) -> None:
        forms = [
            jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)
            for tree in (self._params, params)
        ]
        if forms[0] != forms[1]:
            raise ValueError(
                "the new params differ from the old in their names, shapes or dtypes; make another model"
            )
        self._params = self.placement.put(params)

    @property
    def num_compilations(self) -> int:
        """Programs made so far; they come from JAX's cache on disk where an earlier process left
        them."""
        return len(self._programs)

    def tokenize(self, texts: Sequence[Text], *, prompt: str = "", first: int = 0) -> Ragged:
        """The token ids of texts, all of one kind.

        Args:
            texts: strings, pairs of strings, or token ids, which stay as they are.
            prompt: put in front of each string.
            first: the position of texts[0] among all texts, for messages.

        Raises:
            ValueError: for invalid Unicode, and for ids out of range; the message says which text.
        """
        if not len(texts) or isinstance(texts[0], str) or _is_pair(texts[0]):
            return self.tokenizer(texts, prompt=prompt, first=first)
        limit = self.tokenizer.max_length
        return ragged_from_ids(texts, vocab_size=self._vocab_size, max_length=limit, first=first)

    def stream(
        self,
        function: Callable,
        texts: Sequence[Text] | Ragged,
        *,
        prompt: str = "",
        first: int = 0,
        params: PyTree | None = None,
        batch_size: int | None = None,
        scalars: Mapping[str, int] | None = None,
        truncations: Truncations | None = None,
        progress: tqdm | None = None,
    ) -> Iterator[tuple[Int[np.ndarray, " rows"], PyTree]]:
        """Yield (positions, outputs) of each batch: `outputs` hold a row for each of the texts at
        `positions`.

        Positions count from 0 through all texts. Each text comes once; batches come in the order in
        which they were computed. Requests of several callers share batches if their texts are
        joined into one call: as one list of strings, or, if prompts differ, tokenised apart and
        joined by `Ragged.join`. The positions then say which rows belong to which caller.

        Args:
            function: pure, hashable, the same object in each call: `function(params, ids=,
                lengths=[, token_types=], **scalars)` with `ids` (B, L) and `lengths` (B,) int32
                returns arrays with a row for each row of `ids`.
            texts: strings, pairs of strings or token ids; or tokens.
            prompt: put in front of each string.
            first: the position of texts[0] in the caller's count, for messages.
            params: by default `self.params`, read once when the stream begins.
            batch_size: cap on the rows of a batch; by default a budget of tokens decides alone.
            scalars: further integers for `function`.
            truncations: where texts that are cut are counted.
            progress: told of the texts done.

        Raises:
            ValueError: as `tokenize`, and for texts that are cut where `truncations` makes it an
                error.
        """
        params = self.params if params is None else params
        start = 0
        for tokens in self._windows(texts, prompt, first):
            if truncations is not None:
                truncations.add(tokens.truncated, len(tokens.lengths))
            for indices, outputs in self._run(function, params, tokens, batch_size, scalars or {}):
                yield start + indices, outputs
                if progress is not None:
                    progress.update(len(indices))
            start += len(tokens.lengths)

    def compute(
        self, function: Callable, arrays: Mapping[str, ArrayLike], *, params: PyTree | None = None
    ) -> PyTree[Array]:
        """The outputs of one batch that the caller has padded, on the devices; the host does not
        wait for them.

        Args:
            function: as for `stream`.
            arrays: the function's arguments by name: `ids` (B, L), B a multiple of the number of
                devices, and the rest.
            params: by default `self.params`.
        """
        params = self.params if params is None else params
        rows, length = arrays["ids"].shape
        on_devices = {
            name: jax.device_put(
                array, self.placement.by_row if np.ndim(array) else self.placement.everywhere
            )
            for name, array in arrays.items()
        }
        return self._program(function, rows, length, on_devices)(params, **on_devices)

    def warmup(
        self,
        function: Callable,
        lengths: Sequence[int] | None = None,
        *,
        token_types: bool = False,
        scalars: Mapping[str, int] | None = None,
    ) -> None:
        """Compile `function` for every row count at the array lengths that hold `lengths` tokens;
        None for all lengths.

        Args:
            function: as for `stream`.
            lengths: token counts of texts that will come.
            token_types: whether the batches will have token types.
            scalars: as for `stream`.

        Raises:
            ValueError: for a length that is not a positive integer.
        """
        limit, budget = self.tokenizer.max_length, self.placement.token_budget
        ladder = np.asarray(length_ladder(limit))
        if lengths is not None:
            for length in lengths:
                check_positive("lengths", length, or_none=False)
            ladder = np.unique(ladder[np.searchsorted(ladder, np.minimum(lengths, limit))])
        for length in map(int, ladder):
            for rows in row_ladder(
                length, token_budget=budget, multiple=len(self.placement.devices)
            ):
                arrays = {
                    "ids": np.zeros((rows, length), np.int32),
                    "lengths": np.full(rows, length, np.int32),
                }
                arrays |= {"token_types": np.zeros((rows, length), np.int32)} if token_types else {}
                arrays |= {name: np.int32(value) for name, value in (scalars or {}).items()}
                jax.block_until_ready(self.compute(function, arrays))

    def _windows(self, texts, prompt, first) -> Iterator[Ragged]:
        """Yield the tokens of each window, while another thread tokenises the next one."""
        if isinstance(texts, Ragged):
            yield texts
            return

        def tokenize(start):
            return self.tokenize(texts[start : start + WINDOW], prompt=prompt, first=first + start)

        starts = iter(range(0, len(texts), WINDOW))
        if len(texts) <= WINDOW:  # no thread for a single window
            yield from map(tokenize, starts)
            return
        with ThreadPoolExecutor(1) as thread:
            ahead = collections.deque(thread.submit(tokenize, start) for start in islice(starts, 2))
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(thread.submit(tokenize, start) for start in islice(starts, 1))

    def _run(self, function, params, tokens, batch_size, scalars):
        # Another thread may have lowered the limit since these texts were tokenised.
        batches = plan(
            tokens.lengths,
            max_length=max(self.tokenizer.max_length, int(tokens.lengths.max(initial=1))),
            token_budget=self.placement.token_budget,
            max_rows=batch_size,
            multiple=len(self.placement.devices),
        )
        scalars = {name: np.int32(value) for name, value in scalars.items()}
        in_flight = collections.deque()
        for batch in batches:
            # The device computes while the host pads the next batch.
            in_flight.append(
                (batch.indices, self.compute(function, pad(tokens, batch) | scalars, params=params))
            )
            if len(in_flight) > IN_FLIGHT:
                yield _fetched(*in_flight.popleft())
        while in_flight:
            yield _fetched(*in_flight.popleft())

    def _program(self, function, rows, length, arrays):
        key = (function, rows, length, *sorted(arrays))
        with self._lock:
            if key not in self._programs:
                use_compilation_cache()
                started = time.perf_counter()
                lowered = jax.jit(function, out_shardings=self.placement.by_row).lower(
                    self._params, **arrays
                )
                self._programs[key] = lowered.compile()
                self.compile_seconds += time.perf_counter() - started
            return self._programs[key]


def _is_pair(text):
    return isinstance(text, (tuple, list)) and len(text) > 0 and isinstance(text[0], str)


def _fetched(indices, outputs):
    """The batch's outputs as NumPy arrays, without the rows that hold no text."""
    return indices, jax.tree.map(lambda output: np.asarray(output)[: len(indices)], outputs)
