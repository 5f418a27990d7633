"""Llama, Mistral and Qwen2 as embedders: decoders of one form. They differ by biases, and Mistral
by a window.

Touvron et al. 2023, https://arxiv.org/abs/2302.13971; Jiang et al. 2023,
https://arxiv.org/abs/2310.06825 (e5-mistral: Wang et al. 2023, https://arxiv.org/abs/2401.00368);
Yang et al. 2024, https://arxiv.org/abs/2407.10671. The references are transformers' LlamaModel,
MistralModel and Qwen2Model.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from jsbert.checks import POSITIVE, typed
from jsbert.config import EncoderConfig
from jsbert.encoders.grouped import DROPPED, NAMES, PREFIX, Encoder, check_heads, head
from jsbert.encoders.rope import FACTOR, LLAMA3, rope_parameters, scaled_rope

__all__ = ["DROPPED", "NAMES", "PREFIX", "Config", "Encoder", "head"]

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "mistral": {
        "intermediate_size": 14336,
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
    },
    "qwen2": {"vocab_size": 151936, "intermediate_size": 22016, "max_position_embeddings": 32768},
}
"""Where transformers' defaults differ from those of `Config`, by `model_type`."""

NOT_IN: Mapping[str, tuple[str, ...]] = {
    "llama": ("sliding_window",),
    "mistral": ("attention_bias", "mlp_bias"),
    "qwen2": ("attention_bias", "mlp_bias", "sliding_window"),
}
"""The keys of the other families, which transformers ignores."""


@dataclasses.dataclass(frozen=True)
class Config(EncoderConfig):
    """Llama's sizes; see `EncoderConfig`. Only attention has dropout.

    Attributes:
        num_key_value_heads: the number of heads of keys and values. Each serves equally many
            neighbouring heads of queries.
        head_dim: entries of a head; it need not follow from the width of the token vectors.
        rope_theta: the base of the rotary angles.
        rope_factor: the divisor of the rotary angles ("linear" scaling).
        rope_llama3: () or the four numbers of `rope.llama3_speeds` ("llama3" scaling).
        attention_bias, mlp_bias: of a Llama alone.
        sliding_window: of a Mistral alone: how many tokens a token sees, itself included.
        is_causal: whether a token sees only itself and the tokens before it.
    """

    RENAMED: ClassVar = {
        "attention_probs_dropout_prob": "attention_dropout",
        "layer_norm_eps": "rms_norm_eps",
    }
    ONLY: ClassVar = {"use_sliding_window": False}
    ALLOWED: ClassVar = {
        **EncoderConfig.ALLOWED,
        "rope_theta": POSITIVE,
        "rope_factor": FACTOR,
    }
    HAS_NORMS: ClassVar = False

    model_type: str = "llama"
    vocab_size: int = 32000
    hidden_size: int = 4096
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    head_dim: int = 128
    intermediate_size: int = 11008
    hidden_act: str = "silu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 2048
    layer_norm_eps: float = 1e-6
    pad_token_id: int | None = None
    rope_theta: float = 10000.0
    rope_factor: float = 1.0
    rope_llama3: tuple[float, ...] = ()
    attention_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = None
    is_causal: bool = True

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """See `EncoderConfig.check`."""
        super().check(values)
        check_heads(values)
        if len(values["rope_llama3"]) not in (0, len(LLAMA3)):
            raise ValueError(f"rope_llama3 is {values['rope_llama3']}; give () or {LLAMA3}")
        window = values["sliding_window"]
        if (
            window is not None
            and window < values["max_position_embeddings"]
            and not values["is_causal"]
        ):
            raise ValueError(
                f"sliding_window is {window} and is_causal False; a window is only for causal "
                "attention"
            )

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "config.json") -> EncoderConfig:
        """See `EncoderConfig.from_json`. `rope_parameters` may ask for "linear" and "llama3"
        scaling."""
        kind = values.get("model_type", cls.model_type)
        own = {**DEFAULTS[kind], **values}
        for name in NOT_IN[kind]:
            own.pop(name, None)
        others = set(typed(own, "layer_types", list[str], (), where=where)) - {"full_attention"}
        if others and kind == "qwen2":
            raise ValueError(
                f"{where}: layer_types has {sorted(others)}; only 'full_attention' is supported"
            )
        if "AutoModel" in typed(own, "auto_map", dict, {}, where=where) and "is_causal" not in own:
            raise ValueError(
                f"{where}: auto_map names code of the folder, which jsbert does not run, and in "
                "which a token may see the tokens behind it; say so in config.json: "
                '"is_causal": false if it does, true if it does not'
            )
        own |= scaled_rope(own, cls.rope_theta, where=where)
        heads = own.get("num_attention_heads", cls.num_attention_heads)
        if own.get("num_key_value_heads") is None:
            default = heads if kind == "llama" or "num_key_value_heads" in own else 32
            own["num_key_value_heads"] = default
        width = own.get("hidden_size", cls.hidden_size)
        if own.get("head_dim") is None and isinstance(width, int) and isinstance(heads, int):
            own["head_dim"] = width // max(1, heads)
        return super().from_json(own, where=where)

    def to_json(self) -> dict[str, Any]:
        """See `EncoderConfig.to_json`."""
        values = super().to_json()
        rope = [values.pop(name) for name in ("rope_theta", "rope_factor", "rope_llama3")]
        values = {
            name: value for name, value in values.items() if name not in NOT_IN[self.model_type]
        }
        return values | {"rope_parameters": rope_parameters(*rope)}

    @property
    def is_bidirectional(self) -> bool:
        """See `EncoderConfig.is_bidirectional`."""
        return not self.is_causal

    @property
    def rope(self) -> Mapping[str, Any]:
        """The keyword arguments of `rope.rotated`."""
        return {"theta": self.rope_theta, "factor": self.rope_factor, "llama3": self.rope_llama3}

    @property
    def biases(self) -> tuple[bool, bool]:
        """Whether queries, keys and values have biases, and whether the output has one."""
        return self.attention_bias or self.model_type == "qwen2", self.attention_bias

    @property
    def window(self) -> int | None:
        """The largest distance at which a token sees another; None if no text reaches it."""
        if self.sliding_window is None or self.sliding_window >= self.max_position_embeddings:
            return None
        return self.sliding_window - 1
