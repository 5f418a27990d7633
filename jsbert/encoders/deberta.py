"""DeBERTa, versions 2 and 3: a BERT whose attention adds scores for the distance of two tokens:
those of the query's content with the distance, and those of the key's content.

He et al. 2021, https://arxiv.org/abs/2006.03654 and https://arxiv.org/abs/2111.09543. The reference
is transformers' DebertaV2Model.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jsbert.activations import ACTIVATIONS, activation_name
from jsbert.checks import COUNT, Range, typed
from jsbert.config import EncoderConfig
from jsbert.encoders import bert
from jsbert.encoders.attention import Seen, attention
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.heads import Head
from jsbert.encoders.layers import (
    activated,
    added,
    embedding,
    from_heads,
    in_heads,
    in_turn,
    layer_norm,
    linear,
    vectors_of,
)
from jsbert.encoders.product import product

PREFIX = "deberta."
DROPPED = (
    r"embeddings\.(position_ids|position_embeddings\.weight)",  # of no use if distances are all
    r"(pooler|cls|classifier|lm_predictions|mask_predictions|qa_outputs)\..+",
)
NAMES = {
    **{name: theirs for name, theirs in bert.NAMES.items() if "attention." not in name},
    "distances": "encoder.rel_embeddings",
    "distances_norm": "encoder.LayerNorm",
    "layers.{}.attention.query": "encoder.layer.{}.attention.self.query_proj",
    "layers.{}.attention.key": "encoder.layer.{}.attention.self.key_proj",
    "layers.{}.attention.value": "encoder.layer.{}.attention.self.value_proj",
    "layers.{}.attention.distance_query": "encoder.layer.{}.attention.self.pos_query_proj",
    "layers.{}.attention.distance_key": "encoder.layer.{}.attention.self.pos_key_proj",
    "layers.{}.attention.output": "encoder.layer.{}.attention.output.dense",
    "layers.{}.convolution": "encoder.conv.conv",  # of the first layer alone
    "layers.{}.convolution_norm": "encoder.conv.LayerNorm",
}

WAYS = ("c2p", "p2c")
"""The scores of distances: of the query's content with the distance, and of the key's content."""

MAYBE = Range(-(2**31), 2**31, "an integer; -1 for none")


@dataclasses.dataclass(frozen=True)
class Config(EncoderConfig):
    """DeBERTa's sizes; see `EncoderConfig`. The dropout of the table of distances, which is the
    same for all texts, is left out.

    Attributes:
        type_vocab_size: 0 for no token types.
        relative_attention: whether attention has scores of distances.
        pos_att_type: which: names in `WAYS`.
        position_buckets: the number of buckets of distances to each side; -1 for one bucket for
            each distance.
        max_relative_positions: the distance at which the last bucket begins; -1 for
            `max_position_embeddings`.
        share_att_key: whether distances are projected like tokens, not with layers of their own.
        norm_rel_ebd: "layer_norm", if the vectors of distances are normalised, or "none".
        position_biased_input: whether the embeddings have absolute positions.
        conv_kernel_size: the width of the convolution beside the first layer; 0 for none.
        conv_act: its activation.
        pooler_hidden_act: the activation in the cross-encoder's head.
    """

    RENAMED: ClassVar = {"classifier_dropout": "cls_dropout"}
    ONLY: ClassVar = {"conv_groups": 1, "pooler_dropout": 0, "z_steps": 0}
    ALLOWED: ClassVar = {
        **EncoderConfig.ALLOWED,
        "type_vocab_size": COUNT,
        "position_buckets": MAYBE,
        "max_relative_positions": MAYBE,
        "norm_rel_ebd": ("none", "layer_norm"),
        "conv_kernel_size": COUNT,
        "conv_act": tuple(ACTIVATIONS),
        "pooler_hidden_act": tuple(ACTIVATIONS),
    }

    model_type: str = "deberta-v2"
    vocab_size: int = 128100
    hidden_size: int = 1536
    num_hidden_layers: int = 24
    num_attention_heads: int = 24
    intermediate_size: int = 6144
    layer_norm_eps: float = 1e-7
    type_vocab_size: int = 0
    relative_attention: bool = False
    pos_att_type: tuple[str, ...] = ()
    position_buckets: int = -1
    max_relative_positions: int = -1
    share_att_key: bool = False
    norm_rel_ebd: str = "none"
    position_biased_input: bool = True
    conv_kernel_size: int = 0
    conv_act: str = "tanh"
    pooler_hidden_act: str = "gelu"

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """See `EncoderConfig.check`."""
        super().check(values)
        if unknown := [way for way in values["pos_att_type"] if way not in WAYS]:
            raise ValueError(f"pos_att_type has {unknown}; supported: {', '.join(WAYS)}")
        buckets, farthest = values["position_buckets"], values["max_relative_positions"]
        farthest = farthest if farthest >= 1 else values["max_position_embeddings"]
        if buckets > 0 and (buckets < 4 or buckets % 2 or farthest <= buckets // 2 + 1):
            raise ValueError(
                f"position_buckets is {buckets} for distances up to {farthest}; it must be even, "
                "at least 4, and less than twice the distance; or -1"
            )
        if values["conv_kernel_size"] and not values["conv_kernel_size"] % 2:
            raise ValueError(
                f"conv_kernel_size is {values['conv_kernel_size']}; it must be odd, or 0 for none"
            )

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "config.json") -> EncoderConfig:
        """See `EncoderConfig.from_json`. `pos_att_type` can be a list or a string such as
        "p2c|c2p"."""
        own = dict(values)
        ways = typed(values, "pos_att_type", (str, list[str]), (), where=where)
        ways = ways.lower().split("|") if isinstance(ways, str) else ways
        own["pos_att_type"] = tuple(way.strip() for way in ways if way.strip())
        for name, usual in (("position_buckets", -1), ("max_relative_positions", -1)):
            own[name] = typed(values, name, int, usual, where=where, allowed=MAYBE)
        norm = typed(values, "norm_rel_ebd", str, "none", where=where)
        own["norm_rel_ebd"] = norm.lower().strip()
        for name in ("conv_act", "pooler_hidden_act"):
            if name in own:
                own[name] = activation_name(own[name], where=where)
        width = own.get("hidden_size", cls.hidden_size)
        for name in ("embedding_size", "pooler_hidden_size"):
            if own.get(name, width) != width:
                raise ValueError(
                    f"{where}: {name} is {own[name]!r}; only hidden_size, {width!r}, is supported"
                )
        heads = own.get("num_attention_heads", cls.num_attention_heads)
        size = own.get("attention_head_size")
        if size is not None and (not isinstance(size, int) or size * heads != width):
            raise ValueError(
                f"{where}: attention_head_size is {size!r}; only hidden_size over "
                "num_attention_heads is supported"
            )
        return super().from_json(own, where=where)

    def to_json(self) -> dict[str, Any]:
        """See `EncoderConfig.to_json`."""
        values = super().to_json()
        del values["z_steps"]
        return values | {"pos_att_type": list(self.pos_att_type)}

    @property
    def farthest(self) -> int:
        """The distance at which the last bucket begins."""
        given = self.max_relative_positions
        return given if given >= 1 else self.max_position_embeddings

    @property
    def span(self) -> int:
        """The number of vectors of distances to each side."""
        return self.position_buckets if self.position_buckets > 0 else self.farthest


def head(config: Config) -> Head:
    """The classifier of the family's cross-encoder."""
    return Head(pooler="pooler.dense", activation=config.pooler_hidden_act)


