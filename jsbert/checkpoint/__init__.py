"""Read and write model folders in the sentence-transformers layout, and find a folder by name."""

from typing import TYPE_CHECKING

from jsbert.lazy import lazy

if TYPE_CHECKING:
    from jsbert.checkpoint.adapter import merge_adapter
    from jsbert.checkpoint.classifier import (
        CrossEncoderParts,
        brings_classifier,
        is_cross_encoder,
        new_cross_encoder,
        read_cross_encoder,
    )
    from jsbert.checkpoint.find import bundled_models, find_folder
    from jsbert.checkpoint.read import BiEncoderParts, Settings, read_bi_encoder
    from jsbert.checkpoint.tensors import read_tree, write_tree
    from jsbert.checkpoint.write import write_adapter, write_bi_encoder, write_cross_encoder

__all__ = [
    "BiEncoderParts",
    "CrossEncoderParts",
    "Settings",
    "brings_classifier",
    "bundled_models",
    "find_folder",
    "is_cross_encoder",
    "merge_adapter",
    "new_cross_encoder",
    "read_bi_encoder",
    "read_cross_encoder",
    "read_tree",
    "write_adapter",
    "write_bi_encoder",
    "write_cross_encoder",
    "write_tree",
]

_PLACES = {
    "adapter": ("merge_adapter",),
    "classifier": (
        "CrossEncoderParts", "brings_classifier", "is_cross_encoder", "new_cross_encoder",
        "read_cross_encoder",
    ),
    "find": ("bundled_models", "find_folder"),
    "read": ("BiEncoderParts", "Settings", "read_bi_encoder"),
    "tensors": ("read_tree", "write_tree"),
    "write": ("write_adapter", "write_bi_encoder", "write_cross_encoder"),
}  # fmt: skip
"""The names of each module, imported at their first use: `find` needs no JAX."""

__getattr__ = lazy(__name__, {name: place for place, names in _PLACES.items() for name in names})
