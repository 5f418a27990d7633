"""The graphs of models, kept in the user's cache folder under the sha256 of the model's files."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import platformdirs

from jsbert.checkpoint.find import hash_files, model_files
from jsbert.files import staged_folder, write_text
from jsbert.json_files import read_json
from jsbert.runtimes.engine import RuntimeEngine
from jsbert.runtimes.facts import Facts
from jsbert.tokenizer import ChatTokenizer, Template, Tokenizer
from jsbert.version import VERSION

if TYPE_CHECKING:
    from jsbert.text_model import TextModel

GRAPH, FACTS, INT8 = "model.onnx", "facts.json", "int8/model.onnx"
"""The files of a graph's folder, which also has those of the tokenizer."""

FORMAT = 1
"""Counts the forms that the folder has had. Another form is another folder."""


def graph_folder(
    folder: pathlib.Path, options: dict[str, Any], make: Callable[[], TextModel]
) -> pathlib.Path:
    """Return the folder with the graph of a model; write it if it is not there.

    Args:
        folder: the model's folder.
        options: the options of the constructor that change the graph.
        make: opens the model with JAX in float32.

    Raises:
        OSError: if the cache folder cannot be written.
        ValueError: for a model with several routes, and an adapter that is not merged.
    """
    cache = pathlib.Path(platformdirs.user_cache_dir("jsbert")) / "graphs"
    of_all = [FORMAT, VERSION, model_hash(folder, cache), options]
    found = cache / hashlib.sha256(json.dumps(of_all).encode()).hexdigest()
    if not (found / FACTS).is_file():
        _write(make(), found)
    return found


def open_graph(folder: pathlib.Path, backend: str, dtype: str) -> tuple[Facts, RuntimeEngine]:
    """Open the graph in a folder of `graph_folder`.

    Args:
        folder: the graph's folder.
        backend: "onnx" or "openvino".
        dtype: a dtype of `facts.DTYPES`.

    Raises:
        ImportError: if the runtime is not installed.
    """
    dtype = "float32" if dtype == "auto" else dtype
    facts = Facts(**read_json(folder / FACTS), dtype=dtype)
    tokenizer = Tokenizer.from_folder(
        folder, max_length=facts.max_seq_length, lower_case=facts.lower_case
    )
    if facts.chat_template is not None:
        plain, told = (tuple(facts.chat_template[name]) for name in ("plain", "told"))
        tokenizer = ChatTokenizer.around(tokenizer, Template(plain, told))
    file = folder / GRAPH
    if dtype == "int8":
        file = folder / INT8
        if not file.is_file():
            _quantize(folder / GRAPH, file)
    return facts, RuntimeEngine(file, backend, dtype, tokenizer, facts.vocab_size)


def model_hash(folder: pathlib.Path, cache: pathlib.Path) -> str:
    """Return the sha256 of the files that a model is read from.

    The files are read once. After that a note in `cache` has the hash, as long as the files have
    the same sizes and times.
    """
    files = model_files(folder)
    if any(file.endswith("adapter_config.json") for file in files):
        raise ValueError(
            f"{folder} holds an adapter; open it with backend='jax', save it, and open what was "
            "saved"
        )
    states = [(file, (folder / file).stat()) for file in files]
    seen = [(file, state.st_size, state.st_mtime_ns) for file, state in states]
    key = hashlib.sha256(json.dumps([str(folder.resolve()), seen]).encode()).hexdigest()
    note = cache / "notes" / key
    if note.is_file():
        return note.read_text(encoding="utf8")
    digest = hash_files(folder, files)
    note.parent.mkdir(parents=True, exist_ok=True)
    write_text(note, digest)
    return digest


def _write(model: TextModel, folder: pathlib.Path) -> None:
    """Write the graph of a model, its facts and its tokenizer."""
    from jsbert.config import CrossConfig
    from jsbert.export.onnx import save_graph
    from jsbert.export.pipeline import pipeline

    config: Any = model.config  # type: ignore[attr-defined]  # both objects have one
    if getattr(model, "router", None) is not None or getattr(config, "router", None) is not None:
        raise ValueError("the model has several routes, and a graph has one; use backend='jax'")
    own: dict[str, Any]
    if isinstance(config, CrossConfig):
        own = {"num_labels": config.num_labels, "activation": config.activation}
        own["description"] = f"{config.num_labels} label{'s' * (config.num_labels > 1)}"
        own |= {name: getattr(model, name) for name in ("prompts", "default_prompt_name")}
        if isinstance(model.tokenizer, ChatTokenizer):
            own["chat_template"] = dataclasses.asdict(model.tokenizer.template)
    else:
        names = ("prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim")
        own = {name: getattr(model, name) for name in names}
        own |= {
            "embedding_dimension": config.embedding_dimension,
            "include_prompt": config.include_prompt,
            "description": model.description,  # type: ignore[attr-defined]
        }
        model.truncate_dim = None  # type: ignore[attr-defined]  # a call truncates by itself
    source = pipeline(model, tokens=True)
    encoder = config.encoder
    facts = Facts(
        model_type=encoder.model_type,
        num_layers=encoder.num_layers,
        hidden_size=encoder.hidden_size,
        vocab_size=encoder.vocab_size,
        max_tokens=encoder.max_tokens,
        max_seq_length=model.max_seq_length,
        lower_case=model.tokenizer.lower_case,
        inputs=source.inputs,
        **own,
    )
    values = dataclasses.asdict(facts)
    del values["dtype"]  # the caller chooses it
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _unless_there(folder / FACTS), staged_folder(folder) as staging:
        save_graph(source, staging / GRAPH)
        model.tokenizer.save(staging)
        (staging / FACTS).write_text(json.dumps(values), encoding="utf8")


@contextlib.contextmanager
def _unless_there(file: pathlib.Path) -> Iterator[None]:
    """Let an OSError of writing pass if another process has written `file` meanwhile."""
    try:
        yield
    except OSError:
        if not file.is_file():
            raise


def _quantize(source: pathlib.Path, file: pathlib.Path) -> None:
    """Write the graph with int8 matrices, a scale for each column, by onnxruntime's dynamic
    quantisation."""
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError:
        raise ImportError(
            "dtype='int8' needs the packages onnx and onnxruntime: pip install 'jsbert[onnx]'"
        ) from None
    with _unless_there(file), staged_folder(file.parent) as staging:
        quantize_dynamic(
            source,
            staging / file.name,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=os.path.exists(f"{source}.data"),
        )
