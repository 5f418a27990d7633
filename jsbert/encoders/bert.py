"""BERT: config, modules, the pure forward pass, and the names of its tensors in HuggingFace checkpoints.

Covers every checkpoint of `model_type` "bert": BERT base and large, MiniLM, bge, e5, gte (old), LaBSE.
Devlin et al. 2019, https://arxiv.org/abs/1810.04805; the reference is transformers' BertModel.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PyTree, UInt32

from jsbert.activations import ACTIVATIONS, activation_name
from jsbert.encoders.attention import attention
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.product import int8_product, product

PREFIX = "bert."
"""What some checkpoints put in front of every name of the trunk."""

DROPPED = (
    r"embeddings\.(position_ids|token_type_ids)",  # buffers
    r"pooler\.dense\.(weight|bias)",  # the next-sentence head's; sentence vectors do not use it
    r"(cls|classifier|qa_outputs)\..+",  # heads
)
"""Patterns of tensor names, without the prefix, that a trunk rightly leaves in the file."""


SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
"""The config's sizes, all positive integers."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and rates under HuggingFace's names, and two things of our own that no config.json holds: `dtype`, that of
    the matrix products, and `remat`, whether a gradient computes each layer anew instead of keeping what is inside."""

    model_type: ClassVar[str] = "bert"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self):
        _check(vars(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "config.json") -> "Config":
        """The config that a HuggingFace config.json describes; keys that do not change the vectors are left aside.

        Raises:
            ValueError: for sizes, activations or variants that cannot be computed here; the message names `where`.
        """
        for name, allowed in (("position_embedding_type", "absolute"), ("is_decoder", False)):
            if values.get(name, allowed) != allowed:
                raise ValueError(f"{where}: {name} is {values[name]!r}; only {allowed!r} is supported")
        known = {field.name for field in dataclasses.fields(cls)} - {"dtype", "remat"}  # their dtype is the file's
        chosen = {name: value for name, value in values.items() if name in known}
        if "hidden_act" in chosen:
            chosen["hidden_act"] = activation_name(chosen["hidden_act"], where=where)
        try:
            _check({field.name: field.default for field in dataclasses.fields(cls)} | chosen)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        return cls(**chosen)

    def to_json(self) -> dict[str, Any]:
        """The config.json from which transformers builds the same BertModel."""
        values = {"architectures": ["BertModel"], "model_type": self.model_type, "position_embedding_type": "absolute"}
        own = dataclasses.asdict(self) | {"dtype": "float32"}
        del own["remat"]
        return values | own

    @property
    def attention_dtype(self) -> str:
        """The dtype of attention's products, both of whose operands are activations: int8 would be too coarse."""
        return "bfloat16" if self.dtype == "int8" else self.dtype

    @property
    def wide(self) -> Any:
        """The dtype of sums, statistics and the residual stream: at least float32."""
        return jnp.promote_types(self.dtype, jnp.float32)


def _check(values):
    for name in SIZES:
        if not isinstance(values[name], int) or isinstance(values[name], bool) or values[name] < 1:
            raise ValueError(f"{name} is {values[name]!r}; it must be a positive integer")
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps"):
        value = values[name]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a number from 0 to 1")
    if not isinstance(values["pad_token_id"], (int, type(None))):
        raise ValueError(f"pad_token_id is {values['pad_token_id']!r}; it must be an integer")
    if values["hidden_size"] % values["num_attention_heads"]:
        raise ValueError(
            f"num_attention_heads {values['num_attention_heads']} does not divide hidden_size {values['hidden_size']}"
        )


class Linear(nnx.Linear):
    """A linear layer over the tokens of all rows at once, (B, L, D) as (B * L, D).

    With one contracted axis the kernel's gradient is a plain matrix product; with two, XLA on the CPU first copies an
    operand transposed, and takes twice as long.
    """

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        rows, kernel = x.reshape(-1, x.shape[-1]), self.kernel[...]
        if self.dtype == jnp.int8:
            rows = int8_product(rows, kernel, self.kernel_scale[...])
        else:
            rows = product("bi,io->bo", rows, kernel, self.dtype)
        return (rows + self.bias[None]).reshape(*x.shape[:-1], -1)


