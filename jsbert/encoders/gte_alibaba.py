"""GTE in Alibaba's own folders: `model_type` "new", whose code is remote (Alibaba-NLP/new-impl) and
is never run here.

What is read is a GTE, and written it is transformers' "gte", which opens there without remote code.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from jsbert.checks import typed
from jsbert.encoders import gte
from jsbert.encoders.gte import DROPPED, NAMES, Encoder
from jsbert.encoders.heads import Head

__all__ = ["DROPPED", "NAMES", "PREFIX", "Config", "Encoder", "head"]

PREFIX = "new."

DEFAULTS = {
    "vocab_size": 30528,
    "max_position_embeddings": 2048,
    "pad_token_id": None,
    "rope_theta": 10000.0,
}
"""The original's values for keys that config.json leaves out, where they are not transformers'."""


class Config(gte.Config):
    """Reads the original's config.json as a `gte.Config`."""

    ONLY: ClassVar = {
        "position_embedding_type": "rope",
        "layer_norm_type": "layer_norm",
        "logn_attention_scale": False,
        "pack_qkv": True,
    }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "config.json") -> gte.Config:
        """See `EncoderConfig.from_json`. The rotary angles may be scaled by "ntk", for all lengths
        alike: with factor f and head size d, the base is f times as large, and the angles are
        divided by f ** (2/d).

        Su 2023, https://kexue.fm/archives/9706, equation 6.
        """
        scaling = typed(values, "rope_scaling", dict, {}, where=where) or {
            "type": "ntk",
            "factor": 1.0,
        }
        if scaling.get("type") != "ntk" or scaling.get("mixed_b") is not None:
            raise ValueError(
                f"{where}: rope_scaling is {scaling!r}; only type 'ntk' without mixed_b is "
                "supported"
            )
        factor = float(
            typed(scaling, "factor", float, where=f"{where}: rope_scaling", allowed=gte.FACTOR)
        )
        values = DEFAULTS | dict(values)
        rope = {"rope_type": "linear", "rope_theta": values["rope_theta"], "factor": factor}
        ours = {"model_type": "gte", "rope_scaling": None, "rope_parameters": rope}
        read = vars(super().from_json(values | ours, where=where))
        size = read["hidden_size"] // read["num_attention_heads"]
        scaled = {"rope_theta": read["rope_theta"] * factor, "rope_factor": factor ** (2 / size)}
        try:
            return gte.Config(**read | scaled)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def head(config: gte.Config) -> Head:
    """The cross-encoder's."""
    return Head(pooler="new.pooler.dense", activation="tanh")
