"""The encoder families, and the pure functions that are the same for all of them.

A family is a file of its own and a line in `FAMILIES`. The file has:
    Config: the family's sizes and rates.
    Encoder: the Flax module.
    NAMES: the names of the modules in checkpoints.
    PREFIX, DROPPED: the prefix of these names, and the tensors that are not the encoder's.
    head(config): the classifier of the family's cross-encoder.
    TIED, if a tensor has two names: {the other name: the name in NAMES}, both with the leaf.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType, ModuleType

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, UInt32

from jsbert.arrays import AnyArray
from jsbert.config import EncoderConfig
from jsbert.encoders import (
    albert,
    bert,
    deberta,
    distilbert,
    electra,
    gemma3,
    gte,
    gte_alibaba,
    llama,
    modernbert,
    mpnet,
    nomic_bert,
    qwen3,
    roberta,
    static,
    t5,
)
from jsbert.encoders.dropout import Dropout, row_keys
from jsbert.encoders.layers import repetition

FAMILIES: Mapping[str, tuple[ModuleType, str]] = MappingProxyType(
    {
        "bert": (bert, "Bert"),
        "roberta": (roberta, "Roberta"),
        "xlm-roberta": (roberta, "XLMRoberta"),
        "camembert": (roberta, "Camembert"),
        "mpnet": (mpnet, "MPNet"),
        "deberta-v2": (deberta, "DebertaV2"),
        "distilbert": (distilbert, "DistilBert"),
        "electra": (electra, "Electra"),
        "albert": (albert, "Albert"),
        "modernbert": (modernbert, "ModernBert"),
        "qwen3": (qwen3, "Qwen3"),
        "llama": (llama, "Llama"),
        "mistral": (llama, "Mistral"),
        "qwen2": (llama, "Qwen2"),
        "gemma3_text": (gemma3, "Gemma3Text"),
        "nomic_bert": (nomic_bert, "NomicBert"),
        "gte": (gte, "Gte"),
        "new": (gte_alibaba, "New"),
        "t5": (t5, "T5Encoder"),
        static.MODEL_TYPE: (static, ""),
    }
)
"""For each supported `model_type` of config.json: the family's file, and how the names of
transformers' classes begin."""


