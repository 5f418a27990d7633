"""ALBERT: a BERT whose layers share their params, and whose embeddings are narrower than the
layers.

Lan et al. 2020, https://arxiv.org/abs/1909.11942. The reference is transformers' AlbertModel.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from flax import nnx

from jsbert.encoders import bert
from jsbert.encoders.attention import Seen
from jsbert.encoders.heads import Head
from jsbert.encoders.layers import in_turn, linear
from jsbert.encoders.post_norm import Layer

PREFIX = "albert."
DROPPED = (
    r"embeddings\.(position_ids|token_type_ids)",
    r"pooler\.(weight|bias)",
    *bert.DROPPED,
    r"predictions\..+",
)

_LAYER = "encoder.albert_layer_groups.{}.albert_layers.{}"
NAMES = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "project": "encoder.embedding_hidden_mapping_in",
    "groups.{}.{}.attention.query": f"{_LAYER}.attention.query",
    "groups.{}.{}.attention.key": f"{_LAYER}.attention.key",
    "groups.{}.{}.attention.value": f"{_LAYER}.attention.value",
    "groups.{}.{}.attention.output": f"{_LAYER}.attention.dense",
    "groups.{}.{}.attention_norm": f"{_LAYER}.attention.LayerNorm",
    "groups.{}.{}.intermediate": f"{_LAYER}.ffn",
    "groups.{}.{}.output": f"{_LAYER}.ffn_output",
    "groups.{}.{}.output_norm": f"{_LAYER}.full_layer_layer_norm",
}


@dataclasses.dataclass(frozen=True)
class Config(bert.Config):
    """ALBERT's sizes; see `EncoderConfig`.

    A group is `inner_group_num` layers. A forward pass is `num_hidden_layers` runs of a
    group. The runs are spread evenly over the `num_hidden_groups` groups, in their order.
    """

    RENAMED: ClassVar = {"classifier_dropout": "classifier_dropout_prob"}
    IN_TENSORS: ClassVar = (*bert.Config.IN_TENSORS, "embedding_size")
    LAYERS: ClassVar = ("num_hidden_groups", "inner_group_num")
    DROPS_BEHIND: ClassVar = ("attention",)

    model_type: str = "albert"
    vocab_size: int = 30000
    embedding_size: int = 128
    hidden_size: int = 4096
    num_hidden_groups: int = 1
    num_attention_heads: int = 64
    intermediate_size: int = 16384
    inner_group_num: int = 1
    hidden_act: str = "gelu_new"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout: float | None = 0.1

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """See `EncoderConfig.check`."""
        super().check(values)
        layers, groups = values["num_hidden_layers"], values["num_hidden_groups"]
        if layers < groups:
            raise ValueError(f"num_hidden_groups {groups} is more than num_hidden_layers {layers}")

    @property
    def num_layers(self) -> int:
        """The number of layers that a text passes; a layer counts as often as it runs."""
        return self.num_hidden_layers * self.inner_group_num


def head(config: Config) -> Head:
    """The classifier of the family's cross-encoder."""
    return Head(pooler="albert.pooler", activation="tanh")


class Encoder(nnx.Module):
    """The whole encoder: (B, L) ids to (B, L, D) token vectors."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.embeddings = bert.Embeddings(config, rngs, width=config.embedding_size)
        self.project = linear(config, config.embedding_size, config.hidden_size, rngs)
        self.groups = nnx.List(
            [
                nnx.List([Layer(config, rngs) for _ in range(config.inner_group_num)])
                for _ in range(config.num_hidden_groups)
            ]
        )
        self.config = config

    def __call__(self, ids, mask, token_types, positions, dropout):
        config = self.config
        hidden = self.project(self.embeddings(ids, token_types, positions, dropout))
        runs = [
            i * config.num_hidden_groups // config.num_hidden_layers
            for i in range(config.num_hidden_layers)
        ]
        layers = [layer for group in runs for layer in self.groups[group]]
        seen = Seen.of(mask, positions, config.compute)
        return in_turn(layers, hidden, compute=config.compute, dropout=dropout, seen=seen)
