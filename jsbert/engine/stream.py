"""From texts to batches and back, whatever computes the batches.

All texts go through `TextStream.stream`. It tokenises windows of texts ahead of the computation,
puts the texts into batches, computes each batch, and yields the outputs with the positions of their
texts. On a CPU the rows of a batch are padded texts. On accelerators a row may hold several texts.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from jsbert.engine.batching import Batch, pad
from jsbert.engine.plans import plan_for
from jsbert.engine.rows import SLOTS
from jsbert.engine.truncations import Truncations
from jsbert.inputs import ragged_from_ids
from jsbert.tokenizer import Ragged, Tokenizer

if TYPE_CHECKING:
    from jaxtyping import Int, PyTree
    from tqdm.auto import tqdm

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


class Place(Protocol):
    """What a stream asks about the place that computes."""

    @property
    def devices(self) -> Sequence[Any]: ...
    @property
    def platform(self) -> str: ...
    @property
    def packs(self) -> bool: ...
    @property
    def token_budget(self) -> int: ...


class TextStream:
    """A tokenizer, and batches of texts. A subclass computes the batches.

    Attributes:
        tokenizer: splits strings and pairs; its `max_length` is the limit of all texts. Can be set.
        placement: says how many devices compute, and how large a full batch is.
        compile_seconds: the time spent on compiling programs so far.
        num_tokens: the number of tokens of all texts that streams have computed so far.
        num_padded_tokens: the same with padding: the sizes of the arrays.
    """

    def __init__(self, tokenizer: Tokenizer, placement: Place, *, vocab_size: int):
        self.tokenizer, self.placement, self._vocab_size = tokenizer, placement, vocab_size
        self.num_tokens = self.num_padded_tokens = 0
        self._counting = threading.Lock()

    compile_seconds: float = 0.0

    @property
    def num_compilations(self) -> int:
        """The number of programs made so far."""
        return 0

    def warmup(
        self,
        function: Any,
        lengths: Sequence[int] | None = None,
        *,
        packs: bool = False,
        token_types: bool = False,
        scalars: Mapping[str, int] | None = None,
    ) -> None:
        """Compile what texts of these lengths need; by default nothing."""

    def _computing(self, function: Any, params: PyTree | None) -> Callable[[dict], PyTree]:
        """Return what computes one batch: from its arrays to outputs that may not be ready yet."""
        raise NotImplementedError

    def _each(self, rows: Callable[[Any], np.ndarray], outputs: PyTree) -> PyTree:
        """Wait for the outputs of a batch. Return them with `rows` applied to each array."""
        raise NotImplementedError

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
        function: Any,
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
            function: what computes a batch; the subclass says what it is.
            packs: whether `function` also takes rows of several texts, which accelerators get.
            texts: strings, pairs of strings or token ids; or tokens.
            prompt: the text that is put in front of each string.
            first: the position of texts[0] in the caller's count, for messages.
            params: the params of `function`; by default the model's when the stream begins.
            batch_size: cap on the rows of a batch; by default only a budget of tokens limits them.
            scalars: further integers for `function`.
            truncations: counts the texts that are truncated.
            progress: a progress bar that counts the texts done.

        Raises:
            ValueError: as `tokenize`; and if texts are truncated and `truncations` makes it an
                error.
        """
        compute = self._computing(function, params)
        values = {name: np.asarray(value, np.int32) for name, value in (scalars or {}).items()}
        in_flight: collections.deque = collections.deque()
        for tokens, positions, batches in self._batches(
            texts, prompt, first, truncations, batch_size, packs
        ):
            for batch in batches:
                # Start the batch, and do not wait for it if a device computes it. The device
                # computes while the host prepares the next batches.
                arrays = pad(tokens, batch, SLOTS) | values
                outputs = compute(arrays)
                with self._counting:
                    self.num_tokens += int(tokens.lengths[batch.indices].sum())
                    self.num_padded_tokens += batch.rows * batch.length
                in_flight.append((positions[batch.indices], batch, outputs))
                # Wait for the oldest batch only: a few batches stay ahead, and memory is bounded.
                if len(in_flight) > IN_FLIGHT:
                    yield self._fetched(in_flight.popleft(), progress)
        while in_flight:
            yield self._fetched(in_flight.popleft(), progress)

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

    def _fetched(self, computed, progress):
        """Wait for a batch. Return (positions, its outputs as NumPy arrays with one row for each
        text)."""
        positions, batch, outputs = computed

        def rows(output):
            output = np.asarray(output)
            if batch.row is None:
                return output[: len(positions)]
            return output[batch.row] if batch.slot is None else output[batch.row, batch.slot]

        found = self._each(rows, outputs)
        if progress is not None:
            progress.update(len(positions))
        return positions, found


def _is_pair(text):
    return isinstance(text, (tuple, list)) and len(text) > 0 and isinstance(text[0], str)
