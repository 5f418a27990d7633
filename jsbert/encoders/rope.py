"""Rotary positions: queries and keys are turned by angles that grow with the place of the token.

Su et al. 2021, https://arxiv.org/abs/2104.09864, in HuggingFace's arrangement: entries i and
i + d/2 are a pair.
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
    """Queries or keys by heads, each turned by the place of its token.

    Pair i of d/2 turns by the angle place * theta ** (-2i/d) / factor; d is the size of a head.

    Args:
        x: queries or keys of any float dtype; the result has the same dtype. The angles are
            float32.
        positions: the place of each token; None counts from 0 at the left. Only differences of
            places matter.
        theta: the base of the angles.
        factor: the divisor of the angles ("linear" scaling).
    """
    length, size = x.shape[2:]
    places = jnp.arange(length)[None] if positions is None else positions
    # The same float32 steps as the reference's: at a far place the angle multiplies any difference
    # in the last digit of a speed. The power alone is computed in float64 and then rounded, because
    # numpy's float32 power misses the last digit more often than torch's.
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    powers = (np.float64(np.float32(theta)) ** exponents.astype(np.float64)).astype(np.float32)
    speeds = 1 / powers / np.float32(factor)
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
    """Raise ValueError if the size of a head is odd: rotary positions need pairs of entries."""
    if values["hidden_size"] // values["num_attention_heads"] % 2:
        raise ValueError(
            f"hidden_size {values['hidden_size']} over num_attention_heads "
            f"{values['num_attention_heads']} is odd; "
            "rotary positions need it even"
        )


def theta_of(parameters: Any, default: Any, *, where: str) -> float:
    """The base of the rotary angles that a config.json names.

    Args:
        parameters: the value of `rope_parameters`, or of the older `rope_scaling`; None if missing.
        default: the base if `parameters` names none.
        where: the file and the key, for messages.

    Raises:
        ValueError: for a `rope_type` other than "default", because scaled angles are not supported;
            and for a base that is not a positive number.
    """
    parameters = {} if parameters is None else check_value(parameters, dict, name=where)
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind != "default":
        raise ValueError(f"{where}: rope_type is {kind!r}; only 'default' is supported")
    theta = parameters.get("rope_theta", default)
    return float(check_value(theta, float, name=f"{where}: rope_theta", allowed=POSITIVE))