def distance_rows(config: Config, distance: Int[Array, " distances"]) -> Int[Array, " distances"]:
    """The rows of the table for distances i - j of a query at place i from a key at place j. Row
    `span` is for the token itself; above it are keys to the left."""
    size = jnp.abs(distance)
    if config.position_buckets > 0:
        middle = config.position_buckets // 2
        bounds = bucket_bounds(config.position_buckets, config.farthest)[None]
        wide = jnp.sum((size[:, None] >= bounds).astype(jnp.int32), axis=-1)
        size = jnp.minimum(size, middle) + wide
    rows = jnp.sign(distance) * size + config.span
    return jnp.clip(rows, 0, 2 * config.span - 1)


@functools.lru_cache
def bucket_bounds(num_buckets: int, farthest: int) -> np.ndarray:
    """The least distance of each bucket beyond the middle one, up to bucket `num_buckets`: the
    buckets up to the middle hold one distance each, further ones are wider and wider."""
    middle = num_buckets // 2
    # Twice the farthest distance is in the last bucket for sure; see the clipping above.
    distances = np.arange(middle + 1, max(2 * farthest, middle + 2) + 2)
    # Round as the reference does, in float32: where a bucket begins, the last digit decides.
    ratio = (distances.astype(np.float32) / np.float32(middle)).astype(np.float64)
    whole = np.float32(np.log(np.float64(np.float32((farthest - 1) / middle))))
    steps = np.log(ratio).astype(np.float32) / whole * np.float32(middle - 1)
    buckets = np.ceil(steps).astype(int) + middle
    found = [
        distances[np.argmax(buckets >= bucket)] if (buckets >= bucket).any() else 2**30
        for bucket in range(middle + 1, num_buckets + 1)
    ]
    return np.asarray(found, np.int32)


