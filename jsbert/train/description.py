"""A model's config as json in recipe.json, and the comparison with the config of an earlier run.

Two runs are of the same model if their configs differ only in how the model is computed, or in
fields that one of the two versions of jsbert did not have and that are at their defaults.
"""

import ast
import dataclasses
from typing import Any

from jsbert.config import CrossConfig

COMPUTING = ("compute", "dtype", "remat", "attn_implementation")
"""Fields of an encoder's config that say how it is computed: today's, and those of earlier
versions. What a run computes in is in its recipe."""

RENAMED = {"head": "modules", "ways": "routes"}
"""Names of fields in earlier versions."""


def described(value: Any) -> Any:
    """A config as json: a dict for each dataclass, its class under "kind"; a list for each
    tuple."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: described(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
        return {"kind": type(value).__name__} | fields
    return [described(entry) for entry in value] if isinstance(value, (tuple, list)) else value


def comparable(description: Any, config: Any) -> Any:
    """`description` without the fields that do not tell one run from another.

    Args:
        description: what `described` has returned, or the `repr` that earlier versions wrote.
        config: today's config of the same place, whose classes give the defaults.
    """
    if isinstance(description, str) and dataclasses.is_dataclass(config):
        try:
            description = _from_repr(ast.parse(description, mode="eval").body)
            if isinstance(config, CrossConfig):  # of which earlier versions wrote the encoder alone
                description = described(config) | {"encoder": description}
        except (SyntaxError, ValueError):
            return description
    if isinstance(description, dict) and dataclasses.is_dataclass(config):
        defaults = {field.name: described(field.default) for field in dataclasses.fields(config)}
        return {
            name: comparable(value, getattr(config, name, None))
            for name, value in description.items()
            if name not in COMPUTING and not (name in defaults and value == defaults[name])
        }
    if (
        isinstance(description, list)
        and isinstance(config, tuple)
        and len(description) == len(config)
    ):
        return [comparable(entry, now) for entry, now in zip(description, config, strict=True)]
    return description


def _from_repr(node):
    """`described` of the object whose `repr` was parsed; nothing is evaluated but literals."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        fields = {
            RENAMED.get(keyword.arg, keyword.arg): _from_repr(keyword.value)
            for keyword in node.keywords
        }
        return {"kind": node.func.id} | fields
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_from_repr(entry) for entry in node.elts]
    return ast.literal_eval(node)
