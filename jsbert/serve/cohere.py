"""Reranking in the form that Cohere and Jina share: `/v1/rerank` and `/v2/rerank`."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr

from jsbert.serve.answers import Json
from jsbert.serve.errors import ServeError
from jsbert.serve.scores import ranked
from jsbert.serve.serving import Serving


class Document(BaseModel):
    """A document as an object; fields other than its text are ignored."""

    text: StrictStr


class RerankBody(BaseModel):
    """The body of `/v1/rerank`."""

    query: StrictStr
    documents: Annotated[list[StrictStr | Document], Field(fail_fast=True)]
    model: StrictStr | None = Field(None, description="The reranker's name; by default the first.")
    top_n: StrictInt | None = Field(None, ge=1, description="The number of results; None: all.")
    return_documents: StrictBool | None = False


def router(serving: Serving) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["Cohere and Jina"])

    @routes.post("/v2/rerank", include_in_schema=False)
    @routes.post("/v1/rerank")
    async def rerank(request: Request, body: RerankBody) -> Json:
        """Return the documents' places and scores with the query, from 0 to 1, best first."""
        scorer = serving.catalogue.scorer(body.model)
        texts = [one if isinstance(one, str) else one.text for one in body.documents]
        if not texts:
            raise ServeError("empty", "there is no document; give one", field="documents")
        found = await ranked(serving, request, scorer, body.query, texts, field="documents")
        results: list[dict[str, Any]] = [
            {"index": index, "relevance_score": score}
            | ({"document": {"text": texts[index]}} if body.return_documents else {})
            for index, score in found.order[: body.top_n]
        ]
        answer = {
            "id": str(uuid.uuid4()),
            "model": scorer.name,
            "results": results,
            "usage": {"total_tokens": found.num_tokens},
            "meta": {
                "api_version": {"version": request.url.path[2]},
                "billed_units": {"search_units": 1},
            },
        }
        return Json(answer, num_truncated=found.num_truncated)

    return routes
