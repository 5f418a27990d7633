"""Sessions: a graph in onnxruntime or in OpenVINO, called with NumPy arrays."""

from __future__ import annotations

import os
import pathlib
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np


class Session(Protocol):
    """An open graph. Safe to use from several threads.

    Attributes:
        inputs: the names of the inputs.
    """

    inputs: tuple[str, ...]

    def run(self, names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs of these names, for an array of each input."""


def open_session(file: pathlib.Path, backend: str, dtype: str) -> Session:
    """Open a graph.

    Args:
        file: the graph.
        backend: "onnx" or "openvino".
        dtype: "float32" or "bfloat16" for OpenVINO; onnxruntime computes what the file says.

    Raises:
        FileNotFoundError: without the file.
        ImportError: if the runtime is not installed.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no graph {file}; the cache was cleared: open the model again")
    return (OnnxRuntime if backend == "onnx" else OpenVino)(file, dtype)


def num_threads() -> int:
    """The number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class OnnxRuntime:
    """A graph in onnxruntime."""

    def __init__(self, file: pathlib.Path, dtype: str):
        try:
            import onnxruntime
        except ImportError:
            raise ImportError(
                "backend='onnx' needs the package onnxruntime: pip install 'jsbert[onnx]'"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads()
        self._session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = tuple(one.name for one in self._session.get_inputs())

    def run(self, names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return self._session.run(list(names), dict(arrays))


class OpenVino:
    """A graph in OpenVINO."""

    def __init__(self, file: pathlib.Path, dtype: str):
        openvino = _import_openvino()
        options = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype],
            "INFERENCE_NUM_THREADS": num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._model = openvino.Core().compile_model(str(file), "CPU", options)
        self.inputs = tuple(one.get_any_name() for one in self._model.inputs)
        outputs = enumerate(self._model.outputs)
        self._places = {name: i for i, one in outputs for name in one.get_names()}
        self._own = threading.local()  # a request serves one thread at a time

    def run(self, names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        if not hasattr(self._own, "request"):
            self._own.request = self._model.create_infer_request()
        self._own.request.infer(dict(arrays))
        # Copy, because the next call writes to the same memory.
        return [
            self._own.request.get_output_tensor(self._places[name]).data.copy() for name in names
        ]


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which forks a process and calls the network when
    OpenVINO is imported: JAX's threads do not survive a fork, and nobody asked for a call."""
    telemetry = "openvino_telemetry"
    is_new = "openvino" not in sys.modules and telemetry not in sys.modules
    if is_new:
        sys.modules[telemetry] = None  # type: ignore[assignment]  # OpenVINO then goes without
    try:
        import openvino
    except ImportError:
        raise ImportError(
            "backend='openvino' needs the package openvino: pip install 'jsbert[openvino]'"
        ) from None
    finally:
        if is_new:
            del sys.modules[telemetry]
    return openvino
