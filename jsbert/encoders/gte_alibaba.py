"""GTE in Alibaba's own folders: `model_type` "new".

transformers opens such a folder only with remote code (Alibaba-NLP/new-impl); jsbert never runs it.
jsbert reads the folder as a GTE, and writes it with the `model_type` "gte", which transformers
opens without remote code.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from jsbert.checks import typed
from jsbert.encoders import gte
from jsbert.encoders.gte import DROPPED, NAMES, Encoder
from jsbert.encoders.heads import Head
from jsbert.encoders.rope import FACTOR

__all__ = ["DROPPED", "NAMES", "PREFIX", "Config", "Encoder", "head"]

PREFIX = "new."

DEFAULTS = {
    "vocab_size": 30528,
    "max_position_embeddings": 2048,
    "pad_token_id": None,
    "rope_theta": 10000.0,
}
"""The defaults of the remote code, for keys whose default in transformers is another."""


class Config(gte.Config):
    """Reads a config.json of `model_type` "new" as a `gte.Config`."""

    ONLY: ClassVar = {
        "position_embedding_type": "rope",
        "layer_norm_type": "layer_norm",
        "logn_attention_scale": False,
        "pack_qkv": True,
    }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str = "config.json") -> gte.Config:
        """See `EncoderConfig.from_json`. `rope_scaling` may be of type "ntk". With factor f and
        head size d, the base of the rotary angles is then multiplied by f, and the angles are
        divided by f ** (2/d), for texts of every length.

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
            typed(scaling, "factor", float, where=f"{where}: rope_scaling", allowed=FACTOR)
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
    """The classifier of the family's cross-encoder."""
    return Head(pooler="new.pooler.dense", activation="tanh")
