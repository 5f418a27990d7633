"""OpenAI's endpoints: `/v1/embeddings` and `/v1/models`."""

import time
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StrictInt, StrictStr

from jsbert.serve.answers import Json, base64_floats
from jsbert.serve.bodies import Inputs, as_list
from jsbert.serve.serving import Serving


class EmbeddingsBody(BaseModel):
    """The body of `/v1/embeddings`."""

    input: Inputs = Field(description="One text or several, each a string or token ids.")
    model: StrictStr | None = Field(None, description="The model's name; by default the first.")
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: StrictInt | None = Field(None, description="Cut to this many, and normalised.")
    user: StrictStr | None = Field(None, description="Ignored.")
    prompt_name: StrictStr | None = Field(None, description="Not of OpenAI: the prompt's name.")


def router(serving: Serving) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["OpenAI"])
    created = int(time.time())

    @routes.post("/v1/embeddings")
    async def embeddings(request: Request, body: EmbeddingsBody) -> Json:
        """Return a vector for each text: `encode`'s; with `dimensions` cut, and scaled to length
        1."""
        embedder = serving.catalogue.embedder(body.model)
        embedder.check_dimensions(body.dimensions)
        prompt = embedder.prompt(body.prompt_name)
        texts = as_list(body.input)
        tokens = await serving.tokenize(embedder, texts, field="input", prompt=prompt)
        rows = await serving.compute(request, embedder.program(prompt), tokens, field="input")
        normalize = body.dimensions is not None
        vectors = embedder.vectors(rows, dimensions=body.dimensions, normalize=normalize)
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(
                map(base64_floats, vectors) if body.encoding_format == "base64" else vectors
            )
        ]
        count = len(tokens.ids)
        answer = {
            "object": "list",
            "data": data,
            "model": embedder.name,
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }
        return Json(answer, num_truncated=len(tokens.truncated))

    @routes.get("/v1/models")
    async def models() -> Json:
        """Return the names of all models."""
        data = [
            {"id": name, "object": "model", "created": created, "owned_by": "jsbert"}
            for name in serving.catalogue.all
        ]
        return Json({"object": "list", "data": data})

    return routes
