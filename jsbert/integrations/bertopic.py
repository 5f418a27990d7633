"""BERTopic: `BERTopic(embedding_model=JsbertEmbedder(model))`."""

from jsbert.integrations import needs
from jsbert.integrations.embedder import Embedder

with needs("bertopic"):
    from bertopic.backend import BaseEmbedder


class JsbertEmbedder(Embedder, BaseEmbedder):
    """A bi-encoder as BERTopic's embedding model. A topic model that holds it can be pickled.

    BERTopic does not know the objects of jsbert. Without this adapter it downloads another model.
    """
