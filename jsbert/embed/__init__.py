"""Embed a corpus that is larger than memory into a folder of shards, by this process, by several,
or by Ray."""

from typing import TYPE_CHECKING

from jsbert.lazy import lazy

if TYPE_CHECKING:
    from jsbert.embed.run import embed_corpus

__all__ = ["embed_corpus"]

__getattr__ = lazy(__name__, {"embed_corpus": "run"})
