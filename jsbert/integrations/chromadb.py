"""Chroma: `client.create_collection(name, embedding_function=JsbertEmbeddingFunction())`."""

from typing import Any

import numpy as np

from jsbert.integrations import needs
from jsbert.integrations.opened import bi_encoder, checked_name

with needs("chromadb"):
    from chromadb import Documents, EmbeddingFunction
    from chromadb.api.types import Space
    from chromadb.utils.embedding_functions import register_embedding_function


@register_embedding_function
class JsbertEmbeddingFunction(EmbeddingFunction[Documents]):
    """A bi-encoder as Chroma's embedding function, saved in a collection by name and options."""

    def __init__(self, model: str | None = None, **options: Any):
        """Take the name of a model, and options of its constructor, which json can hold."""
        self.model = checked_name(model)
        self.options = options

    def __call__(self, input: Documents) -> list[np.ndarray]:
        """Return the vectors of documents."""
        return list(bi_encoder(self.model, self.options).encode_document(input))

    def embed_query(self, input: Documents) -> list[np.ndarray]:
        """Return the vectors of queries."""
        return list(bi_encoder(self.model, self.options).encode_query(input))

    @staticmethod
    def name() -> str:
        """The name in a collection's configuration."""
        return "jsbert"

    def default_space(self) -> Space:
        """The distance of a collection that does not say another."""
        return "cosine"

    def get_config(self) -> dict[str, Any]:
        """Return name and options."""
        return {"model": self.model, "options": self.options}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> "JsbertEmbeddingFunction":
        """Make the function again from `get_config`."""
        return JsbertEmbeddingFunction(config["model"], **config["options"])
