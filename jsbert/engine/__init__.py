"""The engine: from texts to batches on devices and back. `Engine.stream` runs every pure
function."""

from typing import TYPE_CHECKING

from jsbert.lazy import lazy

if TYPE_CHECKING:
    from jsbert.engine.batching import Batch, pad, padding_share, plan
    from jsbert.engine.cache import use_compilation_cache
    from jsbert.engine.engine import Engine
    from jsbert.engine.ladder import length_ladder, num_shapes, row_ladder
    from jsbert.engine.packing import packed
    from jsbert.engine.placement import (
        Device,
        Placement,
        check_attention,
        platform_of,
        resolve_attention,
        resolve_devices,
        resolve_dtype,
    )
    from jsbert.engine.plans import Plan, plan_for
    from jsbert.engine.stream import Text, TextStream
    from jsbert.engine.truncations import OnTruncate, Truncations

__all__ = [
    "Batch",
    "Device",
    "Engine",
    "OnTruncate",
    "Placement",
    "Plan",
    "Text",
    "TextStream",
    "Truncations",
    "check_attention",
    "length_ladder",
    "num_shapes",
    "packed",
    "pad",
    "padding_share",
    "plan",
    "plan_for",
    "platform_of",
    "resolve_attention",
    "resolve_devices",
    "resolve_dtype",
    "row_ladder",
    "use_compilation_cache",
]

_PLACES = {
    "batching": ("Batch", "pad", "padding_share", "plan"),
    "cache": ("use_compilation_cache",),
    "engine": ("Engine",),
    "ladder": ("length_ladder", "num_shapes", "row_ladder"),
    "packing": ("packed",),
    "placement": (
        "Device", "Placement", "check_attention", "platform_of", "resolve_attention",
        "resolve_devices", "resolve_dtype",
    ),
    "plans": ("Plan", "plan_for"),
    "stream": ("Text", "TextStream"),
    "truncations": ("OnTruncate", "Truncations"),
}  # fmt: skip
"""The names of each module, imported at their first use: only some modules need JAX."""

__getattr__ = lazy(__name__, {name: place for place, names in _PLACES.items() for name in names})
