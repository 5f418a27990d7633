"""DistilBERT: a BERT without token types, whose keys and tensors have other names.

Sanh et al. 2019, https://arxiv.org/abs/1910.01108. The reference is transformers' DistilBertModel.
distiluse-base-multilingual-cased is a DistilBERT with a Dense behind the pooling.
"""

import dataclasses
from typing import ClassVar

from jsbert.config import EncoderConfig
from jsbert.encoders import bert
from jsbert.encoders.heads import Head

PREFIX = "distilbert."
DROPPED = (
    r"embeddings\.position_ids",
    r"(vocab_transform|vocab_layer_norm|vocab_projector|pre_classifier|classifier|qa_outputs)\..+",
)

NAMES = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "layers.{}.attention.query": "transformer.layer.{}.attention.q_lin",
    "layers.{}.attention.key": "transformer.layer.{}.attention.k_lin",
    "layers.{}.attention.value": "transformer.layer.{}.attention.v_lin",
    "layers.{}.attention.output": "transformer.layer.{}.attention.out_lin",
    "layers.{}.attention_norm": "transformer.layer.{}.sa_layer_norm",
    "layers.{}.intermediate": "transformer.layer.{}.ffn.lin1",
    "layers.{}.output": "transformer.layer.{}.ffn.lin2",
    "layers.{}.output_norm": "transformer.layer.{}.output_layer_norm",
}

Encoder = bert.Encoder


@dataclasses.dataclass(frozen=True)
class Config(EncoderConfig):
    """DistilBERT's sizes; see `EncoderConfig`."""

    RENAMED: ClassVar = {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "classifier_dropout": "seq_classif_dropout",
    }
    DROPS_BEHIND: ClassVar = ("output",)

    model_type: str = "distilbert"
    num_hidden_layers: int = 6
    classifier_dropout: float | None = 0.2


def head(config: Config) -> Head:
    """The classifier of the family's cross-encoder."""
    return Head(pooler="pre_classifier", activation="relu")
