"""The encoder families. Adding one is a file of its own and a line in `FAMILIES`.

A family's file has: `Config` (with `from_json`, `to_json`), `forward`, `init`, `shapes`, `tensor_names`, `PREFIX`,
`DROPPED`.
"""

from collections.abc import Mapping
from types import MappingProxyType, ModuleType

from jsbert.config import EncoderConfig
from jsbert.encoders import bert

FAMILIES: Mapping[str, ModuleType] = MappingProxyType({"bert": bert})
"""The file of each supported `model_type` of config.json."""


def family(model: EncoderConfig | str) -> ModuleType:
    """The file that knows `model`, a config or a `model_type`.

    Raises:
        ValueError: for a model_type that no file here knows.
    """
    model_type = model if isinstance(model, str) else model.model_type
    if model_type not in FAMILIES:
        raise ValueError(f"unsupported model_type {model_type!r}; supported: {', '.join(sorted(FAMILIES))}")
    return FAMILIES[model_type]


def forward(config: EncoderConfig, params, ids, mask, key=None, *, token_types=None, positions=None):
    """Token vectors (B, L, D) of any family; see `encoders.bert.forward` for the contract."""
    return family(config).forward(config, params, ids, mask, key, token_types=token_types, positions=positions)
