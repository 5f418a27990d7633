"""Static embeddings: the vector of a token does not depend on the other tokens
(sentence-transformers' StaticEmbedding, model2vec).

Tulkens & van Dongen 2024, https://github.com/MinishLab/model2vec.
"""

import dataclasses
from typing import ClassVar

from flax import nnx

from jsbert.checks import COUNT
from jsbert.config import EncoderConfig
from jsbert.encoders.heads import Head
from jsbert.encoders.layers import embedding, vectors_of
from jsbert.tokenizer import UNLIMITED

MODEL_TYPE = "static-embedding"
"""A name of our own, which no config.json holds: such a folder is recognised by modules.json."""

PREFIX = ""
DROPPED = ()
NAMES = {"word": "embedding"}


@dataclasses.dataclass(frozen=True)
class Config(EncoderConfig):
    """The sizes of the table. Only `vocab_size` and `hidden_size` have a meaning here."""

    ALLOWED: ClassVar = {
        **EncoderConfig.ALLOWED,
        "num_hidden_layers": COUNT,
        "intermediate_size": COUNT,
    }

    model_type: str = MODEL_TYPE
    num_hidden_layers: int = 0
    num_attention_heads: int = 1
    intermediate_size: int = 0
    max_position_embeddings: int = UNLIMITED

    @property
    def is_bidirectional(self) -> bool:
        """See `EncoderConfig.is_bidirectional`: no token sees another."""
        return False


def head(config: Config) -> Head:
    """Raise ValueError: static embeddings have no cross-encoder."""
    raise ValueError("static embeddings cannot be a cross-encoder: no token sees another")


class Encoder(nnx.Module):
    """(B, L) ids to (B, L, D) token vectors."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.word = embedding(config, config.vocab_size, config.hidden_size, rngs)
        self.config = config

    def __call__(self, ids, mask, token_types, positions, dropout):
        return (vectors_of(self.word, ids).astype(self.config.compute.sum_dtype),)
