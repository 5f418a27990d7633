"""Gemma 3 as an embedder (EmbeddingGemma): Gemma's layers, in which a token sees the tokens before
it and behind it. In most layers a token sees only its neighbours.

Gemma Team 2025, https://arxiv.org/abs/2503.19786, and Schechter Vera et al. 2025,
https://arxiv.org/abs/2509.20354 (EmbeddingGemma). The reference is transformers' Gemma3TextModel.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jsbert.checks import COUNT, POSITIVE, SIZE, shown, typed
from jsbert.config import EncoderConfig
from jsbert.encoders.attention import Seen
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.grouped import Attention, check_heads
from jsbert.encoders.grouped import head as head  # the classifier of the family
from jsbert.encoders.layers import (
    RMSNorm,
    activated,
    added,
    embedding,
    in_turn,
    joined,
    linear,
    vectors_of,
)
from jsbert.encoders.rope import theta_of

PREFIX = "model."
DROPPED = (r"(lm_head|score)\..+",)
NAMES = {
    "embeddings.word": "embed_tokens",
    "layers.{}.attention_norm": "layers.{}.input_layernorm",
    "layers.{}.attention.query": "layers.{}.self_attn.q_proj",
    "layers.{}.attention.query_norm": "layers.{}.self_attn.q_norm",
    "layers.{}.attention.key": "layers.{}.self_attn.k_proj",
    "layers.{}.attention.key_norm": "layers.{}.self_attn.k_norm",
    "layers.{}.attention.value": "layers.{}.self_attn.v_proj",
    "layers.{}.attention.output": "layers.{}.self_attn.o_proj",
    "layers.{}.mixed_norm": "layers.{}.post_attention_layernorm",
    "layers.{}.inner_norm": "layers.{}.pre_feedforward_layernorm",
    "layers.{}.gate": "layers.{}.mlp.gate_proj",
    "layers.{}.inner": "layers.{}.mlp.up_proj",
    "layers.{}.output": "layers.{}.mlp.down_proj",
    "layers.{}.output_norm": "layers.{}.post_feedforward_layernorm",
    "norm": "norm",
}

THETAS = {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"}
"""For each of the two kinds of layers, the field with the base of its rotary angles."""


@dataclasses.dataclass(frozen=True)
class Config(EncoderConfig):
    """Gemma 3's sizes; see `EncoderConfig`. Only attention has dropout.

    Attributes:
        num_key_value_heads: the number of heads of keys and values. Each serves equally many
            neighbouring heads of queries.
        head_dim: entries of a head; it need not follow from the width of the token vectors.
        query_pre_attn_scalar: the scores of attention are divided by its square root.
        layer_types: the kind of each layer, "full_attention" or "sliding_attention". If empty,
            every `sliding_window_pattern`th layer is full.
        sliding_window: the window of sliding layers; a token sees half of the window to each side.
        rope_theta, rope_local_base_freq: the bases of the rotary angles in full and in sliding
            layers.
    """

    RENAMED: ClassVar = {
        "hidden_act": "hidden_activation",
        "attention_probs_dropout_prob": "attention_dropout",
        "layer_norm_eps": "rms_norm_eps",
    }
    # transformers reads the window in another way if `is_causal` is false.
    ONLY: ClassVar = {
        "use_bidirectional_attention": True,
        "attn_logit_softcapping": None,
        "is_causal": True,
    }
    ALLOWED: ClassVar = {
        **EncoderConfig.ALLOWED,
        "rope_theta": POSITIVE,
        "rope_local_base_freq": POSITIVE,
        "sliding_window": COUNT,
    }

    model_type: str = "gemma3_text"
    vocab_size: int = 262208
    hidden_size: int = 2304
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    intermediate_size: int = 9216
    hidden_act: str = "gelu_pytorch_tanh"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 131072
    layer_norm_eps: float = 1e-6
    query_pre_attn_scalar: int = 256
    layer_types: tuple[str, ...] = ()
    sliding_window_pattern: int = 6
    sliding_window: int = 4096
    rope_theta: float = 1_000_000.0
    rope_local_base_freq: float = 10_000.0
    attention_bias: bool = False

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """See `EncoderConfig.check`."""
        super().check(values)
        check_heads(values)
        kinds, count = values["layer_types"], values["num_hidden_layers"]
        if kinds and (len(kinds) != count or set(kinds) - set(THETAS)):
            raise ValueError(
                f"layer_types is {list(kinds)}; it must name each of {count} layers one of "
                f"{[*THETAS]}"
            )

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "config.json") -> EncoderConfig:
        """See `EncoderConfig.from_json`. `rope_parameters` and `layer_types` win over the older
        keys `rope_theta`, `rope_local_base_freq` and `sliding_window_pattern`. The older
        `rope_scaling` is for full layers only."""
        ropes, scaling = (
            typed(values, key, dict, {}, where=where) for key in ("rope_parameters", "rope_scaling")
        )
        if others := set(ropes) - set(THETAS):
            raise ValueError(
                f"{where}: rope_parameters has {shown(sorted(others))}; its keys must be "
                f"{[*THETAS]}"
            )
        thetas = {
            name: theta_of(
                typed(ropes, kind, dict, {}, where=f"{where}: rope_parameters")
                | (scaling if kind == "full_attention" else {}),
                values.get(name, getattr(cls, name)),
                where=f"{where}: rope_parameters of {kind}",
            )
            for kind, name in THETAS.items()
        }
        name = "sliding_window_pattern"
        every = typed(values, name, int, getattr(cls, name), where=where, allowed=SIZE)
        kinds = tuple(typed(values, "layer_types", list[str], (), where=where))
        # Without the key transformers computes a causal model.
        causal = {"use_bidirectional_attention": False}
        chosen = {"layer_types": kinds, "sliding_window_pattern": every}
        return super().from_json({**causal, **values, **thetas, **chosen}, where=where)

    def to_json(self) -> dict[str, Any]:
        """See `EncoderConfig.to_json`. The rotary angles and the kinds of the layers are written
        under the new keys and the older ones."""
        ropes = {
            kind: {"rope_type": "default", "rope_theta": getattr(self, name)}
            for kind, name in THETAS.items()
        }
        return super().to_json() | {"layer_types": list(self.kinds), "rope_parameters": ropes}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each layer: keys of `THETAS`."""
        return self.layer_types or tuple(
            "sliding_attention" if i % self.sliding_window_pattern else "full_attention"
            for i in range(1, self.num_hidden_layers + 1)
        )


