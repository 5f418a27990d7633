"""Decoders whose heads of keys and values each serve several heads of queries: attention, which
all of them share; layers and encoder, which Llama, Mistral, Qwen2 and Qwen3 share."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jsbert.config import EncoderConfig
from jsbert.encoders.attention import Seen, attention
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.heads import Head
from jsbert.encoders.layers import (
    RMSNorm,
    activated,
    added,
    embedding,
    from_heads,
    in_heads,
    in_turn,
    joined,
    linear,
    rms_norm,
    vectors_of,
)
from jsbert.encoders.rope import rotated

PREFIX = "model."
DROPPED = (r"(lm_head|score)\..+",)
NAMES = {
    "word": "embed_tokens",
    "layers.{}.attention_norm": "layers.{}.input_layernorm",
    "layers.{}.attention.query": "layers.{}.self_attn.q_proj",
    "layers.{}.attention.key": "layers.{}.self_attn.k_proj",
    "layers.{}.attention.value": "layers.{}.self_attn.v_proj",
    "layers.{}.attention.output": "layers.{}.self_attn.o_proj",
    "layers.{}.inner_norm": "layers.{}.post_attention_layernorm",
    "layers.{}.gate": "layers.{}.mlp.gate_proj",
    "layers.{}.inner": "layers.{}.mlp.up_proj",
    "layers.{}.output": "layers.{}.mlp.down_proj",
    "norm": "norm",
}
"""The names of the modules in checkpoints of the decoders with `Encoder`."""


def check_heads(values: Mapping[str, Any]) -> None:
    """Raise ValueError unless the fields of a config make groups of heads, of an even size."""
    if values["num_attention_heads"] % values["num_key_value_heads"]:
        raise ValueError(
            f"num_key_value_heads {values['num_key_value_heads']} does not divide "
            f"num_attention_heads {values['num_attention_heads']}"
        )
    if values["head_dim"] % 2:
        raise ValueError(f"head_dim is {values['head_dim']}; rotary positions need it even")


def head(config: EncoderConfig) -> Head:
    """The classifier of the family's cross-encoder. It reads the last token by the mask.

    transformers reads the last token that is not `pad_token_id`. That is another token if a
    tokenizer ends texts with the padding token.
    """
    return Head(classifier="score", pooling="lasttoken", biased=frozenset(), dropped=frozenset())


class Attention(nnx.Module):
    """Self-attention with rotary positions. Each head of queries and keys is normalised before it
    is turned, if the family has norms for that."""

    def __init__(
        self,
        config: Any,  # of one of the families
        norm: Callable[[Any, int, nnx.Rngs], RMSNorm] | None,
        rngs: nnx.Rngs,
        *,
        rope: Mapping[str, Any],
        factor: float = 1.0,
        biases: tuple[bool, bool],
    ):
        """Make the layers.

        Args:
            config: the family's config.
            norm: makes the norms of queries and keys; None: there are none.
            rngs: for new params.
            rope: the keyword arguments of `rotated`.
            factor: of the queries; the scores are then divided by sqrt(head_dim), as usual.
            biases: whether queries, keys and values have biases, and whether the output has one.
        """
        width, size = config.hidden_size, config.head_dim
        widths = (config.num_attention_heads * size, *[config.num_key_value_heads * size] * 2)
        self.query, self.key, self.value = (
            linear(config, width, outputs, rngs, use_bias=biases[0]) for outputs in widths
        )
        if norm is not None:
            self.query_norm, self.key_norm = (norm(config, size, rngs) for _ in range(2))
        self.output = linear(config, widths[0], width, rngs, use_bias=biases[1])
        self.has_norms, self.rope, self.factor = norm is not None, dict(rope), factor
        self.config = config

    def __call__(self, hidden, positions, seen, dropout):
        config = self.config
        (query,) = in_heads((self.query,), hidden, config.head_dim)
        key, value = in_heads((self.key, self.value), hidden, config.head_dim)
        if self.has_norms:
            query, key = self.query_norm(query), self.key_norm(key)
        query, key = (rotated(x, positions, **self.rope) for x in (query, key))
        query = query if self.factor == 1 else query * self.factor
        # Each head of keys and values serves several heads of queries.
        times = config.num_attention_heads // config.num_key_value_heads
        key, value = (jnp.repeat(x, times, axis=1) for x in (key, value))
        mixed = attention(query, key, value, seen, config=config, dropout=dropout)
        return from_heads(self.output, mixed)


class Layer(nnx.Module):
    """Attention and a gated perceptron (SwiGLU). Each reads its input normalised, and is added to
    the input."""

    def __init__(self, config: Any, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.attention_norm = rms_norm(config, width, rngs)
        norm = rms_norm if config.HAS_NORMS else None
        self.attention = Attention(config, norm, rngs, rope=config.rope, biases=config.biases)
        self.inner_norm = rms_norm(config, width, rngs)
        self.gate, self.inner = (
            linear(config, width, inner, rngs, use_bias=config.mlp_bias) for _ in range(2)
        )
        self.output = linear(config, inner, width, rngs, use_bias=config.mlp_bias)
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
    """The whole encoder: (B, L) ids to (B, L, D) token vectors. `config` is that of one of the
    families, with the members that `Layer` reads, `is_causal` and `window`."""

    def __init__(self, config: Any, rngs: nnx.Rngs):
        self.word = embedding(config, config.vocab_size, config.hidden_size, rngs)
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.num_hidden_layers)])
        self.norm = rms_norm(config, config.hidden_size, rngs)
        self.config = config

    def __call__(self, ids, mask, token_types, positions, dropout):
        config = self.config
        places = jnp.arange(ids.shape[1])[None] if positions is None else positions
        seen = Seen.of(
            mask, positions, config.compute, causal=config.is_causal, window=config.window
        )
        hidden = vectors_of(self.word, ids)
        context = {"positions": places, "seen": seen, "dropout": dropout}
        *stages, last = in_turn(self.layers, hidden, compute=config.compute, **context)
        return (*stages, self.norm(last))
