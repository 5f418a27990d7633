"""KeyBERT: `KeyBERT(model=JsbertEmbedder(model))`."""

from jsbert.integrations import needs
from jsbert.integrations.embedder import Embedder

with needs("keybert"):
    from keybert.backend import BaseEmbedder


class JsbertEmbedder(Embedder, BaseEmbedder):
    """A bi-encoder as KeyBERT's embedding model.

    KeyBERT does not know the objects of jsbert. Without this adapter it downloads another model.
    """
