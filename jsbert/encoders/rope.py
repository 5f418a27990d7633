"""Rotary positions: queries and keys turned by angles that grow with a token's place.

Su et al. 2021, https://arxiv.org/abs/2104.09864, in HuggingFace's arrangement: entry i turns with i
+ d/2.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from jsbert.checks import POSITIVE, check_value
from jsbert.config import EncoderConfig
from jsbert.encoders.attention import attention
from jsbert.encoders.layers import from_heads, linear, three_in_heads


def rotated(
    x: Float[Array, "batch heads length size"],
    positions: Int[Array, "#batch length"] | None,
    *,
    theta: float,
    factor: float = 1.0,
) -> Float[Array, "batch heads length size"]:
    """Queries or keys by heads, each turned by its token's place.

    Args:
        x: any float dtype, which the result has too; the angles are float32.
        positions: each token's place; None counts from 0 at the left. Only differences of places
            matter.
        theta: the base of the angles: entry i of size/2 turns by place * theta ** (-2i/d) / factor.
        factor: by what the angles are divided ("linear" scaling).
    """
    length, size = x.shape[2:]
    places = jnp.arange(length)[None] if positions is None else positions
    # The reference's own steps in float32: far into a text, an angle shows the last digit of its
    # speed.
    speeds = (
        1
        / np.float32(theta) ** (np.arange(0, size, 2, dtype=np.float32) / np.float32(size))
        / np.float32(factor)
    )
    angles = places[:, :, None] * speeds[None, None]
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]  # (B or 1, 1, L, size/2)
    first, second = jnp.split(x, 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


class Attention(nnx.Module):
    """Self-attention with rotary positions; query, key and value in one product."""

    def __init__(
        self,
        config: EncoderConfig,
        rngs: nnx.Rngs,
        *,
        theta: float,
        factor: float = 1.0,
        use_bias: bool = False,
    ):
        width = config.hidden_size
        self.qkv = linear(config, width, 3 * width, rngs, use_bias=use_bias)
        self.output = linear(config, width, width, rngs, use_bias=use_bias)
        self.theta, self.factor = theta, factor
        self.config = config

    def __call__(self, hidden, positions, seen, dropout):
        config = self.config
        size = config.hidden_size // config.num_attention_heads
        query, key, value = three_in_heads(self.qkv, hidden, size)
        turned = (rotated(x, positions, theta=self.theta, factor=self.factor) for x in (query, key))
        mixed = attention(*turned, value, seen, config=config, dropout=dropout)
        return from_heads(self.output, mixed)


def check_head_size(values: Mapping[str, Any]) -> None:
    """ValueError where rotary positions find no pairs of entries."""
    if values["hidden_size"] // values["num_attention_heads"] % 2:
        raise ValueError(
            f"hidden_size {values['hidden_size']} over num_attention_heads "
            f"{values['num_attention_heads']} is odd; "
            "rotary positions need it even"
        )


def theta_of(parameters: Any, default: Any, *, where: str) -> float:
    """The base of the angles that a config.json's `rope_parameters`, or older `rope_scaling`,
    describes.

    Args:
        parameters: what stands under that key, or None.
        default: the base where `parameters` names none.
        where: the file and the key, for messages.

    Raises:
        ValueError: for a scaling of the angles, none of which is computed here; and for a base that
            is no positive number.
    """
    parameters = {} if parameters is None else check_value(parameters, dict, name=where)
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind != "default":
        raise ValueError(f"{where}: rope_type is {kind!r}; only 'default' is supported")
    theta = parameters.get("rope_theta", default)
    return float(check_value(theta, float, name=f"{where}: rope_theta", allowed=POSITIVE))
