"""Run any pure function of params and a padded batch on texts.

`Engine.stream` puts texts into batches of few shapes, and computes each batch with a program that
is compiled once for each shape.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

from jsbert.arrays import AnyArray
from jsbert.engine.cache import use_compilation_cache
from jsbert.engine.ladder import length_ladder, row_ladder
from jsbert.engine.placement import Placement, check_process, resolve_devices
from jsbert.engine.rows import SLOTS, row_lengths, row_shapes
from jsbert.engine.stream import TextStream
from jsbert.inputs import check_positive
from jsbert.tokenizer import Tokenizer


class Engine(TextStream):
    """A tokenizer, params on their devices, and the programs compiled for them. Safe to use from
    several threads.

    The functions of `stream` are pure and hashable, and the same object in each call:
    `function(params, ids=, lengths=[, token_types=], **scalars)` takes `ids` (B, L) and `lengths`
    (B,) int32, and returns arrays with one row for each row of `ids`. With `packs` it gets
    `lengths` (B, S) on accelerators, the lengths of the S texts side by side in each row, 0 for no
    text, and returns outputs (B, S, ...).

    Attributes:
        placement: the devices, and how arrays are placed on them.
        compile_seconds: the time spent on compiling programs so far.
    """

    placement: Placement

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
        super().__init__(tokenizer, placement, vocab_size=vocab_size)
        self._params = placement.put(params)
        self._programs: dict[tuple, Future[Callable]] = {}
        self._lock = threading.Lock()
        self.compile_seconds = 0.0

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

    def _computing(self, function, params):
        check_process()
        params = self.params if params is None else params

        def compute(arrays):
            outputs = self.compute(function, arrays, params=params)
            for output in jax.tree.leaves(outputs):
                output.copy_to_host_async()
            return outputs

        return compute

    def _each(self, rows, outputs):
        return jax.tree.map(rows, outputs)

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