def family(model: EncoderConfig | str) -> ModuleType:
    """The file of the family of `model`, a config or a `model_type`.

    Raises:
        ValueError: for a model_type that is not supported.
    """
    model_type = model if isinstance(model, str) else model.model_type
    if model_type not in FAMILIES:
        raise ValueError(
            f"unsupported model_type {model_type!r}; supported: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type][0]


def class_name(config: EncoderConfig) -> str:
    """How the names of transformers' classes for this model_type begin: "Bert" for BertModel."""
    return FAMILIES[config.model_type][1]


def forward(
    config: EncoderConfig,
    params: PyTree,
    ids: Int[AnyArray, "batch length"] | Float[AnyArray, "batch length dim"],
    mask: Int[AnyArray, "batch length"] | Bool[AnyArray, "batch length"],
    key: Key[Array, ""] | Key[Array, " examples"] | UInt32[Array, "..."] | None = None,
    *,
    token_types: Int[AnyArray, "batch length"] | None = None,
    positions: Int[AnyArray, "batch length"] | None = None,
) -> Float[Array, "batch length dim"]:
    """The token vectors of the last layer, at least float32. Vectors at masked positions mean
    nothing.

    Pure: composes with `jit` (config static), `vmap`, `grad` and shardings.

    Args:
        config: a family's config. `config.compute` holds the dtype of the matrix products; with
            "float32" the products are computed in float32 on every device.
        params: as `init` or `checkpoint.read_bi_encoder` return them.
        ids: token ids below `config.vocab_size` (others give NaN); or word vectors in place of
            ids, so that one can differentiate by the word vectors.
        mask: nonzero where there is a token.
        key: draws the dropout. One key is split over the rows; a batch of keys gives each example
            its own. None: no dropout.
        token_types: 0 for a pair's first text, 1 for its second; all 0 by default. Families without
            token types ignore them.
        positions: only for packed rows, which hold several texts side by side (see
            `jsbert.engine.packing`): the place of each token in its own text. `mask` then says
            which text a token belongs to: 1, 2, 3, ... through the whole batch, 0 where there is
            none. Texts do not see each other. A batch of keys then has one key for each text.
    """
    return hidden_states(
        config, params, ids, mask, key, token_types=token_types, positions=positions
    )[-1]


def hidden_states(
    config: EncoderConfig,
    params: PyTree,
    ids: Int[AnyArray, "batch length"] | Float[AnyArray, "batch length dim"],
    mask: Int[AnyArray, "batch length"] | Bool[AnyArray, "batch length"],
    key: Key[Array, ""] | Key[Array, " examples"] | UInt32[Array, "..."] | None = None,
    *,
    token_types: Int[AnyArray, "batch length"] | None = None,
    positions: Int[AnyArray, "batch length"] | None = None,
) -> tuple[Float[Array, "batch length dim"], ...]:
    """The token vectors of the embeddings, then those of each layer.

    Pure. The arguments are those of `forward`.
    """
    ids, mask, token_types, positions = jax.tree.map(
        jnp.asarray, (ids, mask, token_types, positions)
    )
    keys = row_keys(key, ids)
    dropout = Dropout(keys) if positions is None else Dropout(keys, mask - 1, positions)
    encoder = nnx.merge(_graphdef_and_shapes(config)[0], unstacked(params))
    with jax.default_matmul_precision(config.compute.precision):
        stages = encoder(ids, mask, token_types, positions, dropout)
    return tuple(stage.astype(config.compute.sum_dtype) for stage in stages)


def stacked(config: EncoderConfig, params: PyTree) -> PyTree:
    """The params in a second form, in which the layers that repeat share their arrays.
    `jax.lax.scan` reads these arrays without a copy.

    "layers" becomes {(start, stop, step): params of the layers range(start, stop, step)}; each leaf
    has an axis of the layers in front. `forward`, `hidden_states` and their callers take both
    forms. Params without layers, and params that the layers share (ALBERT), stay as they are.
    """
    layers = params.get("layers")
    if not layers or not _is_listed(layers):
        return params
    start, period, times = repetition_of(config)
    end = start + period * times
    slices = [(i, i + 1, 1) for i in (*range(start), *range(end, len(layers)))]
    slices += [(start + i, end, period) for i in range(period) if times]
    stack = {
        one: jax.tree.map(lambda *leaves: jnp.stack(leaves), *[layers[i] for i in range(*one)])
        for one in sorted(slices)
    }
    return params | {"layers": stack}


def unstacked(params: PyTree) -> PyTree:
    """The inverse of `stacked`: the params with a tree for each layer. Params that are not stacked
    come back as they are."""
    layers = params.get("layers")
    if not layers or _is_listed(layers):
        return params
    listed = {
        number: jax.tree.map(lambda leaf, i=i: leaf[i], tree)
        for one, tree in layers.items()
        for i, number in enumerate(range(*one))
    }
    return params | {"layers": dict(sorted(listed.items()))}


def init(config: EncoderConfig, key: Key[Array, ""]) -> PyTree:
    """Return random params (float32), as before any training."""
    return nnx.to_pure_dict(nnx.state(family(config).Encoder(config, nnx.Rngs(key)), nnx.Param))


def shapes(config: EncoderConfig) -> PyTree:
    """The tree of params with a `jax.ShapeDtypeStruct` for each."""
    # New objects: the cached ones may carry the sharding of another caller's mesh, and the caller
    # may change the tree.
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), _graphdef_and_shapes(config)[1]
    )


def tensor_names(config: EncoderConfig) -> dict[tuple, str]:
    """For each path in the params, the HuggingFace name of the tensor, without the prefix. A
    "kernel" is stored transposed."""
    names, leaves = (
        family(config).NAMES,
        {"embedding": "weight", "kernel": "weight", "filter": "weight"}
        | {"scale": "weight", "bias": "bias"},
    )

    def name(keys):
        numbers = [key for key in keys if isinstance(key, int)]
        module = ".".join("{}" if isinstance(key, int) else key for key in keys[:-1])
        return f"{names[module].format(*numbers)}.{leaves[keys[-1]]}"

    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(shapes(config))[0]]
    return {keys: name(keys) for keys in (tuple(entry.key for entry in path) for path in paths)}


def _is_listed(layers):
    return isinstance(next(iter(layers)), int)


@functools.lru_cache
def repetition_of(config: EncoderConfig) -> tuple[int, int, int]:
    """Which layers repeat: (start, period, times), as `layers.repetition` returns them."""
    encoder = nnx.eval_shape(lambda: family(config).Encoder(config, _OneKey(0)))
    return repetition(list(encoder.layers))


class _OneKey(nnx.Rngs):
    """One key for all parameters, for `nnx.eval_shape`, which draws nothing. Counting keys would
    take most of the time of the tracing."""

    def params(self):
        return self.default.key[...]


@functools.lru_cache
def _graphdef_and_shapes(config):
    graphdef, state = nnx.split(
        nnx.eval_shape(lambda: family(config).Encoder(config, _OneKey(0))), nnx.Param
    )
    return graphdef, nnx.to_pure_dict(state)
