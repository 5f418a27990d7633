"""Qwen3 as an embedder: a decoder. A token sees only itself and the tokens before it, so the vector
of the last token is the vector of the text.

Yang et al. 2025, https://arxiv.org/abs/2505.09388, and Zhang et al. 2025,
https://arxiv.org/abs/2506.05176 (Qwen3-Embedding). The reference is transformers' Qwen3Model.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jsbert.checks import POSITIVE, typed
from jsbert.config import EncoderConfig
from jsbert.encoders.attention import Seen
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.grouped import Attention, check_heads
from jsbert.encoders.grouped import head as head  # the classifier of the family
from jsbert.encoders.layers import (
    activated,
    added,
    embedding,
    in_turn,
    joined,
    linear,
    rms_norm,
    vectors_of,
)
from jsbert.encoders.rope import theta_of

PREFIX = "model."
DROPPED = (r"(lm_head|score)\..+",)
NAMES = {
    "word": "embed_tokens",
    "layers.{}.attention_norm": "layers.{}.input_layernorm",
    "layers.{}.attention.query": "layers.{}.self_attn.q_proj",
    "layers.{}.attention.query_norm": "layers.{}.self_attn.q_norm",
    "layers.{}.attention.key": "layers.{}.self_attn.k_proj",
    "layers.{}.attention.key_norm": "layers.{}.self_attn.k_norm",
    "layers.{}.attention.value": "layers.{}.self_attn.v_proj",
    "layers.{}.attention.output": "layers.{}.self_attn.o_proj",
    "layers.{}.inner_norm": "layers.{}.post_attention_layernorm",
    "layers.{}.gate": "layers.{}.mlp.gate_proj",
    "layers.{}.inner": "layers.{}.mlp.up_proj",
    "layers.{}.output": "layers.{}.mlp.down_proj",
    "norm": "norm",
}


@dataclasses.dataclass(frozen=True)
class Config(EncoderConfig):
    """Qwen3's sizes; see `EncoderConfig`. Only attention has dropout.

    Attributes:
        num_key_value_heads: the number of heads of keys and values. Each serves equally many
            neighbouring heads of queries.
        head_dim: entries of a head; it need not follow from the width of the token vectors.
    """

    RENAMED: ClassVar = {
        "attention_probs_dropout_prob": "attention_dropout",
        "layer_norm_eps": "rms_norm_eps",
    }
    ONLY: ClassVar = {"use_sliding_window": False, "is_causal": True}
    ALLOWED: ClassVar = {**EncoderConfig.ALLOWED, "rope_theta": POSITIVE}

    model_type: str = "qwen3"
    vocab_size: int = 151936
    hidden_size: int = 4096
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    head_dim: int = 128
    intermediate_size: int = 22016
    hidden_act: str = "silu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 32768
    layer_norm_eps: float = 1e-6
    pad_token_id: int | None = None
    rope_theta: float = 10000.0
    attention_bias: bool = False

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """See `EncoderConfig.check`."""
        super().check(values)
        check_heads(values)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "config.json") -> EncoderConfig:
        """See `EncoderConfig.from_json`. `rope_theta` is in `rope_parameters`; in older files it is
        a key of its own, next to `rope_scaling`."""
        others = set(typed(values, "layer_types", list[str], (), where=where)) - {"full_attention"}
        if others:
            raise ValueError(
                f"{where}: layer_types has {sorted(others)}; only 'full_attention' is supported"
            )
        key = "rope_scaling" if values.get("rope_scaling") else "rope_parameters"
        theta = theta_of(
            values.get(key), values.get("rope_theta", cls.rope_theta), where=f"{where}: {key}"
        )
        values = {**values, "rope_theta": theta}
        if values.get("num_key_value_heads", 0) is None:
            values["num_key_value_heads"] = values.get(
                "num_attention_heads", cls.num_attention_heads
            )
        return super().from_json(values, where=where)

    def to_json(self) -> dict[str, Any]:
        """See `EncoderConfig.to_json`. `rope_theta` is written in both places."""
        return super().to_json() | {
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta}
        }


class Layer(nnx.Module):
    """Attention and a gated perceptron (SwiGLU). Each reads its input normalised, and is added to
    the input."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.attention_norm = rms_norm(config, width, rngs)
        self.attention = Attention(config, rms_norm, rngs, theta=config.rope_theta)
        self.inner_norm = rms_norm(config, width, rngs)
        self.gate, self.inner = (
            linear(config, width, inner, rngs, use_bias=False) for _ in range(2)
        )
        self.output = linear(config, inner, width, rngs, use_bias=False)
        self.config = config

    def __call__(
        self,
        hidden: Float[Array, "batch length dim"],
        *,
        positions: Array,
        seen: Seen,
        dropout: Dropout,
    ) -> Float[Array, "batch length dim"]:
        config = self.config
        mixed = self.attention(self.attention_norm(hidden), positions, seen, dropout)
        hidden = added(config, hidden, mixed)
        normed = self.inner_norm(hidden)
        inner, gate = joined((self.inner, self.gate), normed)
        inner = activated(config, gate) * inner
        return added(config, hidden, self.output(inner))


class Encoder(nnx.Module):
    """The whole encoder: (B, L) ids to (B, L, D) token vectors."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.word = embedding(config, config.vocab_size, config.hidden_size, rngs)
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.num_hidden_layers)])
        self.norm = rms_norm(config, config.hidden_size, rngs)
        self.config = config

    def __call__(self, ids, mask, token_types, positions, dropout):
        config = self.config
        places = jnp.arange(ids.shape[1])[None] if positions is None else positions
        seen = Seen.of(mask, positions, config.compute, causal=True)
        hidden = vectors_of(self.word, ids)
        context = {"positions": places, "seen": seen, "dropout": dropout}
        *stages, last = in_turn(self.layers, hidden, compute=config.compute, **context)
        return (*stages, self.norm(last))
