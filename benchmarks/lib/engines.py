"""The engines that `benchmarks.encode` compares. An engine opens a model's folder and turns texts
into vectors, or, with the folder of a cross-encoder, pairs into scores.

jsbert is imported only by jsbert's own engine, so another interpreter can run the peers.
"""

import functools
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.lib.onnx_graphs import input_names, is_cross_encoder, onnx_file, read_config

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BATCH_SIZES = {"cpu": (4, 8, 16, 32), "gpu": (32, 128, 512)}

Texts = Sequence[str] | Sequence[Sequence[str]]


class Jsbert:
    """jsbert with its defaults; there is nothing to tune."""

    settings = ({},)

    def __init__(
        self,
        folder: str,
        dtype: str,
        device: str,
        attn_implementation: str = "eager",
        backend: str = "jax",
    ):
        import jsbert

        options = {
            "dtype": dtype,
            "device": device,
            "attn_implementation": attn_implementation,
            "backend": backend,
        }
        if is_cross_encoder(folder):
            self.model = jsbert.CrossEncoder(folder, **options)
            self.run = functools.partial(self.model.predict, activation_fn="identity")
        else:
            self.model = jsbert.SentenceTransformer(folder, **options)
            self.run = self.model.encode

    def encode(self, texts: Texts) -> np.ndarray:
        return self.run(texts, on_truncate="ignore").reshape(len(texts), -1)

    def about(self) -> dict[str, Any]:
        return {
            "compile_seconds": self.model.compile_seconds,
            "num_compilations": self.model.num_compilations,
        }


class SentenceTransformers:
    """sentence-transformers on torch, which sorts by length itself."""

    def __init__(self, folder: str, dtype: str, device: str, attn_implementation: str = "sdpa"):
        import sentence_transformers
        import torch

        torch.set_num_threads(THREADS)
        self.settings = tuple({"batch_size": size} for size in BATCH_SIZES[device])
        place = {"gpu": "cuda"}.get(device, device)
        options = {"dtype": getattr(torch, dtype), "attn_implementation": attn_implementation}
        if is_cross_encoder(folder):
            self.model = sentence_transformers.CrossEncoder(
                folder, device=place, model_kwargs=options
            )
            self.run = functools.partial(self.model.predict, activation_fn=torch.nn.Identity())
        else:
            self.model = sentence_transformers.SentenceTransformer(
                folder, device=place, model_kwargs=options
            )
            self.run = self.model.encode

    def encode(self, texts: Texts, batch_size: int = 32) -> np.ndarray:
        found = self.run(texts, batch_size=batch_size, show_progress_bar=False)
        return found.astype(np.float32).reshape(len(texts), -1)


class OfGraph:
    """The base of engines that run an ONNX graph on the CPU: texts are tokenised at once, sorted by
    tokens, and padded to the longest of a batch."""

    def __init__(self, folder: str, dtype: str, device: str):
        import tokenizers

        self.folder, self.dtype, self.input_names = folder, dtype, input_names(folder)
        self.tokenizer = tokenizers.Tokenizer.from_file(
            str(pathlib.Path(folder) / "tokenizer.json")
        )
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_tokens(folder))

    def batches(
        self, texts: Texts, batch_size: int
    ) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
        """Yield (positions, inputs)."""
        texts = [text if isinstance(text, str) else tuple(text) for text in texts]
        rows = [
            (encoding.ids, encoding.type_ids)
            for encoding in self.tokenizer.encode_batch_fast(texts)
        ]
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i][0]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            shape = len(chosen), len(rows[chosen[0]][0])
            ids, mask, types = (np.zeros(shape, np.int64) for _ in range(3))
            for row, i in enumerate(chosen):
                length = len(rows[i][0])
                ids[row, :length], types[row, :length], mask[row, :length] = *rows[i], 1
            inputs = {"ids": ids, "mask": mask, "types": types}
            yield chosen, {name: inputs[name] for name in self.input_names}


