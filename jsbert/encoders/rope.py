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

from jsbert.checks import POSITIVE, Range, check_value, shown, typed
from jsbert.config import EncoderConfig
from jsbert.encoders.attention import attention
from jsbert.encoders.layers import from_heads, linear, three_in_heads


def rotated(
    x: Float[Array, "batch heads length size"],
    positions: Int[Array, "#batch length"] | None,
    *,
    theta: float,
    factor: float = 1.0,
    llama3: tuple[float, ...] = (),
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
        llama3: () or the four numbers of `llama3_speeds`.
    """
    length, size = x.shape[2:]
    places = jnp.arange(length)[None] if positions is None else positions
    # The same float32 steps as the reference's: at a far place the angle multiplies any difference
    # in the last digit of a speed. The power alone is computed in float64 and then rounded, because
    # numpy's float32 power misses the last digit more often than torch's.
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    powers = (np.float64(np.float32(theta)) ** exponents.astype(np.float64)).astype(np.float32)
    speeds = 1 / powers / np.float32(factor)
    speeds = llama3_speeds(speeds, *llama3) if llama3 else speeds
    angles = places[:, :, None] * speeds[None, None]
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]  # (B or 1, 1, L, size/2)
    first, second = jnp.split(x, 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


LLAMA3 = (
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
)
"""The keys of "llama3" scaling in a config.json, in the order of `llama3_speeds`."""


def llama3_speeds(
    speeds: Float[np.ndarray, " pairs"], factor: float, low: float, high: float, length: float
) -> Float[np.ndarray, " pairs"]:
    """Speeds of Llama 3.1: slow pairs turn slower by `factor`, fast pairs as before, and those
    between by a mean of both.

    Args:
        speeds: the angles at place 1, float32.
        factor: the divisor of slow speeds.
        low, high: a pair is slow if it turns less than `low` times round in `length` tokens, and
            fast if it turns more than `high` times.
        length: the number of positions before the scaling.
    """
    # The same float32 steps as the reference's.
    turns = np.float32(2 * np.pi) / speeds
    slow = np.where(turns > length / low, speeds / np.float32(factor), speeds)
    part = (np.float32(length) / turns - np.float32(low)) / np.float32(high - low)
    between = (1 - part) * slow / np.float32(factor) + part * slow
    is_between = (turns >= length / high) & (turns <= length / low)
    return np.where(is_between, between, slow).astype(np.float32)


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


FACTOR = Range(1, 1e6, "a number from 1 to 1e6")
"""The allowed divisors of the rotary angles."""


def scaled_rope(values: Mapping[str, Any], default: float, *, where: str) -> dict[str, Any]:
    """The fields `rope_theta`, `rope_factor` and `rope_llama3` that a config.json names.

    The older key `rope_scaling` wins over `rope_parameters`.

    Args:
        values: the content of config.json.
        default: the base of the angles if the file names none.
        where: the file, for messages.

    Raises:
        ValueError: for a `rope_type` other than "default", "linear" and "llama3", and for wrong
            values.
    """
    scaling, rope = (
        typed(values, key, dict, {}, where=where) for key in ("rope_scaling", "rope_parameters")
    )
    where = f"{where}: {'rope_scaling' if scaling else 'rope_parameters'}"
    rope = scaling or rope
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise ValueError(
            f"{where}: rope_type is {shown(kind)}; only 'default', 'linear' and 'llama3' are "
            "supported"
        )
    part = rope.get("partial_rotary_factor", values.get("partial_rotary_factor", 1.0))
    if part != 1:
        raise ValueError(f"{where}: partial_rotary_factor is {shown(part)}; only 1 is supported")
    factor = 1.0
    llama3: tuple[float, ...] = ()
    if kind == "linear":
        factor = float(typed(rope, "factor", float, where=where, allowed=FACTOR))
    if kind == "llama3":
        llama3 = tuple(
            float(typed(rope, key, float, where=where, allowed=POSITIVE)) for key in LLAMA3
        )
    theta = theta_of(
        rope | {"rope_type": "default"}, values.get("rope_theta", default), where=where
    )
    return {"rope_theta": theta, "rope_factor": factor, "rope_llama3": llama3}


def rope_parameters(theta: float, factor: float, llama3: tuple[float, ...]) -> dict[str, Any]:
    """The value of `rope_parameters` for the fields that `scaled_rope` returns."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": theta}
    if llama3:
        *factors, length = llama3
        scaling = dict(zip(LLAMA3, [*factors, int(length)], strict=True))
        return rope | scaling | {"rope_type": "llama3"}
    return rope if factor == 1 else rope | {"rope_type": "linear", "factor": factor}


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
