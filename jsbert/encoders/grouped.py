"""Attention in which a head of keys and values serves several heads of queries: what Qwen3 and
Gemma 3 share."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jsbert.config import EncoderConfig
from jsbert.encoders.attention import attention
from jsbert.encoders.heads import Head
from jsbert.encoders.layers import RMSNorm, from_heads, in_heads, linear
from jsbert.encoders.rope import rotated


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
    is turned."""

    def __init__(
        self,
        config: Any,  # of one of the two families
        norm: Callable[[Any, int, nnx.Rngs], RMSNorm],
        rngs: nnx.Rngs,
        *,
        theta: float,
        factor: float = 1.0,
    ):
        """Make the layers.

        Args:
            config: the family's config.
            norm: makes the norms of queries and keys.
            rngs: for new params.
            theta: the base of the rotary angles.
            factor: of the queries; the scores are then divided by sqrt(head_dim), as usual.
        """

        def project(inputs, outputs):
            return linear(config, inputs, outputs, rngs, use_bias=config.attention_bias)

        width, size = config.hidden_size, config.head_dim
        self.query = project(width, config.num_attention_heads * size)
        self.key, self.value = (project(width, config.num_key_value_heads * size) for _ in range(2))
        self.query_norm, self.key_norm = (norm(config, size, rngs) for _ in range(2))
        self.output = project(config.num_attention_heads * size, width)
        self.theta, self.factor = theta, factor
        self.config = config

    def __call__(self, hidden, positions, seen, dropout):
        config = self.config
        (query,) = in_heads((self.query,), hidden, config.head_dim)
        key, value = in_heads((self.key, self.value), hidden, config.head_dim)
        query = rotated(self.query_norm(query), positions, theta=self.theta)
        query = query if self.factor == 1 else query * self.factor
        key = rotated(self.key_norm(key), positions, theta=self.theta)
        # Each head of keys and values serves several heads of queries.
        times = config.num_attention_heads // config.num_key_value_heads
        key, value = (jnp.repeat(x, times, axis=1) for x in (key, value))
        mixed = attention(query, key, value, seen, config=config, dropout=dropout)
        return from_heads(self.output, mixed)