class OnnxRuntime(OfGraph):
    """onnxruntime; the settings also try its own fusion of attention."""

    settings = tuple(
        {"batch_size": size, "graph": graph}
        for graph in ("plain", "fused")
        for size in BATCH_SIZES["cpu"]
    )

    @functools.cache  # noqa: B019, because a process has one engine
    def session(self, graph):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        file = onnx_file(self.folder, graph, self.dtype)
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def encode(self, texts: Texts, batch_size: int = 16, graph: str = "plain") -> np.ndarray:
        found: list = [None] * len(texts)
        for chosen, inputs in self.batches(texts, batch_size):
            for i, vector in zip(chosen, self.session(graph).run(None, inputs)[0], strict=True):
                found[i] = vector
        return np.stack(found)


class OpenVino(OfGraph):
    """OpenVINO; the settings try one stream of all threads, and one stream for each thread."""

    settings = tuple(
        {"batch_size": size, "streams": streams}
        for streams in {1, THREADS}
        for size in BATCH_SIZES["cpu"]
    )

    @functools.cache  # noqa: B019, because a process has one engine
    def model(self, streams):
        import openvino

        options = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[self.dtype],
            "INFERENCE_NUM_THREADS": THREADS,
            "NUM_STREAMS": streams,
        }
        return openvino.Core().compile_model(
            str(onnx_file(self.folder, "plain", "float32")), "CPU", options
        )

    def encode(self, texts: Texts, batch_size: int = 16, streams: int = 1) -> np.ndarray:
        import openvino

        found: list = [None] * len(texts)

        def keep(request, chosen):
            for i, vector in zip(chosen, request.get_output_tensor(0).data.copy(), strict=True):
                found[i] = vector

        queue = openvino.AsyncInferQueue(self.model(streams), streams)
        queue.set_callback(keep)
        for chosen, inputs in self.batches(texts, batch_size):
            queue.start_async(inputs, chosen)
        queue.wait_all()
        return np.stack(found)


LIBRARIES = {
    "jsbert": (Jsbert, ("jsbert",)),
    "jsbert-onnx": (functools.partial(Jsbert, backend="onnx"), ("jsbert", "onnx", "onnxruntime")),
    "jsbert-openvino": (
        functools.partial(Jsbert, backend="openvino"),
        ("jsbert", "onnx", "openvino"),
    ),
    "jsbert-cudnn": (functools.partial(Jsbert, attn_implementation="cudnn"), ("jsbert",)),
    "sentence-transformers": (SentenceTransformers, ("torch", "sentence_transformers")),
    "sentence-transformers-flash": (
        functools.partial(SentenceTransformers, attn_implementation="flash_attention_2"),
        ("torch", "sentence_transformers", "flash_attn"),
    ),
    "onnxruntime": (OnnxRuntime, ("onnxruntime", "onnx", "torch", "transformers")),
    "openvino": (OpenVino, ("openvino", "onnx", "torch", "transformers")),
}
"""The class of each library, and the modules that the class imports."""

ENGINES = {
    "cpu": (
        "jsbert float32", "jsbert-onnx float32", "jsbert-openvino float32",
        "sentence-transformers float32", "onnxruntime float32", "openvino float32",
        "jsbert bfloat16", "jsbert-openvino bfloat16",
        "sentence-transformers bfloat16", "openvino bfloat16",
        "jsbert int8", "jsbert-onnx int8", "onnxruntime int8",
    ),
    "gpu": (
        "jsbert float32", "sentence-transformers float32",
        "jsbert bfloat16", "jsbert-cudnn bfloat16",
        "sentence-transformers bfloat16", "sentence-transformers-flash bfloat16",
    ),
}  # fmt: skip
"""The engines for each kind of device: library and precision."""


def open_engine(name: str, folder: str, device: str) -> Any:
    """Open a model's folder with the engine `name` of `ENGINES`."""
    library, dtype = name.split()
    return LIBRARIES[library][0](folder, dtype, device)


def max_tokens(folder: str) -> int:
    """Return the model's limit of tokens, as sentence-transformers reads the limit."""
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        file = pathlib.Path(folder) / name
        if file.is_file() and key in (values := json.loads(file.read_text())):
            return values[key]
    return read_config(folder)["max_position_embeddings"]
