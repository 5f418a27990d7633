"""T5's encoder: no biases, RMS norms, scores that are not scaled, and a bias for the distance of
two tokens that all layers share.

Raffel et al. 2020, https://arxiv.org/abs/1910.10683; as embedders Ni et al. 2021,
https://arxiv.org/abs/2108.08877 (sentence-t5) and https://arxiv.org/abs/2112.07899 (gtr-t5). The
reference is transformers' T5EncoderModel.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jsbert.activations import activation_name
from jsbert.checks import POSITIVE, Range, shown, typed
from jsbert.config import EncoderConfig
from jsbert.encoders.attention import Seen, attention
from jsbert.encoders.distances import distance_buckets
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.heads import Head
from jsbert.encoders.layers import (
    Linear,
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
from jsbert.tokenizer import UNLIMITED

PREFIX = "transformer."
DROPPED = (r"(decoder|lm_head|classification_head|classifier|qa_outputs)\..+",)
TIED = {"encoder.embed_tokens.weight": "shared.weight"}
NAMES = {
    "word": "shared",
    "distances": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
    "layers.{}.attention_norm": "encoder.block.{}.layer.0.layer_norm",
    "layers.{}.attention.query": "encoder.block.{}.layer.0.SelfAttention.q",
    "layers.{}.attention.key": "encoder.block.{}.layer.0.SelfAttention.k",
    "layers.{}.attention.value": "encoder.block.{}.layer.0.SelfAttention.v",
    "layers.{}.attention.output": "encoder.block.{}.layer.0.SelfAttention.o",
    "layers.{}.inner_norm": "encoder.block.{}.layer.1.layer_norm",
    "layers.{}.inner": "encoder.block.{}.layer.1.DenseReluDense.wi",
    "layers.{}.gate": "encoder.block.{}.layer.1.DenseReluDense.wi_0",
    "layers.{}.gated": "encoder.block.{}.layer.1.DenseReluDense.wi_1",
    "layers.{}.output": "encoder.block.{}.layer.1.DenseReluDense.wo",
    "norm": "encoder.final_layer_norm",
}


@dataclasses.dataclass(frozen=True)
class Config(EncoderConfig):
    """T5's sizes; see `EncoderConfig`. There is one rate of dropout for all places, and no limit of
    positions unless `max_position_embeddings` names one.

    Attributes:
        head_dim: entries of a head; it need not follow from the width of the token vectors.
        is_gated_act: whether the perceptron is gated (T5 1.1) or plain (T5 1.0).
        relative_attention_num_buckets: the number of buckets of distances.
        relative_attention_max_distance: the distance at which the last bucket has begun.
        initializer_range: a factor of the deviations of new params, which depend on the sizes.
    """

    RENAMED: ClassVar = {
        "hidden_size": "d_model",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "head_dim": "d_kv",
        "intermediate_size": "d_ff",
        "hidden_act": "dense_act_fn",
        "hidden_dropout_prob": "dropout_rate",
        "attention_probs_dropout_prob": "dropout_rate",
        "layer_norm_eps": "layer_norm_epsilon",
        "initializer_range": "initializer_factor",
    }
    ONLY: ClassVar = {"is_decoder": False}
    ALLOWED: ClassVar = {
        **EncoderConfig.ALLOWED,
        "initializer_range": POSITIVE,
        "relative_attention_max_distance": Range(
            1, UNLIMITED + 1, "an integer from 1 to 1,000,000"
        ),
    }

    model_type: str = "t5"
    vocab_size: int = 32128
    hidden_size: int = 512
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    head_dim: int = 64
    intermediate_size: int = 2048
    hidden_act: str = "relu"
    is_gated_act: bool = False
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    classifier_dropout: float | None = 0.0
    max_position_embeddings: int = UNLIMITED
    initializer_range: float = 1.0
    layer_norm_eps: float = 1e-6

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """See `EncoderConfig.check`."""
        super().check(values)
        buckets = values["relative_attention_num_buckets"]
        farthest = values["relative_attention_max_distance"]
        if buckets < 4 or farthest <= buckets // 4:
            raise ValueError(
                f"relative_attention_num_buckets is {buckets} and relative_attention_max_distance "
                f"is {farthest}; at least 4 buckets are needed, and a distance above a quarter of "
                "their number"
            )
        if values["hidden_dropout_prob"] != values["attention_probs_dropout_prob"]:
            raise ValueError(
                f"hidden_dropout_prob is {values['hidden_dropout_prob']} and "
                f"attention_probs_dropout_prob is {values['attention_probs_dropout_prob']}; T5 has "
                "one dropout_rate, so they must be equal"
            )
        if values["is_gated_act"] and values["hidden_act"] == "gelu":
            raise ValueError(
                "a gate's activation is 'gelu', which T5's configs cannot name: their 'gated-gelu' "
                "is 'gelu_new'"
            )

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "config.json") -> EncoderConfig:
        """See `EncoderConfig.from_json`. `feed_forward_proj` names the activation and the gate;
        `dense_act_fn` and `is_gated_act` may only repeat what it says."""
        name = typed(values, "feed_forward_proj", str, "relu", where=where)
        gate, _, gated = name.partition("-")
        is_gated = gate == "gated" and bool(gated)
        try:
            act = activation_name(gated if is_gated else name, where="")
        except ValueError:
            raise ValueError(
                f"{where}: feed_forward_proj is {shown(name)}; only an activation, as in 'relu', "
                "or 'gated-' and an activation, as in 'gated-gelu', is supported"
            ) from None
        act = "gelu_new" if name == "gated-gelu" else act
        for key, said in (("dense_act_fn", act), ("is_gated_act", is_gated)):
            if values.get(key, said) != said:
                raise ValueError(
                    f"{where}: {key} is {shown(values[key])}, but feed_forward_proj {name!r} says "
                    f"{said!r}; they must agree"
                )
        own = {"dense_act_fn": act, "is_gated_act": is_gated}
        return super().from_json({**values, **own}, where=where)

    def to_json(self) -> dict[str, Any]:
        """See `EncoderConfig.to_json`."""
        values = super().to_json()
        act = "gelu" if self.is_gated_act and self.hidden_act == "gelu_new" else self.hidden_act
        if self.max_position_embeddings == UNLIMITED:
            del values["max_position_embeddings"]
        return values | {
            "feed_forward_proj": f"gated-{act}" if self.is_gated_act else act,
            "is_encoder_decoder": False,
            "use_cache": False,
        }


def head(config: Config) -> Head:
    """Raise ValueError: the family's classifier reads the decoder."""
    raise ValueError(
        "T5 cannot be a cross-encoder here: its classifier reads the decoder, which jsbert does "
        "not have"
    )