def _linear(config: Config, inputs: int, outputs: int, rngs: nnx.Rngs) -> Linear:
    linear = Linear(
        inputs,
        outputs,
        dtype=jnp.dtype(config.dtype),
        kernel_init=nnx.initializers.normal(config.initializer_range),
        rngs=rngs,
    )
    if config.dtype == "int8":  # see `precision.in_dtype`
        linear.kernel_scale = nnx.Param(jnp.ones(outputs))
    return linear


def _layer_norm(config: Config, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # The fast variance, E[x^2] - E[x]^2, loses two digits where the mean is large.
    return nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs)


class Embeddings(nnx.Module):
    """Word, position and token-type vectors, summed and normalised."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        embed = functools.partial(
            nnx.Embed,
            dtype=config.wide,
            embedding_init=nnx.initializers.normal(config.initializer_range),
            rngs=rngs,
        )
        self.word = embed(config.vocab_size, config.hidden_size)
        self.position = embed(config.max_position_embeddings, config.hidden_size)
        self.token_type = embed(config.type_vocab_size, config.hidden_size)
        self.norm = _layer_norm(config, rngs)
        self.config = config

    def __call__(self, ids, token_types, positions, dropout):
        # (B, L) ids are looked up; (B, L, D) floats are word vectors already.
        words = self.word(ids) if jnp.issubdtype(ids.dtype, jnp.integer) else ids
        types = self.token_type.embedding[None, :1] if token_types is None else self.token_type(token_types)
        places = self.position.embedding[None, : words.shape[1]] if positions is None else self.position(positions)
        hidden = self.norm((words + types + places).astype(self.config.wide))
        return dropout.hidden(hidden, self.config.hidden_dropout_prob)


class Attention(nnx.Module):
    """Self-attention over the unmasked tokens."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        width = config.hidden_size
        self.query, self.key, self.value, self.output = (_linear(config, width, width, rngs) for _ in range(4))
        self.config = config

    def __call__(self, hidden, bias, dropout):
        mixed = attention(
            self.query(hidden),
            self.key(hidden),
            self.value(hidden),
            bias,
            num_heads=self.config.num_attention_heads,
            dtype=self.config.attention_dtype,
            dropout=dropout,
            rate=self.config.attention_probs_dropout_prob,
        )
        return self.output(mixed)


class Layer(nnx.Module):
    """Attention and a two-layer perceptron, each added to its input and then normalised."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.attention = Attention(config, rngs)
        self.attention_norm = _layer_norm(config, rngs)
        self.intermediate = _linear(config, config.hidden_size, config.intermediate_size, rngs)
        self.output = _linear(config, config.intermediate_size, config.hidden_size, rngs)
        self.output_norm = _layer_norm(config, rngs)
        self.config = config

    def __call__(self, hidden, bias, dropout):
        rate = self.config.hidden_dropout_prob
        hidden = self.attention_norm(hidden + dropout.hidden(self.attention(hidden, bias, dropout), rate))
        inner = ACTIVATIONS[self.config.hidden_act](self.intermediate(hidden))
        return self.output_norm(hidden + dropout.hidden(self.output(inner), rate))


class Bert(nnx.Module):
    """The whole trunk: (B, L) ids to (B, L, D) token vectors."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, rngs)
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.num_hidden_layers)])
        self.config = config

    def __call__(self, ids, mask, keys, token_types, positions):
        if positions is None:
            attended, dropout = mask[:, None, None, :] != 0, Dropout(keys)
        else:
            attended, dropout = mask[:, None, :, None] == mask[:, None, None, :], Dropout(keys, mask - 1, positions)
        # The smallest float, not -inf: a row of padding alone gets finite vectors.
        bias = jnp.where(attended, 0.0, jnp.finfo(self.config.wide).min).astype(self.config.wide)
        hidden = self.embeddings(ids, token_types, positions, dropout)
        for layer in self.layers:
            run = functools.partial(layer, bias=bias, dropout=dropout)
            hidden = jax.checkpoint(run)(hidden) if self.config.remat else run(hidden)
        return hidden


