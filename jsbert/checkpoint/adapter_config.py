"""Read an adapter_config.json: which modules PEFT's LoRA changes, and by how much.

The reference is LoraConfig of peft 0.21. Names of modules are those of the torch model that peft
wrapped.
"""

import dataclasses
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jsbert.checks import SIZE, Allowed, Range, shown, typed
from jsbert.json_files import read_json

CONFIG = "adapter_config.json"

LEFT_ASIDE = frozenset(
    {"peft_type", "init_lora_weights"}  # checked separately
    | {
        "base_model_name_or_path",
        "revision",
        "auto_mapping",
        "peft_version",
        "task_type",
        "inference_mode",
    }
    | {
        "lora_dropout",
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "runtime_config",
    }
    | {"megatron_core", "qalora_group_size"}  # without effect unless megatron_config, use_qalora
    | {
        "fan_in_fan_out",
        "ensure_weight_tying",
    }  # torch's linear layers have one layout; no encoder ties weights
)
"""Fields that are ignored: they say who made the adapter and how, not what it computes."""

STARTS = (True, False, None, "gaussian", "orthogonal", "eva", "mica")
"""The values of init_lora_weights with which peft does not change the base model's weights."""


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """The fields of LoraConfig that determine what is computed, with peft's defaults."""

    r: int = 8
    lora_alpha: float = 8
    rank_pattern: Mapping[str, int] = dataclasses.field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = dataclasses.field(default_factory=dict)
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    bias: str = "none"
    target_modules: str | Sequence[str] = ()
    exclude_modules: str | Sequence[str] = ()
    modules_to_save: Sequence[str] = ()
    layers_to_transform: int | Sequence[int] = ()
    layers_pattern: str | Sequence[str] = ()

    def is_target(self, module: str, *, is_linear: bool) -> bool:
        """Whether a module has low-rank matrices."""
        if _is_named(self.exclude_modules, module):
            return False
        if any(re.match(rf"(.*\.)?({saved})(\..*)?$", module) for saved in self.modules_to_save):
            return False
        if isinstance(self.target_modules, str):
            is_all = self.target_modules.lower() == "all-linear"
            return is_linear if is_all else _is_named(self.target_modules, module)
        # A module listed by its whole name is a target in whichever layer it is.
        return module in self.target_modules or (
            _is_named(self.target_modules, module) and self._is_in_layers(module)
        )

    def is_saved(self, module: str) -> bool:
        """Whether the adapter holds all tensors of a module, trained with the adapter."""
        ends = [dot.start() for dot in re.finditer(r"\.|$", module)]
        return any(module[:end].endswith(saved) for end in ends for saved in self.modules_to_save)

    def has_bias(self, is_target: bool) -> bool:
        """Whether the adapter holds the biases of targets, or those of other modules."""
        return self.bias == "all" or (self.bias == "lora_only" and is_target)

    def rank(self, module: str) -> int:
        """The rank of the matrices of a module."""
        return _by_pattern(self.rank_pattern, module, self.r)

    def scale(self, module: str) -> float:
        """The factor of the product of the matrices."""
        alpha, rank = _by_pattern(self.alpha_pattern, module, self.lora_alpha), self.rank(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def _is_in_layers(self, module):
        if not _as_list(self.layers_to_transform):
            return True
        # The number of the layer is the first number behind a pattern; without patterns, the first
        # number behind two names.
        starts = [rf"(?:.*?\.)?{pattern}" for pattern in _as_list(self.layers_pattern)] or [
            r".*?\.[^.]*"
        ]
        found = [
            match for start in starts if (match := re.match(rf"{start}\.(?P<layer>\d+)\.", module))
        ]
        return bool(found) and int(found[0]["layer"]) in _as_list(self.layers_to_transform)


def read_adapter_config(folder: pathlib.Path) -> AdapterConfig:
    """Read the adapter_config.json of a folder.

    Raises:
        OSError: if the file is not there.
        ValueError: if the file is broken, or asks for something that is not supported; the message
            names the field.
    """
    file = folder / CONFIG
    values = read_json(file)
    if values.get("peft_type") != "LORA":
        raise ValueError(
            f"{file}: peft_type is {values.get('peft_type')!r}; only 'LORA' is supported"
        )
    if values.get("init_lora_weights", True) not in STARTS:
        raise ValueError(
            f"{file}: init_lora_weights is {values['init_lora_weights']!r}, by which peft changes "
            "the base model's "
            "weights; save the adapter with peft's path_initial_model_for_weight_conversion, which "
            "makes a plain one"
        )
    for name, value in values.items():
        if value and name not in LEFT_ASIDE | TYPES.keys():
            raise ValueError(
                f"{file}: {name} is {shown(value)}, which jsbert does not compute; merge the "
                "adapter with peft's merge_and_unload, and save the model"
            )
    given = {
        name: typed(values, name, kind, None, where=file, allowed=ALLOWED.get(name))
        for name, kind in TYPES.items()
    }
    config = AdapterConfig(**{name: value for name, value in given.items() if value is not None})
    _check(config, file)
    return config


TYPES: Mapping[str, Any] = {
    "r": int,
    "lora_alpha": float,
    "rank_pattern": dict[str, int],
    "alpha_pattern": dict[str, float],
    "use_rslora": bool,
    "use_dora": bool,
    "lora_bias": bool,
    "bias": str,
    "target_modules": str | list[str],
    "exclude_modules": str | list[str],
    "modules_to_save": list[str],
    "layers_to_transform": int | list[int],
    "layers_pattern": str | list[str],
}
"""The type in json of each field of `AdapterConfig`."""

ALPHA = Range(-1e30, 1e30, "a number from -1e30 to 1e30")

ALLOWED: Mapping[str, Allowed] = {
    "r": SIZE,
    "rank_pattern": SIZE,
    "lora_alpha": ALPHA,
    "alpha_pattern": ALPHA,
    "bias": ("none", "all", "lora_only"),
}
"""The allowed values of fields; for a dict, of each of its values."""


def _check(config, file):
    whole = [
        names for names in (config.target_modules, config.exclude_modules) if isinstance(names, str)
    ]
    for pattern in (
        *whole,
        *config.modules_to_save,
        *config.rank_pattern,
        *config.alpha_pattern,
        *_as_list(config.layers_pattern),
    ):
        try:
            re.compile(pattern)
            re.compile(rf"(.*\.)?(?P<layer>{pattern})(\..*)?$")  # inside parentheses, as used
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"{file}: {pattern!r} is no regular expression: {error}") from None


def _is_named(names, module):
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return module in names or any(module.endswith(f".{name}") for name in names)


def _by_pattern(values, module, default):
    return next(
        (value for pattern, value in values.items() if re.match(rf"(.*\.)?({pattern})$", module)),
        default,
    )


def _as_list(value):
    return [value] if isinstance(value, (int, str)) and value != "" else list(value)
