"""ModernBERT: rotary positions, gated perceptrons, and norms in front of attention and perceptron.
In most layers a token sees only its neighbours.

Warner et al. 2024, https://arxiv.org/abs/2412.13663. The reference is transformers'
ModernBertModel.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jsbert.activations import activation_name
from jsbert.checks import POSITIVE, typed
from jsbert.config import EncoderConfig
from jsbert.encoders.attention import Seen
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.heads import Head
from jsbert.encoders.layers import (
    activated,
    added,
    embedding,
    in_turn,
    layer_norm,
    linear,
    vectors_of,
)
from jsbert.encoders.rope import Attention, check_head_size, theta_of

PREFIX = "model."
DROPPED = (r"(head|decoder|classifier)\..+",)
NAMES = {
    "embeddings.word": "embeddings.tok_embeddings",
    "embeddings.norm": "embeddings.norm",
    "layers.{}.attention_norm": "layers.{}.attn_norm",
    "layers.{}.attention.qkv": "layers.{}.attn.Wqkv",
    "layers.{}.attention.output": "layers.{}.attn.Wo",
    "layers.{}.inner_norm": "layers.{}.mlp_norm",
    "layers.{}.inner": "layers.{}.mlp.Wi",
    "layers.{}.output": "layers.{}.mlp.Wo",
    "norm": "final_norm",
}

THETAS = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}
"""For each of the two kinds of layers, the field with the base of its rotary angles."""


@dataclasses.dataclass(frozen=True)
class Config(EncoderConfig):
    """ModernBERT's sizes; see `EncoderConfig`.

    Attributes:
        layer_types: the kind of each layer, "full_attention" or "sliding_attention". If empty, the
            first layer and every `global_attn_every_n_layers`th after it are full.
        local_attention: the window of sliding layers; a token sees half of the window to each side.
    """

    RENAMED: ClassVar = {
        "hidden_act": "hidden_activation",
        "hidden_dropout_prob": "embedding_dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "layer_norm_eps": "norm_eps",
    }
    ALLOWED: ClassVar = {
        **EncoderConfig.ALLOWED,
        "global_rope_theta": POSITIVE,
        "local_rope_theta": POSITIVE,
        "classifier_pooling": ("cls", "mean"),
    }

    model_type: str = "modernbert"
    vocab_size: int = 50368
    num_hidden_layers: int = 22
    intermediate_size: int = 1152
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout: float | None = 0.0
    mlp_dropout: float = 0.0
    max_position_embeddings: int = 8192
    layer_norm_eps: float = 1e-5
    pad_token_id: int | None = 50283
    layer_types: tuple[str, ...] = ()
    global_attn_every_n_layers: int = 3
    local_attention: int = 128
    global_rope_theta: float = 160000.0
    local_rope_theta: float = 10000.0
    attention_bias: bool = False
    mlp_bias: bool = False
    norm_bias: bool = False
    classifier_pooling: str = "cls"
    classifier_bias: bool = False
    classifier_activation: str = "gelu"

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """See `EncoderConfig.check`."""
        super().check(values)
        check_head_size(values)
        kinds, count = values["layer_types"], values["num_hidden_layers"]
        if kinds and (len(kinds) != count or set(kinds) - set(THETAS)):
            raise ValueError(
                f"layer_types is {list(kinds)}; it must name each of {count} layers one of "
                f"{[*THETAS]}"
            )

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "config.json") -> EncoderConfig:
        """See `EncoderConfig.from_json`. `rope_parameters` and `layer_types` win over the older
        keys `global_rope_theta`, `local_rope_theta` and `global_attn_every_n_layers`."""
        keys = ("rope_parameters", "rope_scaling")
        ropes, scaling = (typed(values, key, dict, {}, where=where) for key in keys)
        thetas = {
            name: theta_of(
                typed(ropes, kind, dict, {}, where=f"{where}: rope_parameters") | scaling,
                values.get(name, getattr(cls, name)),
                where=f"{where}: rope_parameters of {kind}",
            )
            for kind, name in THETAS.items()
        }
        every = typed(
            values, "global_attn_every_n_layers", int, cls.global_attn_every_n_layers, where=where
        )
        kinds = tuple(typed(values, "layer_types", list[str], (), where=where))
        layers = {"layer_types": kinds, "global_attn_every_n_layers": every}
        return super().from_json({**values, **thetas, **layers}, where=where)

    def to_json(self) -> dict[str, Any]:
        """See `EncoderConfig.to_json`. The values are written under the new keys and the older
        ones: each version of transformers takes its own default for a key that is missing.
        `global_attn_every_n_layers` is None if the kinds of the layers have no period."""
        ropes = {
            kind: {"rope_type": "default", "rope_theta": getattr(self, name)}
            for kind, name in THETAS.items()
        }
        periods = [
            n
            for n in range(1, self.num_hidden_layers + 1)
            if self._kinds_of_period(n) == self.kinds
        ]
        return super().to_json() | {
            "layer_types": list(self.kinds),
            "rope_parameters": ropes,
            "global_attn_every_n_layers": periods[0] if periods else None,
        }

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each layer: keys of `THETAS`."""
        return self.layer_types or self._kinds_of_period(self.global_attn_every_n_layers)

    def _kinds_of_period(self, every):
        return tuple(
            "sliding_attention" if i % every else "full_attention"
            for i in range(self.num_hidden_layers)
        )