def _drawn(
    config: Config, inputs: int, outputs: int, rngs: nnx.Rngs, *, terms: int | None = None
) -> Linear:
    """A linear layer whose new kernel has the deviation 1 / sqrt(`terms`), by default
    1 / sqrt(`inputs`): the scores are not scaled later."""
    deviation = config.initializer_range * (terms or inputs) ** -0.5
    own = dataclasses.replace(config, initializer_range=deviation)
    return linear(own, inputs, outputs, rngs, use_bias=False)


class Attention(nnx.Module):
    """Self-attention over the tokens that are seen. The scores are not scaled."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        width, size = config.hidden_size, config.head_dim
        inner = config.num_attention_heads * size
        self.query = _drawn(config, width, inner, rngs, terms=width * size)
        self.key, self.value = (_drawn(config, width, inner, rngs) for _ in range(2))
        self.output = _drawn(config, inner, width, rngs)
        self.config = config

    def __call__(self, hidden, seen, bias, dropout):
        config = self.config
        heads = in_heads((self.query, self.key, self.value), hidden, config.head_dim)
        mixed = attention(*heads, seen, config=config, dropout=dropout, bias=bias, scale=1.0)
        return from_heads(self.output, mixed)


class Layer(nnx.Module):
    """Attention and a perceptron, gated or not. Each reads its input normalised, and is added to
    the input."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.attention_norm, self.inner_norm = (rms_norm(config, width, rngs) for _ in range(2))
        self.attention = Attention(config, rngs)
        if config.is_gated_act:
            self.gate, self.gated = (_drawn(config, width, inner, rngs) for _ in range(2))
        else:
            self.inner = _drawn(config, width, inner, rngs)
        self.output = _drawn(config, inner, width, rngs)
        self.config = config

    def __call__(
        self,
        hidden: Float[Array, "batch length dim"],
        *,
        seen: Seen,
        bias: Float[Array, "1 heads length length"],
        dropout: Dropout,
    ) -> Float[Array, "batch length dim"]:
        config = self.config
        rate = config.hidden_dropout_prob
        mixed = self.attention(self.attention_norm(hidden), seen, bias, dropout)
        hidden = added(config, hidden, dropout.hidden(mixed, rate))
        normed = self.inner_norm(hidden)
        if config.is_gated_act:
            gate, gated = joined((self.gate, self.gated), normed)
            inner = activated(config, gate) * gated
        else:
            inner = activated(config, self.inner(normed))
        update = self.output(dropout.hidden(inner, rate))
        return added(config, hidden, dropout.hidden(update, rate))


class Encoder(nnx.Module):
    """The whole encoder: (B, L) ids to (B, L, D) token vectors."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        width = config.hidden_size
        self.word = embedding(config, config.vocab_size, width, rngs)
        narrow = dataclasses.replace(
            config, initializer_range=config.initializer_range * width**-0.5
        )
        self.distances = embedding(
            narrow, config.relative_attention_num_buckets, config.num_attention_heads, rngs
        )
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.num_hidden_layers)])
        self.norm = rms_norm(config, width, rngs)
        self.config = config

    def __call__(self, ids, mask, token_types, positions, dropout):
        config = self.config
        buckets = distance_buckets(
            jnp.arange(ids.shape[1])[None],
            num_buckets=config.relative_attention_num_buckets,
            farthest=config.relative_attention_max_distance,
        )
        context = {
            "seen": Seen.of(mask, positions, config.compute),
            "bias": self.distances(buckets).transpose(0, 3, 1, 2),  # (1, H, L, L)
            "dropout": dropout,
        }
        rate = config.hidden_dropout_prob
        hidden = dropout.hidden(vectors_of(self.word, ids), rate)
        *stages, last = in_turn(self.layers, hidden, compute=config.compute, **context)
        return (*stages, dropout.hidden(self.norm(last), rate))
