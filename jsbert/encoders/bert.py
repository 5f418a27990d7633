"""BERT: every checkpoint of `model_type` "bert", such as BERT base and large, MiniLM, bge, e5, gte
(old) and LaBSE.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805. The reference is transformers' BertModel.
"""

import dataclasses
from typing import ClassVar

from flax import nnx

from jsbert.config import EncoderConfig
from jsbert.encoders.attention import Seen
from jsbert.encoders.heads import Head
from jsbert.encoders.layers import embedding, in_turn, layer_norm, vectors_of
from jsbert.encoders.post_norm import Layer

PREFIX = "bert."
"""The prefix that some checkpoints put in front of every tensor name of the encoder."""

DROPPED = (
    r"embeddings\.(position_ids|token_type_ids)",  # buffers
    r"pooler\.dense\.(weight|bias)",  # of the next-sentence head; sentence vectors do not use it
    r"(cls|classifier|qa_outputs)\..+",  # heads
)
"""Patterns of tensor names, without the prefix, that may be in a file although the encoder has no
place for them."""

NAMES = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "layers.{}.attention.query": "encoder.layer.{}.attention.self.query",
    "layers.{}.attention.key": "encoder.layer.{}.attention.self.key",
    "layers.{}.attention.value": "encoder.layer.{}.attention.self.value",
    "layers.{}.attention.output": "encoder.layer.{}.attention.output.dense",
    "layers.{}.attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "layers.{}.intermediate": "encoder.layer.{}.intermediate.dense",
    "layers.{}.output": "encoder.layer.{}.output.dense",
    "layers.{}.output_norm": "encoder.layer.{}.output.LayerNorm",
}
"""The name in checkpoints of each of our modules, without the prefix. {} is the number of the
layer."""


@dataclasses.dataclass(frozen=True)
class Config(EncoderConfig):
    """BERT's sizes; see `EncoderConfig`."""

    ONLY: ClassVar = {"position_embedding_type": "absolute", "is_decoder": False}

    model_type: str = "bert"
    type_vocab_size: int = 2


def head(config: Config) -> Head:
    """The classifier of the family's cross-encoder."""
    return Head(pooler="bert.pooler.dense", activation="tanh")


class Embeddings(nnx.Module):
    """The sum of word, position and token-type vectors, normalised. Some families have no token
    types."""

    def __init__(self, config: EncoderConfig, rngs: nnx.Rngs, *, width: int | None = None):
        width = width or config.hidden_size
        self.word = embedding(config, config.vocab_size, width, rngs)
        self.position = embedding(config, config.max_position_embeddings, width, rngs)
        num_types = getattr(config, "type_vocab_size", 0)
        self.has_types = num_types > 0
        if self.has_types:
            self.token_type = embedding(config, num_types, width, rngs)
        self.norm = layer_norm(config, width, rngs)
        self.config = config

    def __call__(self, ids, token_types, positions, dropout):
        words = vectors_of(self.word, ids)
        if self.has_types:
            words = words + (
                self.token_type.embedding[None, :1]
                if token_types is None
                else self.token_type(token_types)
            )
        places = (
            self.position.embedding[None, : words.shape[1]]
            if positions is None
            else self.position(positions)
        )
        hidden = self.norm((words + places).astype(self.config.compute.sum_dtype))
        return dropout.hidden(hidden, self.config.hidden_dropout_prob)


class Encoder(nnx.Module):
    """The whole encoder: (B, L) ids to (B, L, D) token vectors.

    Positions count from 0 at the left end of the row, even if the row begins with padding.
    """

    def __init__(self, config: EncoderConfig, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, rngs)
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.num_hidden_layers)])
        self.config = config

    def __call__(self, ids, mask, token_types, positions, dropout):
        hidden = self.embeddings(ids, token_types, positions, dropout)
        seen = Seen.of(mask, positions, self.config.compute)
        return in_turn(self.layers, hidden, compute=self.config.compute, dropout=dropout, seen=seen)
