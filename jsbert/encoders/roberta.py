"""RoBERTa, XLM-RoBERTa and CamemBERT: a BERT whose positions do not count padding.

Liu et al. 2019, https://arxiv.org/abs/1907.11692. The reference is transformers' RobertaModel.
paraphrase-multilingual-mpnet-base-v2 and bge-m3 are XLM-RoBERTas; all-distilroberta-v1 is a
RoBERTa.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jsbert.encoders import bert
from jsbert.encoders.attention import Seen
from jsbert.encoders.heads import Head
from jsbert.encoders.layers import counted_positions, in_turn

PREFIX = "roberta."
DROPPED = (*bert.DROPPED, r"lm_head\..+")
NAMES = bert.NAMES


@dataclasses.dataclass(frozen=True)
class Config(bert.Config):
    """RoBERTa's sizes; see `EncoderConfig`. The first token has the position `pad_token_id` + 1, so
    514 positions are enough for 512 tokens."""

    model_type: str = "roberta"
    vocab_size: int = 50265
    pad_token_id: int = 1

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """See `EncoderConfig.check`."""
        if values["pad_token_id"] is None:
            raise ValueError(
                "pad_token_id is null; positions are counted from it, so it must be an integer"
            )
        super().check(values)

    @property
    def max_tokens(self) -> int:
        """The number of tokens of the longest possible text. Positions count from
        `pad_token_id` + 1."""
        return self.max_position_embeddings - self.pad_token_id - 1


def head(config: Config) -> Head:
    """The classifier of the family's cross-encoder."""
    return Head(
        pooler="classifier.dense",
        activation="tanh",
        classifier="classifier.out_proj",
        dropped=frozenset({"pooler", "classifier"}),
    )


class Encoder(bert.Encoder):
    """The whole encoder: (B, L) ids to (B, L, D) token vectors."""

    def __call__(self, ids, mask, token_types, positions, dropout):
        places = counted_positions(ids, mask, positions, padding_id=self.config.pad_token_id)
        hidden = self.embeddings(ids, token_types, places, dropout)
        seen = Seen.of(mask, positions, self.config.compute)
        return in_turn(self.layers, hidden, compute=self.config.compute, dropout=dropout, seen=seen)
