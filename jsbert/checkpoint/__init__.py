"""Read and write model folders in the sentence-transformers layout, and find a folder by name."""

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
