"""LlamaIndex: vectors for its indices, and a reranker for retrieved nodes."""

import asyncio
from typing import Any

from jsbert.cross_encoder import CrossEncoder
from jsbert.integrations import needs
from jsbert.integrations.opened import bi_encoder, cross_encoder
from jsbert.sentence_transformer import SentenceTransformer

with needs("llama-index-core"):
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
    from llama_index.core.embeddings import BaseEmbedding
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle


class JsbertEmbedding(BaseEmbedding):
    """A bi-encoder as LlamaIndex's embedding model. Queries and texts get the model's prompts.

    `model` is a model or the name of one; `model_name` is another way to give the name.
    `encode_options` are options of `encode`.
    """

    encode_options: dict[str, Any] = Field(default_factory=dict)
    embed_batch_size: int = Field(default=2048, gt=0, le=2048)  # jsbert makes its own batches
    _model: SentenceTransformer = PrivateAttr()

    def __init__(
        self,
        model: SentenceTransformer | str | None = None,
        model_name: str | None = None,
        **fields: Any,
    ):
        name = model if isinstance(model, str) else model_name
        super().__init__(
            model_name=name or ("jsbert-mini-en" if model is None else "unknown"), **fields
        )
        self._model = bi_encoder(name if model is None else model)

    @classmethod
    def class_name(cls) -> str:
        """The name in what LlamaIndex writes."""
        return "JsbertEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._model.encode_query(query, **self.encode_options).tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._model.encode_document(texts, **self.encode_options).tolist()

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class JsbertRerank(BaseNodePostprocessor):
    """A cross-encoder that keeps the `top_n` best of the retrieved nodes, best first.

    `model` is a `CrossEncoder`, or the name of one.
    """

    top_n: int = Field(default=3, ge=1)
    _model: CrossEncoder = PrivateAttr()

    def __init__(self, model: CrossEncoder | str, **fields: Any):
        super().__init__(**fields)
        self._model = cross_encoder(model)

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("a reranker needs the query; give query_str or query_bundle")
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        hits = self._model.rank(query_bundle.query_str, texts, top_k=self.top_n)
        return [
            NodeWithScore(node=nodes[hit["corpus_id"]].node, score=hit["score"]) for hit in hits
        ]
