"""Haystack: components for queries, documents and ranking. They are saved by name and options."""

import inspect
from dataclasses import replace
from typing import Any

from jsbert.integrations import needs
from jsbert.integrations.opened import bi_encoder, checked_name, cross_encoder

with needs("haystack-ai"):
    from haystack import Document, component, default_from_dict, default_to_dict

Options = dict[str, Any] | None


class _Saved:
    """A component whose arguments are its attributes."""

    def to_dict(self) -> dict[str, Any]:
        """Return class and arguments, for a pipeline's file."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return default_to_dict(self, **{name: getattr(self, name) for name in names})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """Make the component again from `to_dict`."""
        return default_from_dict(cls, data)


@component
class JsbertTextEmbedder(_Saved):
    """Turns a query into a vector."""

    def __init__(
        self,
        model: str | None = None,
        model_options: Options = None,
        encode_options: Options = None,
    ):
        """Take the name of a model, options of its constructor and options of `encode`."""
        self.model = checked_name(model)
        self.model_options = model_options
        self.encode_options = encode_options

    def warm_up(self) -> None:
        """Open the model."""
        bi_encoder(self.model, self.model_options)

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """Return the vector of a query under "embedding"."""
        model = bi_encoder(self.model, self.model_options)
        return {"embedding": model.encode_query(text, **self.encode_options or {}).tolist()}


@component
class JsbertDocumentEmbedder(_Saved):
    """Adds vectors to documents."""

    def __init__(
        self,
        model: str | None = None,
        model_options: Options = None,
        encode_options: Options = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ):
        """Take the same as `JsbertTextEmbedder`, and the fields of a document's meta that are put
        in front of its content."""
        self.model = checked_name(model)
        self.model_options = model_options
        self.encode_options = encode_options
        self.meta_fields_to_embed = meta_fields_to_embed
        self.embedding_separator = embedding_separator

    def warm_up(self) -> None:
        """Open the model."""
        bi_encoder(self.model, self.model_options)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Return copies of the documents, with vectors, under "documents"."""
        model = bi_encoder(self.model, self.model_options)
        texts = []
        for document in documents:
            fields = [document.meta.get(name) for name in self.meta_fields_to_embed or []]
            parts = [*(str(field) for field in fields if field is not None), document.content or ""]
            texts.append(self.embedding_separator.join(parts))
        vectors = model.encode_document(texts, **self.encode_options or {}).tolist()
        pairs = zip(documents, vectors, strict=True)
        return {"documents": [replace(document, embedding=vector) for document, vector in pairs]}


@component
class JsbertRanker(_Saved):
    """Sorts documents by a cross-encoder's score."""

    def __init__(self, model: str, model_options: Options = None, top_k: int = 10):
        """Take the name of a cross-encoder, options of its constructor, and how many documents to
        keep."""
        self.model = checked_name(model)
        self.model_options = model_options
        self.top_k = top_k

    def warm_up(self) -> None:
        """Open the model."""
        cross_encoder(self.model, self.model_options)

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Return the best documents, best first and with their scores, under "documents"."""
        model = cross_encoder(self.model, self.model_options)
        texts = [document.content or "" for document in documents]
        hits = model.rank(query, texts, top_k=top_k or self.top_k)
        best = [replace(documents[hit["corpus_id"]], score=hit["score"]) for hit in hits]
        return {"documents": best}
