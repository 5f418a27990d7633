"""GTE of 2024: gte-base-en-v1.5, gte-multilingual-base and their rerankers. Rotary positions and
gated perceptrons, in layers with BERT's order of norms.

Zhang et al. 2024, https://arxiv.org/abs/2407.19669. The reference is transformers' GteModel.
Alibaba's own folders have the `model_type` "new"; see `gte_alibaba`. gte-base of 2023 is a BERT.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jsbert.checks import COUNT, POSITIVE, typed
from jsbert.config import EncoderConfig
from jsbert.encoders import nomic_bert
from jsbert.encoders.attention import Seen
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.heads import Head
from jsbert.encoders.layers import activated, added, layer_norm, linear
from jsbert.encoders.rope import FACTOR, Attention, check_head_size, theta_of

PREFIX = "gte."
DROPPED = (r"pooler\.dense\.(weight|bias)", r"(lm_head|classifier|qa_outputs)\..+")
NAMES = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "layers.{}.attention.qkv": "encoder.layer.{}.attention.qkv_proj",
    "layers.{}.attention.output": "encoder.layer.{}.attention.o_proj",
    "layers.{}.attention_norm": "encoder.layer.{}.attn_ln",
    "layers.{}.inner_gate": "encoder.layer.{}.mlp.up_gate_proj",
    "layers.{}.output": "encoder.layer.{}.mlp.down_proj",
    "layers.{}.output_norm": "encoder.layer.{}.mlp_ln",
}


@dataclasses.dataclass(frozen=True)
class Config(EncoderConfig):
    """GTE's sizes; see `EncoderConfig`.

    Attributes:
        type_vocab_size: 0 for no token types.
        rope_theta: the base of the rotary angles.
        rope_factor: the divisor of the rotary angles ("linear" scaling).
    """

    ALLOWED: ClassVar = {
        **EncoderConfig.ALLOWED,
        "type_vocab_size": COUNT,
        "rope_theta": POSITIVE,
        "rope_factor": FACTOR,
    }

    model_type: str = "gte"
    vocab_size: int = 250048
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 8192
    type_vocab_size: int = 1
    pad_token_id: int | None = 1
    rope_theta: float = 160000.0
    rope_factor: float = 1.0

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """See `EncoderConfig.check`."""
        super().check(values)
        check_head_size(values)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "config.json") -> EncoderConfig:
        """See `EncoderConfig.from_json`; `rope_parameters` may ask for "linear" scaling."""
        keys = ("rope_scaling", "rope_parameters")
        scaling, rope = (typed(values, key, dict, {}, where=where) for key in keys)
        key, factor = (keys[0], 1.0) if scaling else (keys[1], 1.0)
        rope = scaling or rope
        if rope.get("rope_type", rope.get("type")) == "linear":
            factor = float(typed(rope, "factor", float, where=f"{where}: {key}", allowed=FACTOR))
            rope = rope | {"rope_type": "default"}
        theta = theta_of(rope, values.get("rope_theta", cls.rope_theta), where=f"{where}: {key}")
        return super().from_json(
            {**values, "rope_theta": theta, "rope_factor": factor}, where=where
        )

    def to_json(self) -> dict[str, Any]:
        """See `EncoderConfig.to_json`."""
        values = super().to_json()
        rope = {"rope_type": "default", "rope_theta": values.pop("rope_theta")}
        factor = values.pop("rope_factor")
        return values | {
            "rope_parameters": rope
            if factor == 1
            else rope | {"rope_type": "linear", "factor": factor}
        }


def head(config: Config) -> Head:
    """The classifier of the family's cross-encoder."""
    return Head(pooler="gte.pooler.dense", activation="tanh")


class Layer(nnx.Module):
    """Attention and a gated perceptron, each added to its input and then normalised."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        rope = {"theta": config.rope_theta, "factor": config.rope_factor}
        self.attention = Attention(config, rngs, **rope, use_bias=True)
        self.attention_norm = layer_norm(config, width, rngs)
        self.inner_gate = linear(config, width, 2 * inner, rngs, use_bias=False)
        self.output = linear(config, inner, width, rngs)
        self.output_norm = layer_norm(config, width, rngs)
        self.config = config

    def __call__(
        self,
        hidden: Float[Array, "batch length dim"],
        *,
        positions: Any,
        seen: Seen,
        dropout: Dropout,
    ) -> Float[Array, "batch length dim"]:
        rate = self.config.hidden_dropout_prob
        mixed = self.attention(hidden, positions, seen, dropout)
        hidden = self.attention_norm(added(self.config, hidden, dropout.hidden(mixed, rate)))
        inner, gate = jnp.split(self.inner_gate(hidden), 2, axis=-1)
        inner = dropout.hidden(inner * activated(self.config, gate), rate)
        update = dropout.hidden(self.output(inner), rate)
        return self.output_norm(added(self.config, hidden, update))


class Encoder(nomic_bert.Encoder):
    """The whole encoder: (B, L) ids to (B, L, D) token vectors."""

    LAYER: ClassVar[Callable[..., nnx.Module]] = Layer