def forward(
    config: Config,
    params: PyTree,
    ids: Int[ArrayLike, "batch length"] | Float[ArrayLike, "batch length dim"],
    mask: Int[ArrayLike, "batch length"] | Bool[ArrayLike, "batch length"],
    key: Key[Array, ""] | Key[Array, " examples"] | UInt32[Array, "..."] | None = None,
    *,
    token_types: Int[ArrayLike, "batch length"] | None = None,
    positions: Int[ArrayLike, "batch length"] | None = None,
) -> Float[Array, "batch length dim"]:
    """The token vectors of the last layer, at least float32; those at masked positions mean nothing.

    Pure: composes with `jit` (config static), `vmap`, `grad` and shardings.

    Args:
        config: the sizes, and the dtype of the matrix products. With "float32" they are computed in float32 on every
            device.
        params: as `init` or `checkpoint.load` return them.
        ids: token ids below `config.vocab_size` (others give NaN), or word vectors in their place, to differentiate by.
        mask: nonzero where there is a token. Positions count from 0 at the left, padded or not, as in BertModel.
        key: draws the dropout; a batch of keys gives each example its own, one key is split over the rows. None: no
            dropout.
        token_types: 0 for a pair's first text, 1 for its second; all 0 by default.
        positions: given, a row holds several texts side by side (see `packing`). Then these are the tokens' places in
            their texts, and `mask` says which text a token belongs to, 1, 2, 3, ... through the whole batch, 0 where
            there is none; texts do not see each other. A batch of keys has one for each text.
    """
    # HIGHEST is for float32 operands only: bfloat16 products are exact in their float32 sums anyway.
    precision = "highest" if jnp.dtype(config.dtype).itemsize >= 4 else "default"
    with jax.default_matmul_precision(precision):
        return nnx.merge(_graphdef(config), params)(ids, mask, _keys(key, ids.shape[0]), token_types, positions)


def _keys(key, rows):
    """One key an example."""
    return jax.random.split(key, rows) if key is not None and jax.random.key_data(key).ndim == 1 else key


def init(config: Config, key: Key[Array, ""]) -> PyTree:
    """Random params (float32), as for a BERT before any training."""
    return nnx.to_pure_dict(nnx.state(Bert(config, nnx.Rngs(key)), nnx.Param))


def shapes(config: Config) -> PyTree:
    """The tree of params with a `jax.ShapeDtypeStruct` for each."""
    return nnx.to_pure_dict(nnx.state(_abstract(config), nnx.Param))


def tensor_names(config: Config) -> dict[tuple, str]:
    """For each path in params, the tensor's HuggingFace name without prefix. A "kernel" is stored transposed."""
    modules = {
        ("embeddings", "word"): "embeddings.word_embeddings",
        ("embeddings", "position"): "embeddings.position_embeddings",
        ("embeddings", "token_type"): "embeddings.token_type_embeddings",
        ("embeddings", "norm"): "embeddings.LayerNorm",
    }
    in_layer = {
        ("attention", "query"): "attention.self.query",
        ("attention", "key"): "attention.self.key",
        ("attention", "value"): "attention.self.value",
        ("attention", "output"): "attention.output.dense",
        ("attention_norm",): "attention.output.LayerNorm",
        ("intermediate",): "intermediate.dense",
        ("output",): "output.dense",
        ("output_norm",): "output.LayerNorm",
    }
    for i in range(config.num_hidden_layers):
        modules |= {("layers", i, *path): f"encoder.layer.{i}.{name}" for path, name in in_layer.items()}
    leaves = {"embedding": "weight", "kernel": "weight", "scale": "weight", "bias": "bias"}
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(shapes(config))[0]]
    keys = [tuple(entry.key for entry in path) for path in paths]
    return {key: f"{modules[key[:-1]]}.{leaves[key[-1]]}" for key in keys}


def _abstract(config):
    return nnx.eval_shape(lambda: Bert(config, nnx.Rngs(0)))


@functools.lru_cache
def _graphdef(config):
    return nnx.split(_abstract(config))[0]
