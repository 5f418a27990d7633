"""A corpus that is larger than memory: its rows cut into shards, and the folder with the shards'
vectors."""

from typing import TYPE_CHECKING

from jsbert.lazy import lazy

if TYPE_CHECKING:
    from jsbert.corpus.embeddings import Block, Embeddings, open_embeddings

__all__ = ["Block", "Embeddings", "open_embeddings"]

__getattr__ = lazy(__name__, dict.fromkeys(__all__, "embeddings"))
