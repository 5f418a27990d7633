"""LangChain: vectors for its vector stores, and a reranker for retrieved documents."""

from collections.abc import Sequence
from typing import Any, Unpack

from jsbert.cross_encoder import CrossEncoder
from jsbert.integrations import needs
from jsbert.integrations.opened import bi_encoder, cross_encoder
from jsbert.sentence_transformer import SentenceTransformer, SharedOptions

with needs("langchain-core"):
    from langchain_core.callbacks import Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.embeddings import Embeddings
    from pydantic import ConfigDict, Field, field_validator


class JsbertEmbeddings(Embeddings):
    """A bi-encoder as LangChain's embeddings. Queries and documents get the model's prompts."""

    def __init__(
        self, model: SentenceTransformer | str | None = None, **options: Unpack[SharedOptions]
    ):
        """Take a model, or the name of one; `options` are those of `encode`."""
        self.model = bi_encoder(model)
        self.options = options

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of documents."""
        return self.model.encode_document(texts, **self.options).tolist()

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        return self.model.encode_query(text, **self.options).tolist()


class JsbertReranker(BaseDocumentCompressor):
    """A cross-encoder that keeps the `top_n` best of the retrieved documents, best first, with the
    score under "relevance_score" in their metadata.

    `model` is a `CrossEncoder`, or the name of one.
    """

    model: CrossEncoder
    top_n: int = Field(default=3, ge=1)
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    @field_validator("model", mode="before")
    @classmethod
    def _open(cls, model: Any) -> CrossEncoder:
        return cross_encoder(model)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return the best documents for a query."""
        texts = [document.page_content for document in documents]
        best = []
        for hit in self.model.rank(query, texts, top_k=self.top_n):
            document = documents[hit["corpus_id"]]
            metadata = document.metadata | {"relevance_score": hit["score"]}
            best.append(document.model_copy(update={"metadata": metadata}))
        return best
