"""KeyBERT: `KeyBERT(model=JsbertEmbedder(model))`."""

from collections.abc import Sequence
from typing import Unpack

import numpy as np
from jaxtyping import Float

from jsbert.integrations import needs
from jsbert.integrations.opened import bi_encoder
from jsbert.sentence_transformer import SentenceTransformer, SharedOptions

with needs("keybert"):
    from keybert.backend import BaseEmbedder


class JsbertEmbedder(BaseEmbedder):
    """A bi-encoder as KeyBERT's embedding model.

    KeyBERT itself takes an object of jsbert for an unknown one, and downloads another model in its
    place.
    """

    def __init__(
        self, model: SentenceTransformer | str | None = None, **options: Unpack[SharedOptions]
    ):
        """Take a model, or the name of one; `options` are those of `encode`."""
        super().__init__(embedding_model=bi_encoder(model))
        self.options = options

    def embed(
        self, documents: Sequence[str], verbose: bool = False
    ) -> Float[np.ndarray, "texts dim"]:
        """Return the vectors of documents or words; `verbose` shows the progress."""
        options: SharedOptions = {"show_progress_bar": verbose}
        return self.embedding_model.encode(list(documents), **options | self.options)
