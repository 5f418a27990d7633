"""Qwen3 as an embedder: a decoder. A token sees only itself and the tokens before it, so the vector
of the last token is the vector of the text.

Yang et al. 2025, https://arxiv.org/abs/2505.09388, and Zhang et al. 2025,
https://arxiv.org/abs/2506.05176 (Qwen3-Embedding). The reference is transformers' Qwen3Model.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from jsbert.checks import POSITIVE, typed
from jsbert.config import EncoderConfig
from jsbert.encoders import grouped
from jsbert.encoders.grouped import DROPPED, PREFIX, Encoder, check_heads, head
from jsbert.encoders.rope import theta_of

__all__ = ["DROPPED", "NAMES", "PREFIX", "Config", "Encoder", "head"]

NAMES = {
    **grouped.NAMES,
    "layers.{}.attention.query_norm": "layers.{}.self_attn.q_norm",
    "layers.{}.attention.key_norm": "layers.{}.self_attn.k_norm",
}


@dataclasses.dataclass(frozen=True)
class Config(EncoderConfig):
    """Qwen3's sizes; see `EncoderConfig`. Only attention has dropout.

    Attributes:
        num_key_value_heads: the number of heads of keys and values. Each serves equally many
            neighbouring heads of queries.
        head_dim: entries of a head; it need not follow from the width of the token vectors.
    """

    RENAMED: ClassVar = {
        "attention_probs_dropout_prob": "attention_dropout",
        "layer_norm_eps": "rms_norm_eps",
    }
    ONLY: ClassVar = {"use_sliding_window": False, "is_causal": True}
    ALLOWED: ClassVar = {**EncoderConfig.ALLOWED, "rope_theta": POSITIVE}
    HAS_NORMS: ClassVar = True
    is_causal: ClassVar = True
    mlp_bias: ClassVar = False
    window: ClassVar = None

    model_type: str = "qwen3"
    vocab_size: int = 151936
    hidden_size: int = 4096
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    head_dim: int = 128
    intermediate_size: int = 22016
    hidden_act: str = "silu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 32768
    layer_norm_eps: float = 1e-6
    pad_token_id: int | None = None
    rope_theta: float = 10000.0
    attention_bias: bool = False

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """See `EncoderConfig.check`."""
        super().check(values)
        check_heads(values)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "config.json") -> EncoderConfig:
        """See `EncoderConfig.from_json`. `rope_theta` is in `rope_parameters`; in older files it is
        a key of its own, next to `rope_scaling`."""
        others = set(typed(values, "layer_types", list[str], (), where=where)) - {"full_attention"}
        if others:
            raise ValueError(
                f"{where}: layer_types has {sorted(others)}; only 'full_attention' is supported"
            )
        key = "rope_scaling" if values.get("rope_scaling") else "rope_parameters"
        theta = theta_of(
            values.get(key), values.get("rope_theta", cls.rope_theta), where=f"{where}: {key}"
        )
        values = {**values, "rope_theta": theta}
        if values.get("num_key_value_heads", 0) is None:
            values["num_key_value_heads"] = values.get(
                "num_attention_heads", cls.num_attention_heads
            )
        return super().from_json(values, where=where)

    def to_json(self) -> dict[str, Any]:
        """See `EncoderConfig.to_json`. `rope_theta` is written in both places."""
        return super().to_json() | {
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta}
        }

    @property
    def is_bidirectional(self) -> bool:
        """See `EncoderConfig.is_bidirectional`."""
        return False

    @property
    def rope(self) -> Mapping[str, Any]:
        """The keyword arguments of `rope.rotated`."""
        return {"theta": self.rope_theta}

    @property
    def biases(self) -> tuple[bool, bool]:
        """Whether queries, keys and values have biases, and whether the output has one."""
        return self.attention_bias, self.attention_bias
