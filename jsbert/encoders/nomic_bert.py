"""Nomic BERT: nomic-embed-text-v1 and -v1.5. A BERT with rotary positions, gated perceptrons and no
biases.

Nussbaum et al. 2024, https://arxiv.org/abs/2402.01613. The reference is transformers'
NomicBertModel. NomicBertModel computes the same as the original code (nomic-ai/contrastors), but
has other keys in config.json.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Float

from jsbert.checks import POSITIVE, Range, typed
from jsbert.config import EncoderConfig
from jsbert.encoders.attention import Seen
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.heads import Head
from jsbert.encoders.layers import (
    activated,
    added,
    embedding,
    in_turn,
    joined,
    layer_norm,
    linear,
    vectors_of,
)
from jsbert.encoders.rope import Attention, check_head_size, theta_of

PREFIX = "nomic_bert."
DROPPED = (r"pooler\.dense\.(weight|bias)", r"(cls|classifier)\..+")
NAMES = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "emb_ln",
    "layers.{}.attention.qkv": "encoder.layers.{}.attn.Wqkv",
    "layers.{}.attention.output": "encoder.layers.{}.attn.out_proj",
    "layers.{}.attention_norm": "encoder.layers.{}.norm1",
    "layers.{}.inner": "encoder.layers.{}.mlp.fc11",
    "layers.{}.gate": "encoder.layers.{}.mlp.fc12",
    "layers.{}.output": "encoder.layers.{}.mlp.fc2",
    "layers.{}.output_norm": "encoder.layers.{}.norm2",
}

ORIGINAL_KEYS = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "hidden_dropout_prob": "resid_pdrop",
    "attention_probs_dropout_prob": "attn_pdrop",
    "layer_norm_eps": "layer_norm_epsilon",
    "rope_theta": "rotary_emb_base",
}
"""{field: its key in a config.json of the original code}."""

GATES = {"swiglu": "silu", "geglu": "gelu", "glu": "sigmoid"}
"""{the original's `activation_function`: the activation of the gate}."""


@dataclasses.dataclass(frozen=True)
class Config(EncoderConfig):
    """Nomic BERT's sizes; see `EncoderConfig`.

    Attributes:
        rope_theta: the base of the rotary angles.
        rotary_scaling_factor: if given, the original changes the angles in batches longer than
            `max_trained_positions`, depending on the length of the batch. jsbert does not compute
            this: `max_tokens` ends at `max_trained_positions`.
    """

    ONLY: ClassVar = {
        "prenorm": False,
        "parallel_block": False,
        "causal": False,
        "use_rms_norm": False,
        "norm_mlp": False,
        "qkv_proj_bias": False,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
    }
    ALLOWED: ClassVar = {
        **EncoderConfig.ALLOWED,
        "hidden_act": tuple(GATES.values()),
        "rope_theta": POSITIVE,
        "rotary_scaling_factor": Range(0, 1e30, "a number from 0 to 1e30"),
    }

    model_type: str = "nomic_bert"
    vocab_size: int = 30528
    hidden_act: str = "silu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 2048
    type_vocab_size: int = 2
    rope_theta: float = 1000.0
    rotary_scaling_factor: float | None = None
    max_trained_positions: int = 2048

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """See `EncoderConfig.check`."""
        super().check(values)
        check_head_size(values)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "config.json") -> EncoderConfig:
        """See `EncoderConfig.from_json`. Where a file has both the original's key and
        transformers', transformers' wins. The exception is `n_positions`, which wins over
        `max_position_embeddings`: the latter may be the length of the training's longest text."""
        experts = typed(values, "moe_every_n_layers", int, 0, where=where)
        if experts not in (0, -1):
            raise ValueError(
                f"{where}: moe_every_n_layers is {experts!r}; layers of experts are not supported, "
                "only 0"
            )
        gate = values.get("activation_function", "swiglu")
        if not isinstance(gate, str) or gate not in GATES:
            raise ValueError(
                f"{where}: activation_function is {gate!r}; supported: {', '.join(GATES)}"
            )
        for name, theirs in (*ORIGINAL_KEYS.items(), ("max_position_embeddings", "n_positions")):
            if theirs in values:  # errors name the file's own key
                cls.check_field(name, values[theirs], f"{where}: {theirs}")
        ours = {name: values[theirs] for name, theirs in ORIGINAL_KEYS.items() if theirs in values}
        values = {"hidden_act": GATES[gate]} | ours | dict(values)
        if "n_positions" in values:
            values["max_position_embeddings"] = values["n_positions"]
        keys = ("rope_scaling", "rope_parameters")
        scaling, rope = (typed(values, key, dict, {}, where=where) for key in keys)
        theta = theta_of(
            scaling or rope,
            values.get("rope_theta", cls.rope_theta),
            where=f"{where}: rope_parameters",
        )
        return super().from_json(values | {"rope_theta": theta}, where=where)

    def to_json(self) -> dict[str, Any]:
        """See `EncoderConfig.to_json`. The values are written under transformers' keys and
        the original's, because other readers know only the original's."""
        values = super().to_json()
        original = {theirs: values[name] for name, theirs in ORIGINAL_KEYS.items()}
        return (
            values
            | original
            | {
                "n_positions": self.max_position_embeddings,
                "activation_function": next(
                    name for name, gate in GATES.items() if gate == self.hidden_act
                ),
                "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            }
        )

    @property
    def max_tokens(self) -> int:
        """The number of tokens of the longest text whose angles do not depend on the batch."""
        limits = (self.max_position_embeddings, self.max_trained_positions)
        return min(limits) if self.rotary_scaling_factor else limits[0]


def head(config: Config) -> Head:
    """The classifier of the family's cross-encoder."""
    return Head(pooler="nomic_bert.pooler.dense", activation="tanh")


class Embeddings(nnx.Module):
    """The sum of word and token-type vectors, normalised. Without token types, the word vectors
    alone. The layers add the positions."""

    def __init__(self, config: Any, rngs: nnx.Rngs):
        self.word = embedding(config, config.vocab_size, config.hidden_size, rngs)
        if config.type_vocab_size:
            self.token_type = embedding(config, config.type_vocab_size, config.hidden_size, rngs)
        self.norm = layer_norm(config, config.hidden_size, rngs)
        self.config = config

    def __call__(self, ids, token_types, dropout):
        hidden = vectors_of(self.word, ids)
        if self.config.type_vocab_size:
            types = (
                self.token_type.embedding[None, :1]
                if token_types is None
                else self.token_type(token_types)
            )
            hidden = hidden + types
        return dropout.hidden(self.norm(hidden), self.config.hidden_dropout_prob)


class Layer(nnx.Module):
    """Attention and a gated perceptron, each added to its input and then normalised."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.attention = Attention(config, rngs, theta=config.rope_theta)
        self.attention_norm = layer_norm(config, width, rngs)
        self.inner, self.gate = (
            linear(config, width, inner, rngs, use_bias=False) for _ in range(2)
        )
        self.output = linear(config, inner, width, rngs, use_bias=False)
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
        inner, gate = joined((self.inner, self.gate), hidden)
        inner = inner * activated(self.config, gate)
        update = dropout.hidden(self.output(inner), rate)
        return self.output_norm(added(self.config, hidden, update))


class Encoder(nnx.Module):
    """The whole encoder: (B, L) ids to (B, L, D) token vectors."""

    LAYER: ClassVar[Callable[..., nnx.Module]] = Layer

    def __init__(self, config: Any, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, rngs)
        self.layers = nnx.List([self.LAYER(config, rngs) for _ in range(config.num_hidden_layers)])
        self.config = config

    def __call__(self, ids, mask, token_types, positions, dropout):
        config = self.config
        hidden = self.embeddings(ids, token_types, dropout)
        seen = Seen.of(mask, positions, config.compute)
        context = {"positions": positions, "seen": seen, "dropout": dropout}
        return in_turn(self.layers, hidden, compute=config.compute, **context)
