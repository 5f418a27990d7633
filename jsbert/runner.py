"""Runs a pure function of params and one batch over ragged texts: compiled once a shape, the host packing ahead of the
device."""

import collections
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jsbert.batching import Batch, pack, plan
from jsbert.device import token_budget, use_compilation_cache
from jsbert.tokenizer import Ragged

AHEAD = 3
"""Batches handed to the device before the host waits for the first of them."""


class Runner:
    """Params on their devices, and the programs compiled for them. Safe to use from several threads.

    Attributes:
        params: on `devices`, a copy on each.
        devices: each batch's rows are spread over them.
        compile_seconds: time spent so far on making programs.
    """

    def __init__(self, params: Any, devices: Sequence[jax.Device]):
        mesh = Mesh(np.asarray(devices), ("rows",))
        self._by_row = NamedSharding(mesh, PartitionSpec("rows"))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self.devices = tuple(devices)
        self.params = jax.device_put(params, self._everywhere)
        self._programs: dict[tuple, Callable] = {}
        self._lock = threading.Lock()
        self.compile_seconds = 0.0

    @property
    def num_compilations(self) -> int:
        """Programs made so far; they come from JAX's cache on disk where an earlier process left them."""
        return len(self._programs)

    def replace_params(self, params: Any) -> None:
        """Takes other params for the programs there are.

        Raises:
            ValueError: if their tree, shapes or dtypes are not those of the old.
        """
        forms = [jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree) for tree in (self.params, params)]
        if forms[0] != forms[1]:
            raise ValueError("the new params differ from the old in their names, shapes or dtypes; make another model")
        self.params = jax.device_put(params, self._everywhere)

    def run(
        self,
        function: Callable,
        params: Any,
        tokens: Ragged,
        *,
        max_length: int,
        max_rows: int | None = None,
        scalars: dict[str, int] | None = None,
    ) -> Iterator[tuple[Batch, Any]]:
        """Yields each batch with `function(params, ids=, lengths=[, token_types=], **scalars)`, as NumPy arrays.

        Args:
            function: pure, hashable, the same object in each call; returns arrays with a row for each row of `ids`.
            params: `self.params`, read by the caller once for all that belongs together.
            tokens: the texts.
            max_length: the longest that a text can be, the end of the ladder of lengths.
            max_rows: cap on the rows of a batch; by default the token budget decides alone.
            scalars: further integers for `function`, traced.
        """
        batches = plan(
            tokens.lengths,
            max_length=max_length,
            token_budget=token_budget(self.devices),
            max_rows=max_rows,
            multiple=len(self.devices),
        )
        pending = collections.deque()
        for batch in batches:
            arrays = {name: jax.device_put(array, self._by_row) for name, array in pack(tokens, batch).items()}
            arrays |= {name: jax.device_put(np.int32(x), self._everywhere) for name, x in (scalars or {}).items()}
            pending.append((batch, self._program(function, batch, arrays)(params, **arrays)))
            if len(pending) > AHEAD:
                yield _fetch(*pending.popleft())
        while pending:
            yield _fetch(*pending.popleft())

    def _program(self, function, batch, arrays):
        key = (function, batch.rows, batch.length, *sorted(arrays))
        with self._lock:
            if key not in self._programs:
                use_compilation_cache()
                started = time.perf_counter()
                lowered = jax.jit(function, out_shardings=self._by_row).lower(self.params, **arrays)
                self._programs[key] = lowered.compile()
                self.compile_seconds += time.perf_counter() - started
            return self._programs[key]


def _fetch(batch, outputs):
    return batch, jax.tree.map(np.asarray, outputs)
