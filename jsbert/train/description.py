"""Describe a model's config as json for recipe.json, and compare it with that of an earlier run.

Two configs describe the same model if they differ only in how the model is computed, or in fields
that one of the two versions of jsbert did not have and that have their default.
"""

import ast
import dataclasses
from typing import Any

from jsbert.config import CrossConfig

COMPUTING = ("compute", "dtype", "remat", "attn_implementation")
"""The fields of an encoder's config that say how it is computed: today's field, and the fields of
earlier versions. The recipe of a run says how the run is computed."""

RENAMED = {"head": "modules", "ways": "routes"}
"""The names of fields in earlier versions, and their names today."""


def described(value: Any) -> Any:
    """A config as json: a dict for each dataclass, with the class name under "kind", and a list for
    each tuple."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: described(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
        return {"kind": type(value).__name__} | fields
    return [described(entry) for entry in value] if isinstance(value, (tuple, list)) else value


def comparable(description: Any, config: Any) -> Any:
    """`description` without the fields in which two descriptions of the same model may differ.

    Args:
        description: the result of `described`, or the `repr` of a config that earlier versions
            wrote.
        config: today's config of the model. Its classes give the defaults of fields.
    """
    if isinstance(description, str) and dataclasses.is_dataclass(config):
        try:
            description = _from_repr(ast.parse(description, mode="eval").body)
            # Of a cross-encoder earlier versions wrote only the config of the encoder.
            if isinstance(config, CrossConfig):
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
    """`described` of the object whose `repr` was parsed. Only literals are evaluated."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        fields = {
            RENAMED.get(keyword.arg, keyword.arg): _from_repr(keyword.value)
            for keyword in node.keywords
        }
        return {"kind": node.func.id} | fields
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_from_repr(entry) for entry in node.elts]
    return ast.literal_eval(node)
