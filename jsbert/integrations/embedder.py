"""What the adapters for BERTopic and KeyBERT share: both libraries have a base class of their own,
with the same methods."""

from collections.abc import Sequence
from typing import Unpack

import numpy as np
from jaxtyping import Float

from jsbert.integrations.opened import bi_encoder
from jsbert.sentence_transformer import SentenceTransformer, SharedOptions


class Embedder:
    """The methods of the libraries' `BaseEmbedder`."""

    def __init__(
        self, model: SentenceTransformer | str | None = None, **options: Unpack[SharedOptions]
    ):
        """Take a model, or the name of one; `options` are those of `encode`."""
        self.embedding_model = bi_encoder(model)
        self.word_embedding_model = None
        self.options = options

    def embed(
        self, documents: Sequence[str], verbose: bool = False
    ) -> Float[np.ndarray, "texts dim"]:
        """Return the vectors of documents or words; `verbose` shows the progress."""
        options: SharedOptions = {"show_progress_bar": verbose}
        return self.embedding_model.encode(list(documents), **options | self.options)
