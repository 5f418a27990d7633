"""Attention as XLA computes it fast, shared by the families."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float, Int

from jsbert.arrays import AnyArray
from jsbert.config import EncoderConfig
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.product import product


def same_text(
    mask: Int[AnyArray, "batch length"] | Bool[AnyArray, "batch length"],
    positions: Int[AnyArray, "batch length"] | None,
) -> Bool[Array, "batch 1 #length length"]:
    """Which token (last axis) each token (the axis before) may see: those with a mask that is not
    0; in packed rows, where there are `positions`, those of the same text. See
    `encoders.forward`."""
    if positions is None:
        return mask[:, None, None, :] != 0
    return mask[:, None, :, None] == mask[:, None, None, :]


def mask_bias(seen: Bool[Array, "..."], dtype: DTypeLike) -> Float[Array, "..."]:
    """What to add to the scores: 0 where a token is seen, else the smallest number. Not -inf, so
    that a row of padding alone gets finite vectors."""
    return jnp.where(seen, 0.0, jnp.finfo(dtype).min).astype(dtype)


def attention(
    query: Float[Array, "batch length width"],
    key: Float[Array, "batch length width"],
    value: Float[Array, "batch length width"],
    biases: Sequence[Float[Array, "#batch #heads #queries length"]],
    *,
    config: EncoderConfig,
    dropout: Dropout,
) -> Float[Array, "batch length width"]:
    """Each token's mixture of the values, by the softmax over its row's tokens of query * key /
    sqrt(d) + biases.

    Args:
        query, key, value: of all heads, side by side.
        biases: each added to the scores; `mask_bias` is one. One by one: XLA adds them within the
            softmax's pass, where their sum would be an array of its own.
        config: says how many heads there are, each of `width / num_attention_heads` = d entries,
            the dtype of the products' operands, and the rate of the dropout.
        dropout: of the softmax's weights.
    """
    if config.compute.attn_implementation != "eager" and dropout.words is None:
        return _fused(query, key, value, biases, config)
    batch, length, width = query.shape
    num_heads, dtype = config.num_attention_heads, config.compute.attention_dtype

    def heads(
        x,
    ):  # (B, L, D) -> (B, H, L, d): with the heads in front, both products are plain ones
        return x.reshape(batch, length, num_heads, -1).transpose(0, 2, 1, 3)

    query = query * (width // num_heads) ** -0.5
    scores = product("bhqd,bhkd->bhqk", heads(query), heads(key), dtype)
    for bias in biases:
        scores = scores + bias
    # A softmax, but that its sum divides the mixture: L * d numbers a head in place of L * L.
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    dropped = dropout.weights(weights, config.attention_probs_dropout_prob)
    mixed = product("bhqk,bhkd->bhqd", dropped, heads(value), dtype)
    mixed = mixed / weights.sum(axis=-1, keepdims=True)
    return mixed.transpose(0, 2, 1, 3).reshape(batch, length, width)


LEAST = -(2.0**41)
"""The smallest bias that cuDNN is given: it subtracts two of them, and -inf - -inf is not a
number."""


def _fused(query, key, value, biases, config):
    """`attention`, by `jax.nn.dot_product_attention`."""
    batch, length, width = query.shape
    dtype = config.compute.attention_dtype
    query, key, value = (
        x.astype(dtype).reshape(batch, length, config.num_attention_heads, -1)
        for x in (query, key, value)
    )
    bias = jnp.maximum(sum(biases), LEAST).astype(dtype)
    mixed = jax.nn.dot_product_attention(
        query,
        key,
        value,
        jnp.broadcast_to(bias, (*bias.shape[:2], length, length)),
        implementation=config.compute.attn_implementation,
    )
    return mixed.reshape(batch, length, width).astype(config.compute.sum_dtype)