class Norm(RMSNorm):
    """An RMSNorm that multiplies by 1 + scale. A new scale is 0."""

    scale: nnx.Param[Array]

    def __call__(  # type: ignore[override]  # flax takes further options
        self, x: Float[Array, "... width"]
    ) -> Float[Array, "... width"]:
        x = x.astype(self.compute.sum_dtype)
        square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
        scale = (1 + self.scale[...]).reshape(*(1,) * (x.ndim - 1), -1)
        return (x * jax.lax.rsqrt(square + self.epsilon) * scale).astype(
            self.compute.activation_dtype
        )


def norm(config: Config, width: int, rngs: nnx.Rngs) -> Norm:
    """A `Norm` with the config's epsilon."""
    zeros = nnx.initializers.zeros_init()
    layer = Norm(width, epsilon=config.layer_norm_eps, scale_init=zeros, rngs=rngs)
    layer.compute = config.compute
    return layer


class Embeddings(nnx.Module):
    """Word vectors times the square root of their width. The layers add the positions.

    Word vectors in place of ids are multiplied too: they are rows of the table.
    """

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.word = embedding(config, config.vocab_size, config.hidden_size, rngs)
        self.factor = config.hidden_size**0.5

    def __call__(self, ids):
        return vectors_of(self.word, ids) * self.factor


class Layer(nnx.Module):
    """Attention and a gated perceptron (GeGLU). Each reads its input normalised; its output is
    normalised, and added to the input."""

    def __init__(self, config: Config, kind: str, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.kind = kind
        self.attention_norm = norm(config, width, rngs)
        # The scores are divided by the square root of the scalar, not by that of a head's size.
        factor = (config.head_dim / config.query_pre_attn_scalar) ** 0.5
        theta = getattr(config, THETAS[kind])
        biases = (config.attention_bias, config.attention_bias)
        rope = {"theta": theta}
        self.attention = Attention(config, norm, rngs, rope=rope, factor=factor, biases=biases)
        self.mixed_norm = norm(config, width, rngs)
        self.inner_norm = norm(config, width, rngs)
        self.gate, self.inner = (
            linear(config, width, inner, rngs, use_bias=False) for _ in range(2)
        )
        self.output = linear(config, inner, width, rngs, use_bias=False)
        self.output_norm = norm(config, width, rngs)
        self.config = config

    def __call__(
        self,
        hidden: Float[Array, "batch length dim"],
        *,
        positions: Array,
        seen: Mapping[str, Seen],
        dropout: Dropout,
    ) -> Float[Array, "batch length dim"]:
        config = self.config
        mixed = self.attention(self.attention_norm(hidden), positions, seen[self.kind], dropout)
        hidden = added(config, hidden, self.mixed_norm(mixed))
        inner, gate = joined((self.inner, self.gate), self.inner_norm(hidden))
        inner = activated(config, gate) * inner
        return added(config, hidden, self.output_norm(self.output(inner)))


class Encoder(nnx.Module):
    """The whole encoder: (B, L) ids to (B, L, D) token vectors."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, rngs)
        self.layers = nnx.List([Layer(config, kind, rngs) for kind in config.kinds])
        self.norm = norm(config, config.hidden_size, rngs)
        self.config = config

    def __call__(self, ids, mask, token_types, positions, dropout):
        config = self.config
        places = jnp.arange(ids.shape[1])[None] if positions is None else positions
        window = config.sliding_window // 2
        seen = {
            "full_attention": Seen.of(mask, positions, config.compute),
            "sliding_attention": Seen.of(mask, positions, config.compute, window=window),
        }
        hidden = self.embeddings(ids)
        context = {"positions": places, "seen": seen, "dropout": dropout}
        *stages, last = in_turn(self.layers, hidden, compute=config.compute, **context)
        return (*stages, self.norm(last))
