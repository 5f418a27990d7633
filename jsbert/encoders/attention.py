"""Attention as XLA computes it fast, shared by the families."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from jsbert.encoders.dropout import Dropout
from jsbert.encoders.product import product


def attention(
    query: Float[Array, "batch length width"],
    key: Float[Array, "batch length width"],
    value: Float[Array, "batch length width"],
    bias: Float[Array, "#batch #heads #queries length"],
    *,
    num_heads: int,
    dtype: DTypeLike,
    dropout: Dropout,
    rate: float,
) -> Float[Array, "batch length width"]:
    """Each token's mixture of the values, by the softmax over its row's tokens of query * key / sqrt(d) + bias.

    Args:
        query, key, value: of all heads, side by side.
        bias: added to the scores; the dtype's smallest number where a token must not be seen.
        num_heads: heads, each of `width / num_heads` = d entries.
        dtype: of the products' operands.
        dropout, rate: of the softmax's weights.
    """
    batch, length, width = query.shape

    def heads(x):  # (B, L, D) -> (B, H, L, d): with the heads in front, both products are plain ones
        return x.reshape(batch, length, num_heads, -1).transpose(0, 2, 1, 3)

    query = query * (width // num_heads) ** -0.5
    scores = product("bhqd,bhkd->bhqk", heads(query), heads(key), dtype) + bias
    # A softmax, but that its sum divides the mixture: L * d numbers a head in place of L * L.
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    mixed = product("bhqk,bhkd->bhqd", dropout.weights(weights, rate), heads(value), dtype)
    mixed = mixed / weights.sum(axis=-1, keepdims=True)
    return mixed.transpose(0, 2, 1, 3).reshape(batch, length, width)
