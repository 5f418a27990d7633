"""MPNet: a RoBERTa without token types. Every attention adds a bias for the distance of two tokens.

Song et al. 2020, https://arxiv.org/abs/2004.09297. The reference is transformers' MPNetModel.
all-mpnet-base-v2 and multi-qa-mpnet-base-dot-v1 are MPNets.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx

from jsbert.config import EncoderConfig
from jsbert.encoders import bert
from jsbert.encoders.attention import Seen
from jsbert.encoders.distances import distance_buckets
from jsbert.encoders.heads import Head
from jsbert.encoders.layers import counted_positions, embedding, in_turn
from jsbert.encoders.post_norm import Layer

PREFIX = "mpnet."
DROPPED = (*bert.DROPPED, r"lm_head\..+")

NAMES = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "distances": "encoder.relative_attention_bias",
    "layers.{}.attention.query": "encoder.layer.{}.attention.attn.q",
    "layers.{}.attention.key": "encoder.layer.{}.attention.attn.k",
    "layers.{}.attention.value": "encoder.layer.{}.attention.attn.v",
    "layers.{}.attention.output": "encoder.layer.{}.attention.attn.o",
    "layers.{}.attention_norm": "encoder.layer.{}.attention.LayerNorm",
    "layers.{}.intermediate": "encoder.layer.{}.intermediate.dense",
    "layers.{}.output": "encoder.layer.{}.output.dense",
    "layers.{}.output_norm": "encoder.layer.{}.output.LayerNorm",
}

PADDING_ID = 1
"""The position of padding; the first token has the next one. The reference uses this number,
whatever its config says."""

BUCKETS, FARTHEST = 32, 128
"""The number of buckets of distances, and the distance at which the last bucket has begun. The
reference uses 32 buckets, whatever its config says."""


@dataclasses.dataclass(frozen=True)
class Config(EncoderConfig):
    """MPNet's sizes; see `EncoderConfig`."""

    ONLY: ClassVar = {"relative_attention_num_buckets": BUCKETS}

    model_type: str = "mpnet"
    vocab_size: int = 30527
    pad_token_id: int | None = 1

    @property
    def max_tokens(self) -> int:
        """The number of tokens of the longest possible text. Positions count from
        `PADDING_ID` + 1."""
        return self.max_position_embeddings - PADDING_ID - 1

    @property
    def classifier_rate(self) -> float:
        """See `EncoderConfig.classifier_rate`. The reference ignores `classifier_dropout`."""
        return self.hidden_dropout_prob


def head(config: Config) -> Head:
    """The classifier of the family's cross-encoder."""
    return Head(
        pooler="classifier.dense",
        activation="tanh",
        classifier="classifier.out_proj",
        dropped=frozenset({"pooler", "classifier"}),
    )


class Encoder(nnx.Module):
    """The whole encoder: (B, L) ids to (B, L, D) token vectors."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.embeddings = bert.Embeddings(config, rngs)
        self.distances = embedding(config, BUCKETS, config.num_attention_heads, rngs)
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.num_hidden_layers)])
        self.config = config

    def __call__(self, ids, mask, token_types, positions, dropout):
        columns = jnp.arange(ids.shape[1])[None]
        buckets = distance_buckets(columns, num_buckets=BUCKETS, farthest=FARTHEST)
        of_distance = self.distances(buckets).transpose(0, 3, 1, 2)  # (1, H, L, L)
        places = counted_positions(ids, mask, positions, padding_id=PADDING_ID)
        hidden = self.embeddings(ids, None, places, dropout)
        context = {"seen": Seen.of(mask, positions, self.config.compute), "bias": of_distance}
        return in_turn(self.layers, hidden, compute=self.config.compute, dropout=dropout, **context)
