"""Run any pure function of params and a padded batch on texts.

All texts go through `Engine.stream`. It tokenises windows of texts ahead of the device, puts the
texts into batches of few shapes, computes each batch with a program that is compiled once for each
shape, and yields the outputs with the positions of their texts. On a CPU the rows of a batch are
padded texts. On accelerators a row may hold several texts.
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
"""The number of texts tokenised, sorted and batched together. Larger windows pad a little less and
need more memory."""

PIECE = 4096
"""The number of texts tokenised at a time for an accelerator. The accelerator computes one piece
while the host tokenises the next."""

IN_FLIGHT = 3
"""The number of batches that the device is given before the host waits for the first of them."""


class Engine:
    """A tokenizer, params on their devices, and the programs compiled for them. Safe to use from
    several threads.

    Attributes:
        tokenizer: splits strings and pairs; its `max_length` is the limit of all texts. Can be set.
        placement: the devices, and how arrays are placed on them.
        compile_seconds: the time spent on compiling programs so far.
        num_tokens: the number of tokens of all texts that streams have computed so far.
        num_padded_tokens: the same with padding: the sizes of the arrays.
    """

    def __init__(
        self, params: PyTree, tokenizer: Tokenizer, placement: Placement, *, vocab_size: int
    ):
        """Put the params on the devices.

        Args:
            params: the params of the functions that will run.
            tokenizer: splits strings and pairs.
            placement: the devices that compute.
            vocab_size: token ids that callers give must be below it.
        """
        self.tokenizer, self.placement, self._vocab_size = tokenizer, placement, vocab_size
        self._params = placement.put(params)
        self._programs: dict[tuple, Future[Callable]] = {}
        self._lock = threading.Lock()
        self.compile_seconds = 0.0
        self.num_tokens = self.num_padded_tokens = 0

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: params on the host, tokenizer and size of the vocabulary.
        Devices and programs are left out."""
        params = jax.tree.map(np.asarray, self._params)
        return {"params": params, "tokenizer": self.tokenizer, "vocab_size": self._vocab_size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, **state, placement=Placement(resolve_devices()))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Engine":
        """An engine on the same devices. It shares the params, because JAX arrays never change."""
        return type(self)(self._params, self.tokenizer, self.placement, vocab_size=self._vocab_size)

    @property
    def params(self) -> PyTree:
        """The params on the devices. They can be set to a tree of the same names, shapes and
        dtypes. Compiled programs stay, and streams that have begun go on with the old params.

        Raises:
            ValueError: if they are set to a tree of other names, shapes or dtypes.
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
        """The number of programs made so far, compiled or read from JAX's cache on disk."""
        return len(self._programs)

    def tokenize(self, texts: Sequence[Text], *, prompt: str = "", first: int = 0) -> Ragged:
        """Tokenise texts, all of one kind.

        Args:
            texts: strings, pairs of strings, or token ids. Token ids do not change.
            prompt: the text that is put in front of each string.
            first: the position of texts[0] among all texts, for messages.

        Raises:
            ValueError: if a text has invalid Unicode, or an id is out of range; the message names
                the text.
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
        """Yield (positions, outputs) of each batch. `outputs` have one row for each text at
        `positions`.

        Positions count from 0 through all texts. Each text comes once; batches come in the order in
        which they were computed. Requests of several callers share batches if their texts are
        joined into one call: as one list of strings; or, if prompts differ, tokenised separately
        and joined by `Ragged.join`. The positions then say which rows belong to which caller.

        Args:
            function: pure, hashable, the same object in each call: `function(params, ids=,
                lengths=[, token_types=], **scalars)` takes `ids` (B, L) and `lengths` (B,) int32,
                and returns arrays with one row for each row of `ids`.
            packs: whether `function` also takes rows of several texts. On accelerators it then gets
                `lengths` (B, S), the lengths of the S texts side by side in each row, 0 for no
                text, and returns outputs (B, S, ...).
            texts: strings, pairs of strings or token ids; or tokens.
            prompt: the text that is put in front of each string.
            first: the position of texts[0] in the caller's count, for messages.
            params: by default `self.params`, read once when the stream begins.
            batch_size: cap on the rows of a batch; by default only a budget of tokens limits them.
            scalars: further integers for `function`.
            truncations: counts the texts that are truncated.
            progress: a progress bar that counts the texts done.

        Raises:
            ValueError: as `tokenize`; and if texts are truncated and `truncations` makes it an
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
                # Start the batch, and its copy to the host; wait for neither. The device computes
                # while the host prepares the next batches.
                arrays = pad(tokens, batch, SLOTS) | values
                outputs = self.compute(function, arrays, params=params)
                with self._lock:
                    self.num_tokens += int(tokens.lengths[batch.indices].sum())
                    self.num_padded_tokens += batch.rows * batch.length
                for output in jax.tree.leaves(outputs):
                    output.copy_to_host_async()
                in_flight.append((positions[batch.indices], batch, outputs))
                # Wait for the oldest batch only: a few batches stay ahead, and memory is bounded.
                if len(in_flight) > IN_FLIGHT:
                    yield _fetched(in_flight.popleft(), progress)
        while in_flight:
            yield _fetched(in_flight.popleft(), progress)

    def compute(
        self, function: Callable, arrays: Mapping[str, AnyArray], *, params: PyTree | None = None
    ) -> PyTree[Array]:
        """Compute one batch that the caller has padded. Return the outputs on the devices; the host
        does not wait for them.

        Args:
            function: as for `stream`.
            arrays: the arguments of the function by name: `ids` (B, L), `lengths` and the others; B
                is a multiple of the number of devices.
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
            lengths: the token counts of texts that will come; None: all.
            token_types: whether the batches will have token types.
            scalars: as for `stream`.

        Raises:
            ValueError: if a length is not a positive integer.
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
            lengths: the token counts of the texts; None: all.
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
        """Yield (tokens, positions of the texts, batches of the texts) until each text is in a
        batch.

        For accelerators the texts of batches that are not full wait for the next piece.
        """
        start, waiting = 0, None
        for tokens, is_last in self._windows(texts, prompt, first):
            if truncations is not None:
                truncations.add(tokens.truncated, len(tokens.lengths))
            # Plan the window, together with the texts that waited.
            positions = start + np.arange(len(tokens.lengths))
            start += len(tokens.lengths)
            if waiting is not None:
                tokens = Ragged.join([waiting[0], tokens])
                positions = np.concatenate([waiting[1], positions])
            batches, waiting = self._plan(tokens.lengths, batch_size, packs), None
            # Let the texts of small batches wait: they fill up batches of the next window.
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
        """Whether a batch has more than half of the budget of tokens."""
        return 2 * batch.rows * batch.length > self.placement.token_budget

    def _windows(self, texts, prompt, first) -> Iterator[tuple[Ragged, bool]]:
        """Yield (the tokens of a window, whether it is the last window), while another thread
        tokenises the next window. Windows are short for an accelerator, because it has nothing to
        compute until the first window is tokenised."""
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
        """The compiled program for arrays of these names and shapes; it is compiled at its first
        use."""
        key = (function, rows, length, arrays["lengths"].ndim, *sorted(arrays))
        with self._lock:
            is_new = key not in self._programs
            program = self._programs.setdefault(key, Future())
        # This thread compiles a new program outside of the lock. Other threads wait only if they
        # need the same program. After an error the next use tries again.
        if is_new:
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
    """Wait for a batch. Return (positions, its outputs as NumPy arrays with one row for each
    text)."""
    positions, batch, outputs = computed

    def rows(output):
        output = np.asarray(output)
        if batch.row is None:
            return output[: len(positions)]
        return output[batch.row] if batch.slot is None else output[batch.row, batch.slot]

    if progress is not None:
        progress.update(len(positions))
    return positions, jax.tree.map(rows, outputs)
