"""The model to export as a pure function of arrays: from token ids to the final vector."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jsbert import siamese
from jsbert.config import CrossConfig
from jsbert.cross import logits
from jsbert.encoders import unstacked
from jsbert.text_model import TextModel
from jsbert.version import VERSION

SHAPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "input_ids": ("batch", "length"),
        "attention_mask": ("batch", "length"),
        "token_type_ids": ("batch", "length"),
        "prompt_length": (),
    }
)
"""{name: axes} of every input that a pipeline can have."""


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A model as a function.

    Attributes:
        function: `function(params, *inputs)` returns the output, or the outputs as a tuple.
        params: {name: array}; a name is the path in the model's params:
            "encoder.layers.0.attention.query.kernel".
        inputs: the names of the inputs, in order; keys of `SHAPES`. All inputs are integers.
        outputs: the names of the outputs, in order: arrays of float32.
        max_tokens: the largest supported length of a row.
        facts: facts about the model for the readers of the file; fit for json.
    """

    function: Callable
    params: Mapping[str, Array]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    max_tokens: int
    facts: Mapping[str, Any]

    def arguments(self) -> tuple[Any, ...]:
        """The shapes and dtypes to trace `function` with. Batch and length are symbols."""
        shape = jax.export.symbolic_shape(
            "batch, length", constraints=[f"length <= {self.max_tokens}"]
        )
        sizes = dict(zip(("batch", "length"), shape, strict=True))
        inputs = [
            jax.ShapeDtypeStruct(tuple(sizes[axis] for axis in SHAPES[name]), jnp.int32)
            for name in self.inputs
        ]
        params = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in self.params.items()
        }
        return params, *inputs


def pipeline(model: TextModel, task: str | None = None, *, tokens: bool = False) -> Pipeline:
    """The computation of a model, with its params.

    Args:
        model: a SentenceTransformer, computed from token ids to the end, `truncate_dim` included;
            or a CrossEncoder, computed from token ids to the logits, without the activation.
        task: chooses a route, for a SentenceTransformer with several routes.
        tokens: also give the token vectors of a SentenceTransformer, (batch, length, dim), as the
            output "token_embeddings".

    Raises:
        TypeError: if `model` is neither.
        ValueError: if there is no route for the task.
    """
    if not isinstance(model, TextModel):
        raise TypeError(
            f"given {type(model).__name__}; give an opened SentenceTransformer or CrossEncoder"
        )
    if isinstance(getattr(model, "config", None), CrossConfig):
        if task is not None:
            raise ValueError(f"task is {task!r}; a CrossEncoder has no routes, leave it out")
        return _of_cross_encoder(model)
    return _of_bi_encoder(model, task, tokens)


def _of_bi_encoder(model, task, tokens):
    routed = model if model.router is None else model.router.route(task)
    config, params = _written_out(routed.config.for_task(task), routed.params)
    dimension = min(config.embedding_dimension, model.truncate_dim or config.embedding_dimension)
    params, nested = _named(params)

    def sentence_vectors(params, ids, mask, prompt_length=0):
        return siamese.encode(config, nested(params), ids, mask, prompt_length=prompt_length)[
            :, :dimension
        ]

    def both(params, ids, mask, prompt_length=0):
        hidden = siamese.token_vectors(config, nested(params), ids, mask)
        vectors = siamese.pool_and_finish(
            config, nested(params), hidden, mask, prompt_length=prompt_length
        )
        return vectors[:, :dimension], hidden

    inputs = ("input_ids", "attention_mask") + (() if config.include_prompt else ("prompt_length",))
    facts = {
        "embedding_dimension": dimension,
        "normalized": config.is_normalized and dimension == config.embedding_dimension,
        "similarity": model.similarity_fn_name,
    }
    return _pipeline(
        routed,
        both if tokens else sentence_vectors,
        params,
        inputs,
        ("sentence_embedding", "token_embeddings") if tokens else ("sentence_embedding",),
        dimension,
        config.encoder,
        facts,
    )


def _written_out(config, params):
    """(config, params) for a program that runs on every platform: params with a tree for each
    layer, no scan, and "eager" attention in place of "auto"."""
    compute = config.encoder.compute
    how = compute.attn_implementation
    compute = dataclasses.replace(
        compute, platform="cpu", attn_implementation="eager" if how == "auto" else how
    )
    encoder = dataclasses.replace(config.encoder, compute=compute)
    params = params | {"encoder": unstacked(params["encoder"])}
    return dataclasses.replace(config, encoder=encoder), params


def _of_cross_encoder(model):
    config, params = _written_out(model.config, model.params)
    params, nested = _named(params)

    def scores(params, ids, mask, token_types=None):
        return logits(config, nested(params), ids, mask, token_types=token_types)

    has_types = getattr(config.encoder, "type_vocab_size", 0) > 1
    inputs = ("input_ids", "attention_mask") + (("token_type_ids",) if has_types else ())
    facts = {"num_labels": model.num_labels, "activation_not_applied": model.activation_fn}
    return _pipeline(
        model, scores, params, inputs, ("logits",), config.num_labels, config.encoder, facts
    )


def _pipeline(model, function, params, inputs, outputs, width, encoder, facts):
    shared = {
        "kind": type(model).__name__,
        "family": encoder.model_type,
        "dtype": encoder.compute.dtype,
        "vocab_size": encoder.vocab_size,
        "inputs": {name: list(SHAPES[name]) for name in inputs},
        "output": {outputs[0]: ["batch", width]},
        "max_tokens": encoder.max_tokens,
        "max_seq_length": model.max_seq_length,
    }
    versions = {"jsbert": VERSION, "jax": jax.__version__}
    return Pipeline(
        function,
        params,
        inputs,
        outputs,
        encoder.max_tokens,
        shared | facts | {"versions": versions},
    )


def _named(tree):
    """({name: leaf} of a tree of params, the function that makes the tree from them again)."""
    leaves, form = jax.tree_util.tree_flatten_with_path(tree)
    named = {".".join(str(entry.key) for entry in path): leaf for path, leaf in leaves}
    names = tuple(named)
    return named, lambda params: form.unflatten([params[name] for name in names])