def head(config: Config) -> Head:
    """The classifier of the family's cross-encoder."""
    biased = {"pooler": config.classifier_bias, "norm": config.norm_bias, "classifier": True}
    return Head(
        pooler="head.dense",
        norm="head.norm",
        activation=activation_name(
            config.classifier_activation, where="config.json: classifier_activation"
        ),
        pooling=config.classifier_pooling,
        biased=frozenset(name for name, has_bias in biased.items() if has_bias),
    )


class Embeddings(nnx.Module):
    """Word vectors, normalised. The layers add the positions."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.word = embedding(config, config.vocab_size, config.hidden_size, rngs)
        self.norm = layer_norm(config, config.hidden_size, rngs, use_bias=config.norm_bias)
        self.config = config

    def __call__(self, ids, dropout):
        hidden = self.norm(vectors_of(self.word, ids))
        return dropout.hidden(hidden, self.config.hidden_dropout_prob)


class Layer(nnx.Module):
    """Attention and a gated perceptron (GeGLU). Each reads its input normalised, and is added to
    the input. The attention of the first layer has no norm: the embeddings are normalised."""

    def __init__(self, config: Config, index: int, rngs: nnx.Rngs):
        width = config.hidden_size
        self.kind = config.kinds[index]
        self.attention_norm = (
            layer_norm(config, width, rngs, use_bias=config.norm_bias) if index else None
        )
        theta = getattr(config, THETAS[self.kind])
        self.attention = Attention(config, rngs, theta=theta, use_bias=config.attention_bias)
        self.inner_norm = layer_norm(config, width, rngs, use_bias=config.norm_bias)
        self.inner = linear(
            config, width, 2 * config.intermediate_size, rngs, use_bias=config.mlp_bias
        )
        self.output = linear(
            config, config.intermediate_size, width, rngs, use_bias=config.mlp_bias
        )
        self.config = config

    def __call__(
        self,
        hidden: Float[Array, "batch length dim"],
        *,
        positions: Array,
        seen: Mapping[str, Seen],
        dropout: Dropout,
    ) -> Float[Array, "batch length dim"]:
        normed = self.attention_norm(hidden) if self.attention_norm else hidden
        mixed = self.attention(normed, positions, seen[self.kind], dropout)
        config = self.config
        hidden = added(config, hidden, dropout.hidden(mixed, config.attention_probs_dropout_prob))
        inner, gate = jnp.split(self.inner(self.inner_norm(hidden)), 2, axis=-1)
        inner = activated(config, inner) * gate
        return added(config, hidden, self.output(dropout.hidden(inner, config.mlp_dropout)))


class Encoder(nnx.Module):
    """The whole encoder: (B, L) ids to (B, L, D) token vectors."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, rngs)
        self.layers = nnx.List(
            [Layer(config, index, rngs) for index in range(config.num_hidden_layers)]
        )
        self.norm = layer_norm(config, config.hidden_size, rngs, use_bias=config.norm_bias)
        self.config = config

    def __call__(self, ids, mask, token_types, positions, dropout):
        config = self.config
        places = jnp.arange(ids.shape[1])[None] if positions is None else positions
        window = config.local_attention // 2
        seen = {
            "full_attention": Seen.of(mask, positions, config.compute),
            "sliding_attention": Seen.of(mask, positions, config.compute, window=window),
        }
        hidden = self.embeddings(ids, dropout)
        context = {"positions": places, "seen": seen, "dropout": dropout}
        *stages, last = in_turn(self.layers, hidden, compute=config.compute, **context)
        return (*stages, self.norm(last))
