"""ONNX: the whole pipeline as a graph of standard operators, for onnxruntime and other readers.

The graph is written from the jaxpr, one primitive after the other, so that every family is covered.
We do not use jax2onnx (0.17.1): it does not convert these pipelines if batch and length are free
(its `arange` of a symbolic length cannot be indexed), it replaces functions of JAX while it traces,
and it would install equinox, netron and an orbax older than ours.
"""

import json
import os
import pathlib
from typing import Any

import jax
import numpy as np

from jsbert.export.fused import fuse
from jsbert.export.graph import Graph, Value, as_dim
from jsbert.export.jaxpr import written
from jsbert.export.pipeline import SHAPES, Pipeline, pipeline
from jsbert.files import staged_folder
from jsbert.text_model import TextModel

OPSET = 18
"""The first version of ONNX's operators in which every operator used here has its present form.
onnxruntime reads it since 1.14 (2023)."""

LARGEST = 2**31 - 2**20
"""The most bytes of params in a single file. protobuf's limit for the whole file is 2^31."""


def to_onnx(
    model: TextModel,
    path: str | os.PathLike,
    *,
    opset: int = OPSET,
    task: str | None = None,
) -> None:
    """Write the model as an ONNX file: from token ids to the final vector, or to the logits of a
    CrossEncoder.

    The inputs are int64: input_ids and attention_mask (batch, length); then token_type_ids (batch,
    length) for cross-encoders whose encoder has token types, or prompt_length () for models that
    leave the prompt out of the pooling. The output, sentence_embedding or logits, is float32. Ids
    out of range are an error of the runtime. The file's metadata hold, under "jsbert", the facts
    that `to_stablehlo` writes as json. From 2 GB on, the params are in a second file, whose name is
    that of `path` plus ".data". All files are complete before the first reaches its place.

    Args:
        model: an opened SentenceTransformer or CrossEncoder with dtype "float32".
        path: the file to write.
        opset: the version of ONNX's operators, from 18.
        task: chooses a route, for a model with several routes.

    Raises:
        ImportError: without onnx (the extra `onnx`).
        OSError: if the file cannot be written.
        ValueError: for a model of another dtype, unknown opsets or tasks, and primitives that have
            no ONNX nodes here.
    """
    onnx = _import_onnx()
    newest = onnx.defs.onnx_opset_version()
    if not OPSET <= opset <= newest:
        raise ValueError(
            f"opset is {opset}; onnx {onnx.__version__} writes {OPSET} to {newest} here"
        )
    source = pipeline(model, task)
    if source.facts["dtype"] != "float32":
        raise ValueError(
            f"the model computes in {source.facts['dtype']}; ONNX files need dtype='float32', open "
            "it so"
        )
    path = pathlib.Path(path).expanduser().absolute()
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file to write")
    with staged_folder(path.parent) as staging:
        save_graph(source, staging / path.name, opset=opset)


def save_graph(source: Pipeline, path: pathlib.Path, *, opset: int = OPSET) -> None:
    """Write a pipeline as an ONNX file, with its params in a second file if they are large.

    Raises:
        ImportError: without onnx (the extra `onnx`).
        ValueError: for primitives that have no ONNX nodes here.
    """
    onnx = _import_onnx()
    proto = as_proto(onnx, source, opset)
    is_large = sum(leaf.nbytes for leaf in source.params.values()) > LARGEST
    onnx.save_model(proto, path, save_as_external_data=is_large, location=f"{path.name}.data")
    onnx.checker.check_model(path)


def _import_onnx():
    try:
        import onnx
    except ImportError:
        raise ImportError("ONNX files need the package onnx: pip install 'jsbert[onnx]'") from None
    return onnx


def as_proto(onnx: Any, source: Pipeline, opset: int) -> Any:
    """The pipeline as an `onnx.ModelProto`. `onnx` is the module of that name."""
    # Declare params and inputs as values of the graph. Inside, integers are int32, as in JAX.
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    arguments = source.arguments()
    closed = jax.make_jaxpr(source.function)(*arguments)
    graph = Graph(helper)
    params = {
        name: Value(name, leaf.shape, np.dtype(leaf.dtype)) for name, leaf in source.params.items()
    }
    inputs = []
    for name in source.inputs:
        graph.add_sizes(name, SHAPES[name])
        narrow = graph.node("Cast", name, to=graph.code(np.int32))
        inputs.append(Value(narrow, SHAPES[name], np.dtype(np.int32)))
    # Write the computation, and give the results the outputs' names.
    results = written(graph, closed, jax.tree.leaves((params, *inputs)))
    shapes = [tuple(map(as_dim, aval.shape)) for aval in closed.out_avals]
    for name, result, shape in zip(source.outputs, results, shapes, strict=True):
        graph.nodes.append(
            helper.make_node("Identity", [graph.widened(result, shape).name], [name])
        )
    fuse(graph, helper)
    # Keep only what the outputs need, and assemble the model.
    nodes = graph.used(source.outputs)
    names = {name for node in nodes for name in node.input}
    arrays = {name: np.asarray(leaf) for name, leaf in source.params.items()} | graph.constants
    body = helper.make_graph(
        nodes,
        "jsbert",
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.INT64, SHAPES[name])
            for name in source.inputs
        ],
        [
            helper.make_tensor_value_info(name, float32, shape)
            for name, shape in zip(source.outputs, shapes, strict=True)
        ],
        [
            onnx.numpy_helper.from_array(array, name)
            for name, array in arrays.items()
            if name in names
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        body,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="jsbert",
    )
    helper.set_model_props(model, {"jsbert": json.dumps(dict(source.facts), ensure_ascii=False)})
    return model
