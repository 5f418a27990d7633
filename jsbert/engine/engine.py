"""Texts in, outputs out, for any pure function of params and a padded batch.

`Engine.stream` is the way of every text through the library: tokenised in windows, ahead of the
device; put into batches of few shapes; computed by a program that is compiled once a shape; handed
out with the texts' positions. On a CPU the rows of a batch are padded texts. On accelerators a row
may hold several texts.
"""

import collections
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Array, Int, PyTree
from tqdm.auto import tqdm

from jsbert.arrays import AnyArray
from jsbert.engine.batching import Batch, pad
from jsbert.engine.cache import use_compilation_cache
from jsbert.engine.ladder import length_ladder, row_ladder
from jsbert.engine.placement import Placement, check_process, resolve_devices
from jsbert.engine.plans import plan_for
from jsbert.engine.rows import SLOTS, row_lengths, row_shapes
from jsbert.engine.truncations import Truncations
from jsbert.inputs import check_positive, ragged_from_ids
from jsbert.tokenizer import Ragged, Tokenizer

Text = str | tuple[str, str] | Sequence[int]
"""A string, a pair of strings, or token ids with their special tokens."""

WINDOW = 32_768
"""Texts tokenised, sorted and batched together. Larger windows pad a little less and hold more in
memory."""