def by_key(scores: Float[Array, "batch heads length distances"]) -> Float[Array, "..."]:
    """Scores (B, H, L, 2L - 1) of tokens with the distances L - 1 to 1 - L, as scores (B, H, L, L)
    of queries with keys: entry (i, j) is entry (i, L - 1 + j - i).

    Rows of length 2L, read again as rows of length 2L - 1, move by one entry each. XLA only copies
    for that; indexing would take longer.
    """
    batch, heads, length, _ = scores.shape
    column = jnp.zeros((batch, heads, length, 1), scores.dtype)
    flat = jnp.concatenate([scores, column], axis=-1).reshape(batch, heads, 2 * length * length)
    moved = flat[:, :, length - 1 : 2 * length * length - 1]
    return moved.reshape(batch, heads, length, 2 * length - 1)[..., :length]


class Embeddings(nnx.Module):
    """The sum of word vectors and, where the config has them, positions and token types,
    normalised. Vectors of padding are zero."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        width = config.hidden_size
        self.word = embedding(config, config.vocab_size, width, rngs)
        if config.position_biased_input:
            self.position = embedding(config, config.max_position_embeddings, width, rngs)
        if config.type_vocab_size:
            self.token_type = embedding(config, config.type_vocab_size, width, rngs)
        self.norm = layer_norm(config, width, rngs)
        self.config = config

    def __call__(self, ids, mask, token_types, positions, dropout):
        config = self.config
        hidden = vectors_of(self.word, ids)
        if config.position_biased_input:
            places = jnp.arange(hidden.shape[1])[None] if positions is None else positions
            hidden = hidden + self.position(places)
        if config.type_vocab_size:
            types = jnp.zeros(hidden.shape[:2], jnp.int32) if token_types is None else token_types
            hidden = hidden + self.token_type(types)
        hidden = self.norm(hidden.astype(config.compute.sum_dtype))
        hidden = jnp.where(mask[:, :, None] != 0, hidden, 0)
        return dropout.hidden(hidden, config.hidden_dropout_prob)


class Attention(nnx.Module):
    """Self-attention with scores of distances."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        width = config.hidden_size
        self.query, self.key, self.value, self.output = (
            linear(config, width, width, rngs) for _ in range(4)
        )
        if config.relative_attention and not config.share_att_key:
            if "c2p" in config.pos_att_type:
                self.distance_key = linear(config, width, width, rngs)
            if "p2c" in config.pos_att_type:
                self.distance_query = linear(config, width, width, rngs)
        self.config = config

    def __call__(self, hidden, distances, seen, dropout):
        config = self.config
        size = config.hidden_size // config.num_attention_heads
        query, key, value = in_heads((self.query, self.key, self.value), hidden, size)
        # The sum of up to three scores is divided as one score of so many times the entries.
        scale = (size * (1 + len(set(config.pos_att_type)))) ** -0.5
        bias = None
        if distances is not None and config.pos_att_type:
            bias = self._bias(query * scale, key * scale, distances, size)
        mixed = attention(
            query, key, value, seen, config=config, dropout=dropout, bias=bias, scale=scale
        )
        return from_heads(self.output, mixed)

    def _bias(self, query, key, distances, size):
        """The scores of distances, (B, H, L, L). `query` and `key` are scaled."""
        config, dtype = self.config, self.config.compute.attention_dtype
        shared = config.share_att_key
        scores = []
        if "c2p" in config.pos_att_type:
            layer = self.key if shared else self.distance_key
            (keys,) = in_heads((layer,), distances, size)
            scores.append(by_key(product("bhqd,hmd->bhqm", query, keys[0], dtype)))
        if "p2c" in config.pos_att_type:
            layer = self.query if shared else self.distance_query
            (queries,) = in_heads((layer,), distances, size)
            # From a key, the distances are those of the query with the other sign.
            turned = jnp.flip(queries[0], axis=1)
            of_keys = by_key(product("bhkd,hmd->bhkm", key, turned, dtype))
            scores.append(of_keys.swapaxes(2, 3))
        return sum(scores[1:], start=scores[0]).astype(config.compute.activation_dtype)


