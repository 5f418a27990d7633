"""The engine of a graph: batches of texts as a session of onnxruntime or OpenVINO computes them."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jsbert.engine.batching import Batch
from jsbert.engine.stream import TextStream
from jsbert.runtimes.sessions import num_threads, open_session
from jsbert.tokenizer import Tokenizer

BUDGET = 256
"""The number of tokens of a full batch for each thread, padding included. 256 was measured as the
best of 64 to 2,048 for short, mixed and long texts in onnxruntime, in float32 and int8; at 1,024
short texts take 1.3 times as long."""


class Host:
    """This machine's CPU, as the place that computes."""

    devices = ("cpu",)
    platform = "cpu"
    packs = False

    @property
    def token_budget(self) -> int:
        """The number of tokens of a full batch, padding included."""
        return BUDGET * num_threads()


class RuntimeEngine(TextStream):
    """A tokenizer and a session. Safe to use from several threads.

    The functions of `stream` are tuples of the names of the graph's outputs. One name gives that
    array. Several give a dict, which has the token ids as "input_ids", and "lengths".
    """

    params = None

    def __init__(
        self, file: pathlib.Path, backend: str, dtype: str, tokenizer: Tokenizer, vocab_size: int
    ):
        """Open a graph.

        Args:
            file: the graph.
            backend: "onnx" or "openvino".
            dtype: "float32", "bfloat16" or "int8".
            tokenizer: splits strings and pairs.
            vocab_size: token ids that callers give must be below it.

        Raises:
            ImportError: if the runtime is not installed.
        """
        super().__init__(tokenizer, Host(), vocab_size=vocab_size)
        self.backend, self._file, self._dtype = backend, file, dtype
        self._session, self._process = open_session(file, backend, dtype), os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs. It opens the same file."""
        return {
            "file": self._file,
            "backend": self.backend,
            "dtype": self._dtype,
            "tokenizer": self.tokenizer,
            "vocab_size": self._vocab_size,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, **state)

    def _computing(self, function, params):
        if not isinstance(function, tuple):
            raise ValueError(
                f"this engine computes the model's graph (backend={self.backend!r}), not "
                f"{function!r:.60}; open the model with backend='jax'"
            )
        if self._process != os.getpid():
            raise RuntimeError(
                "this process was forked after the model had been opened, and the runtime's "
                "threads are not in it; open the model in this process, or start processes with "
                "the method 'spawn' or 'forkserver'"
            )
        inputs = self._session.inputs

        def compute(arrays: dict[str, np.ndarray]) -> np.ndarray | dict[str, np.ndarray]:
            ids, lengths = arrays["ids"], arrays["lengths"]
            given = {
                "input_ids": ids,
                "attention_mask": np.arange(ids.shape[1]) < lengths[:, None],
                "token_type_ids": arrays.get("token_types", np.zeros_like(ids)),
                "prompt_length": arrays.get("prompt_length", np.zeros((), np.int64)),
            }
            found = self._session.run(
                function, {name: given[name].astype(np.int64) for name in inputs}
            )
            if len(function) == 1:
                return found[0]
            own = {"input_ids": ids, "lengths": lengths}
            return own | dict(zip(function, found, strict=True))

        return compute

    def _each(self, rows: Callable, outputs: Any) -> Any:
        if isinstance(outputs, dict):
            return {name: rows(output) for name, output in outputs.items()}
        return rows(outputs)

    def _plan(self, lengths, batch_size, packs):
        return exact_batches(lengths, self.placement.token_budget, batch_size)


def exact_batches(lengths: np.ndarray, budget: int, max_rows: int | None = None) -> list[Batch]:
    """Plan batches that hold each text once, longest first. A runtime takes every shape, so each
    array is as long as its longest text, and has as many rows as texts.

    Args:
        lengths: the number of tokens of each text, (N,).
        budget: the most tokens of a batch, padding included; a longer text has its own batch.
        max_rows: cap on the rows of a batch.

    >>> [batch[1:3] for batch in exact_batches(np.array([3, 9, 4, 2]), 9)]
    [(1, 9), (2, 4), (1, 2)]
    """
    order, batches, start = np.argsort(-lengths, kind="stable"), [], 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        rows = max(1, min(budget // longest, max_rows or budget, len(order) - start))
        batches.append(Batch(order[start : start + rows], rows, longest))
        start += rows
    return batches
