"""Processes that compute for one model: `encode(pool=...)` and `predict(pool=...)`."""

import math
import multiprocessing
import os
import pickle
import sys
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from types import TracebackType
from typing import Any

import numpy as np

LARGEST_CHUNK = 5000
"""The most texts that a process gets at a time if the caller names no number."""


def check_pool(pool: Any) -> None:
    """Raise TypeError unless `pool` is None or a `Pool`."""
    if pool is not None and not isinstance(pool, Pool):
        raise TypeError(
            f"pool is {type(pool).__name__}; give what model.start_multi_process_pool() returns"
        )


class Pool:
    """Spawned processes, each with a copy of one model. `with` closes the pool at its end.

    The copies have the params and settings that the model had when the pool was made.
    """

    def __init__(self, model: Any, num_processes: int):
        """Start to compute in `num_processes` processes, on the CPU.

        Args:
            model: a `SentenceTransformer` or a `CrossEncoder`.
            num_processes: at least 1. Each process starts with the first chunks of texts.
        """
        self.num_processes, self._is_closed = num_processes, False
        self._executor = ProcessPoolExecutor(
            num_processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_open,
            initargs=(pickle.dumps(model),),
        )

    def map(
        self,
        method: str,
        inputs: Sequence[Any],
        options: Mapping[str, object],
        chunk_size: int | None = None,
    ) -> Any:
        """Return what the model's method returns for all inputs, in their order.

        Args:
            method: "encode" or "predict".
            inputs: at least one text or pair.
            options: the method's other arguments.
            chunk_size: inputs that a process gets at a time. By default about ten chunks for each
                process, and at most `LARGEST_CHUNK` inputs in each.

        Raises:
            RuntimeError: if the pool is closed.
            The errors of the method, raised in a process.
        """
        if self._is_closed:
            raise RuntimeError("the pool is closed; start another with start_multi_process_pool")
        if chunk_size is None:
            chunk_size = min(math.ceil(len(inputs) / self.num_processes / 10), LARGEST_CHUNK)
        starts = range(0, len(inputs), chunk_size)
        futures = [
            self._executor.submit(_call, method, inputs[start : start + chunk_size], dict(options))
            for start in starts
        ]
        try:
            done = [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        # The processes' warnings would be lost: the caller gets each of them once.
        for message in dict.fromkeys(chain.from_iterable(messages for _, messages in done)):
            warnings.warn(message, stacklevel=4)
        found = [part for part, _ in done]
        if isinstance(found[0], np.ndarray):
            return np.concatenate(found)
        return list(chain.from_iterable(found))

    def close(self) -> None:
        """End the processes. A closed pool stays closed."""
        self._is_closed = True
        self._executor.shutdown(cancel_futures=True)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


_model: Any = None
"""The copy of the model in a process of a pool."""


def _open(pickled: bytes) -> None:
    global _model
    # The accelerator belongs to the first process. JAX reads the variable when it is imported; a
    # script that each process runs again may have imported JAX already.
    os.environ["JAX_PLATFORMS"] = "cpu"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    _model = pickle.loads(pickled)


def _call(method: str, inputs: Sequence[Any], options: dict[str, object]) -> tuple[Any, list[str]]:
    """Return the method's result and the texts of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = getattr(_model, method)(inputs, **options)
    return found, [str(warning.message) for warning in caught]