class Layer(nnx.Module):
    """Attention and a two-layer perceptron, each added to its input and then normalised; beside the
    first layer maybe a convolution."""

    def __init__(self, config: Config, rngs: nnx.Rngs, *, width_of_convolution: int = 0):
        width = config.hidden_size
        self.attention = Attention(config, rngs)
        self.attention_norm = layer_norm(config, width, rngs)
        self.intermediate = linear(config, width, config.intermediate_size, rngs)
        self.output = linear(config, config.intermediate_size, width, rngs)
        self.output_norm = layer_norm(config, width, rngs)
        self.convolves = width_of_convolution > 0
        if self.convolves:
            self.convolution = Convolution(config, width_of_convolution, rngs)
            self.convolution_norm = layer_norm(config, width, rngs)
        self.config = config

    def __call__(
        self,
        hidden: Float[Array, "batch length dim"],
        *,
        mask: Int[Array, "batch length"] | Bool[Array, "batch length"],
        distances: Float[Array, "1 distances dim"] | None,
        seen: Seen,
        dropout: Dropout,
    ) -> Float[Array, "batch length dim"]:
        config, rate, before = self.config, self.config.hidden_dropout_prob, hidden
        mixed = self.attention(hidden, distances, seen, dropout)
        hidden = self.attention_norm(added(config, hidden, dropout.hidden(mixed, rate)))
        update = self.output(activated(config, self.intermediate(hidden)))
        hidden = self.output_norm(added(config, hidden, dropout.hidden(update, rate)))
        if not self.convolves:
            return hidden
        beside = dropout.hidden(self.convolution(before, mask), rate)
        beside = ACTIVATIONS[config.conv_act](beside.astype(config.compute.sum_dtype))
        return self.convolution_norm(added(config, hidden, beside))


class Convolution(nnx.Module):
    """A convolution over the tokens of a text. Outside of the text the vectors are zero."""

    def __init__(self, config: Config, width: int, rngs: nnx.Rngs):
        size = config.hidden_size
        shape = (size, size, width)  # outputs, inputs, places: as in torch
        init = nnx.initializers.normal(config.initializer_range)
        self.filter = nnx.Param(init(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(size))
        self.width, self.config = width, config

    def __call__(self, hidden, mask):
        compute, length, half = self.config.compute, hidden.shape[1], self.width // 2
        dtype = compute.attention_dtype  # of the products; there is no filter in int8
        ends = jnp.zeros((hidden.shape[0], half), mask.dtype)
        wide = jnp.concatenate([ends, mask, ends], axis=1)
        zeros = jnp.zeros((hidden.shape[0], half, hidden.shape[2]), hidden.dtype)
        vectors = jnp.concatenate([zeros, hidden, zeros], axis=1)
        kernel = self.filter[...].transpose(2, 1, 0)  # (places, inputs, outputs)
        total = self.bias[...].astype(compute.sum_dtype)[None, None]
        for place in range(self.width):
            # In packed rows the neighbour may be of another text.
            own = (wide[:, place : place + length] == mask) & (mask != 0)
            near = jnp.where(own[:, :, None], vectors[:, place : place + length], 0)
            total = total + product("bli,io->blo", near, kernel[place], dtype)
        return jnp.where(mask[:, :, None] != 0, total, 0).astype(compute.activation_dtype)


class Encoder(nnx.Module):
    """The whole encoder: (B, L) ids to (B, L, D) token vectors."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, rngs)
        if config.relative_attention:
            self.distances = embedding(config, 2 * config.span, config.hidden_size, rngs)
        if config.norm_rel_ebd == "layer_norm":
            self.distances_norm = layer_norm(config, config.hidden_size, rngs)
        widths = [config.conv_kernel_size, *[0] * (config.num_hidden_layers - 1)]
        self.layers = nnx.List([Layer(config, rngs, width_of_convolution=w) for w in widths])
        self.config = config

    def __call__(self, ids, mask, token_types, positions, dropout):
        config, compute = self.config, self.config.compute
        hidden = self.embeddings(ids, mask, token_types, positions, dropout)
        distances = None
        if config.relative_attention:
            length = ids.shape[1]
            # Entry L - 1 + j - i is for the query i and the key j.
            distance = (length - 1) - jnp.arange(2 * length - 1)
            distances = self.distances(distance_rows(config, distance)[None])
            if config.norm_rel_ebd == "layer_norm":
                distances = self.distances_norm(distances)
            distances = distances.astype(compute.activation_dtype)
        seen = Seen.of(mask, positions, compute)
        context = {"mask": mask, "distances": distances, "seen": seen, "dropout": dropout}
        return in_turn(self.layers, hidden, compute=compute, **context)