PIECE = 4096
"""Texts tokenised at a time for an accelerator. It computes those of one piece while the host
tokenises the next."""

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
        self._programs: dict[tuple, Future[Callable]] = {}
        self._lock = threading.Lock()
        self.compile_seconds = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: params on the host, tokenizer, vocabulary. Devices and
        programs stay here."""
        params = jax.tree.map(np.asarray, self._params)
        return {"params": params, "tokenizer": self.tokenizer, "vocab_size": self._vocab_size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, **state, placement=Placement(resolve_devices()))

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
                "the new params differ from the old in their names, shapes or dtypes; make another "
                "model"
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
            return self.tokenizer(cast(Sequence[str], texts), prompt=prompt, first=first)
        limit = self.tokenizer.max_length
        ids = cast(Sequence[Sequence[int]], texts)
        return ragged_from_ids(ids, vocab_size=self._vocab_size, max_length=limit, first=first)

    def stream(
        self,
        function: Callable,
        texts: Sequence[Text] | Ragged,
        *,
        packs: bool = False,
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
            packs: whether `function` also takes rows of several texts. On accelerators it then gets
                `lengths` (B, S), those of the S texts side by side in each row, 0 where there is
                no text, and returns outputs (B, S, ...).
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
        check_process()
        params = self.params if params is None else params
        values = {name: np.asarray(value, np.int32) for name, value in (scalars or {}).items()}
        in_flight: collections.deque = collections.deque()
        for tokens, positions, batches in self._batches(
            texts, prompt, first, truncations, batch_size, packs
        ):
            for batch in batches:
                # The device computes while the host prepares the next batch.
                arrays = pad(tokens, batch, SLOTS) | values
                outputs = self.compute(function, arrays, params=params)
                for output in jax.tree.leaves(outputs):
                    output.copy_to_host_async()
                in_flight.append((positions[batch.indices], batch, outputs))
                if len(in_flight) > IN_FLIGHT:
                    yield _fetched(in_flight.popleft(), progress)
        while in_flight:
            yield _fetched(in_flight.popleft(), progress)

    def compute(
        self, function: Callable, arrays: Mapping[str, AnyArray], *, params: PyTree | None = None
    ) -> PyTree[Array]:
        """The outputs of one batch that the caller has padded, on the devices; the host does not
        wait for them.

        Args:
            function: as for `stream`.
            arrays: the function's arguments by name: `ids` (B, L) and `lengths`, B a multiple of
                the number of devices, and the rest.
            params: by default `self.params`.
        """
        check_process()
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
        packs: bool = False,
        token_types: bool = False,
        scalars: Mapping[str, int] | None = None,
    ) -> None:
        """Compile `function` for all shapes that texts can come in, several at a time.

        Args:
            function, packs: as for `stream`.
            lengths: token counts of texts that will come; None for all.
            token_types: whether the batches will have token types.
            scalars: as for `stream`.

        Raises:
            ValueError: for a length that is not a positive integer.
        """
        for length in () if lengths is None else lengths:
            check_positive("lengths", length, or_none=False)

        def compile_for(shape):
            sizes = (shape[0], SLOTS) if packs and self.placement.packs else shape[:1]
            arrays = {"ids": np.zeros(shape, np.int32), "lengths": np.ones(sizes, np.int32)}
            arrays |= {"token_types": np.zeros(shape, np.int32)} if token_types else {}
            arrays |= {name: np.int32(value) for name, value in (scalars or {}).items()}
            jax.block_until_ready(self.compute(function, arrays))

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            list(threads.map(compile_for, self.shapes(lengths)))

    def shapes(self, lengths: Sequence[int] | None = None) -> list[tuple[int, int]]:
        """The (rows, length) of all arrays that texts can come in.

        Args:
            lengths: token counts of the texts; None for all.
        """
        limit, budget = self.tokenizer.max_length, self.placement.token_budget
        multiple = len(self.placement.devices)
        if self.placement.packs:
            ladder = np.asarray(row_lengths(limit))
            shapes = row_shapes(limit, token_budget=budget, multiple=multiple)
        else:
            ladder = np.asarray(length_ladder(limit))
            shapes = [
                (rows, int(length))
                for length in ladder
                for rows in row_ladder(int(length), token_budget=budget, multiple=multiple)
            ]
        if lengths is None:
            return shapes
        wanted = set(ladder[np.searchsorted(ladder, np.minimum(lengths, limit))].tolist())
        return [(rows, length) for rows, length in shapes if length in wanted]

    def _batches(
        self, texts, prompt, first, truncations, batch_size, packs
    ) -> Iterator[tuple[Ragged, Int[np.ndarray, " texts"], list[Batch]]]:
        """Yield (tokens, the tokens' positions, batches of them) until each text is in a batch.

        For accelerators the rest of a piece that does not fill a batch waits for the next piece.
        """
        start, waiting = 0, None
        for tokens, is_last in self._windows(texts, prompt, first):
            if truncations is not None:
                truncations.add(tokens.truncated, len(tokens.lengths))
            positions = start + np.arange(len(tokens.lengths))
            start += len(tokens.lengths)
            if waiting is not None:
                tokens = Ragged.join([waiting[0], tokens])
                positions = np.concatenate([waiting[1], positions])
            batches, waiting = self._plan(tokens.lengths, batch_size, packs), None
            if self.placement.packs and not is_last:
                full = [batch for batch in batches if self._is_full(batch)]
                rest = [batch.indices for batch in batches if not self._is_full(batch)]
                batches = full
                if rest:
                    indices = np.concatenate(rest)
                    waiting = tokens.take(indices), positions[indices]
            yield tokens, positions, batches

    def _plan(self, lengths, batch_size, packs):
        # Another thread may have lowered the limit since these texts were tokenised.
        longest = max(self.tokenizer.max_length, int(lengths.max(initial=1)))
        return plan_for(
            self.placement.platform,
            lengths,
            max_length=longest,
            num_devices=len(self.placement.devices),
            max_rows=batch_size,
            packs=packs,
        ).batches

    def _is_full(self, batch):
        return 2 * batch.rows * batch.length > self.placement.token_budget

    def _windows(self, texts, prompt, first) -> Iterator[tuple[Ragged, bool]]:
        """Yield the tokens of each window, and whether it is the last one, while another thread
        tokenises the next. For an accelerator the windows are short: it waits for the first."""
        if isinstance(texts, Ragged):
            yield texts, True
            return
        size = PIECE if self.placement.packs else WINDOW

        def tokenize(start):
            tokens = self.tokenize(texts[start : start + size], prompt=prompt, first=first + start)
            return tokens, start + size >= len(texts)

        starts = iter(range(0, len(texts), size))
        if len(texts) <= size:  # no thread for a single window
            yield from map(tokenize, starts)
            return
        with ThreadPoolExecutor(1) as thread:
            ahead = collections.deque(thread.submit(tokenize, start) for start in islice(starts, 2))
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(thread.submit(tokenize, start) for start in islice(starts, 1))

    def _program(self, function, rows, length, arrays):
        key = (function, rows, length, arrays["lengths"].ndim, *sorted(arrays))
        with self._lock:
            is_new = key not in self._programs
            program = self._programs.setdefault(key, Future())
        if is_new:  # others that want the same program wait for it; other programs do not
            try:
                program.set_result(self._compiled(function, arrays))
            except BaseException as error:
                with self._lock:
                    del self._programs[key]
                program.set_exception(error)
        return program.result()

    def _compiled(self, function, arrays):
        use_compilation_cache()
        started = time.perf_counter()
        jitted = jax.jit(function, out_shardings=self.placement.by_row)
        compiled = jitted.lower(self._params, **arrays).compile()
        with self._lock:
            self.compile_seconds += time.perf_counter() - started
        return compiled


def _is_pair(text):
    return isinstance(text, (tuple, list)) and len(text) > 0 and isinstance(text[0], str)


def _fetched(computed, progress):
    """(positions, the batch's outputs as NumPy arrays, a row for each text)."""
    positions, batch, outputs = computed

    def rows(output):
        output = np.asarray(output)
        if batch.row is None:
            return output[: len(positions)]
        return output[batch.row] if batch.slot is None else output[batch.row, batch.slot]

    if progress is not None:
        progress.update(len(positions))
    return positions, jax.tree.map(rows, outputs)
