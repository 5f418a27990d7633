"""ELECTRA's discriminator: a BERT whose embeddings may be narrower than the layers.

Clark et al. 2020, https://arxiv.org/abs/2003.10555. The reference is transformers' ElectraModel.
"""

import dataclasses
from typing import ClassVar

from flax import nnx

from jsbert.encoders import bert
from jsbert.encoders.attention import Seen
from jsbert.encoders.heads import Head
from jsbert.encoders.layers import in_turn, linear

PREFIX = "electra."
DROPPED = (
    *bert.DROPPED,
    r"(discriminator_predictions|generator_predictions|generator_lm_head)\..+",
)
NAMES = bert.NAMES | {"project": "embeddings_project"}


@dataclasses.dataclass(frozen=True)
class Config(bert.Config):
    """ELECTRA's sizes; see `EncoderConfig`."""

    IN_TENSORS: ClassVar = (*bert.Config.IN_TENSORS, "embedding_size")

    model_type: str = "electra"
    hidden_size: int = 256
    intermediate_size: int = 1024
    num_attention_heads: int = 4
    embedding_size: int = 128


def head(config: Config) -> Head:
    """The classifier of the family's cross-encoder."""
    return Head(
        pooler="classifier.dense",
        activation="gelu",
        classifier="classifier.out_proj",
        dropped=frozenset({"pooler", "classifier"}),
    )


class Encoder(bert.Encoder):
    """The whole encoder: (B, L) ids to (B, L, D) token vectors."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        super().__init__(config, rngs)
        self.embeddings = bert.Embeddings(config, rngs, width=config.embedding_size)
        if config.embedding_size != config.hidden_size:
            self.project = linear(config, config.embedding_size, config.hidden_size, rngs)

    def __call__(self, ids, mask, token_types, positions, dropout):
        hidden = self.embeddings(ids, token_types, positions, dropout)
        if self.config.embedding_size != self.config.hidden_size:
            hidden = self.project(hidden)
        seen = Seen.of(mask, positions, self.config.compute)
        return in_turn(self.layers, hidden, compute=self.config.compute, dropout=dropout, seen=seen)
