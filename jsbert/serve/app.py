"""The web application: all routes behind the gate."""

import contextlib
from collections.abc import AsyncIterator

import starlette.exceptions
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from jsbert.serve import cohere, explore, openai, tei
from jsbert.serve.answers import Json
from jsbert.serve.corpus import Corpus
from jsbert.serve.errors import ServeError, form_of, of_validation
from jsbert.serve.gate import CLIENT_GONE, Gate
from jsbert.serve.metrics import CONTENT_TYPE
from jsbert.serve.page import documentation
from jsbert.serve.serving import ClientGone, Serving
from jsbert.version import VERSION

STOP_SECONDS = 2.0
"""The time that the worker has to finish what it computes, when the server ends."""


def make_app(serving: Serving, corpus: Corpus | None = None) -> ASGIApp:
    """Return the ASGI application of a server. Its start opens the models, its end stops the
    worker. `corpus` is what the page shows at its start."""

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        serving.start()
        yield
        serving.stop(STOP_SECONDS)

    app = FastAPI(
        title="jsbert serve",
        version=VERSION,
        description="Sentence embeddings and reranking.",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    for routes in (openai, tei, cohere):
        app.include_router(routes.router(serving))
    app.include_router(explore.router(serving, corpus))

    @app.get("/health", tags=["Operation"])
    async def health() -> Json:
        """Answer 200 if the server takes requests, else 503."""
        ready = serving.state == "ready"
        return Json({"status": serving.state}, status_code=200 if ready else 503)

    @app.get("/metrics", tags=["Operation"])
    async def metrics() -> Response:
        """Return the counters for Prometheus."""
        return Response(serving.metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(documentation(app.openapi()), media_type="text/html")

    _handle_errors(app)
    paths = {getattr(route, "path", "") for route in app.routes}
    gate = Gate(app, serving, paths | set(app.openapi()["paths"]) | {"/v2/rerank", "/"})
    if not serving.settings.cors:
        return gate
    return CORSMiddleware(
        gate,
        allow_origins=serving.settings.cors,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type"],
    )


def _handle_errors(app: FastAPI) -> None:
    """Make every error an answer in the API's own form."""

    def answer(request: Request, error: ServeError) -> Response:
        form = form_of(request.url.path)
        return Json(error.body(form), status_code=error.status(form), headers=error.headers())

    @app.exception_handler(ServeError)
    async def _(request: Request, error: ServeError) -> Response:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Response:
        return answer(request, of_validation(error.errors()))

    @app.exception_handler(starlette.exceptions.HTTPException)
    async def _(request: Request, error: starlette.exceptions.HTTPException) -> Response:
        if error.status_code == 404:
            return answer(request, ServeError("no path", "there is no such path; see /docs"))
        if error.status_code == 405:
            return answer(request, ServeError("method", "the path has another method; see /docs"))
        return answer(request, ServeError("malformed", "the body cannot be read"))

    @app.exception_handler(ClientGone)
    async def _(request: Request, error: ClientGone) -> Response:
        return Response(status_code=CLIENT_GONE)  # nobody receives it

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> Response:
        return answer(request, ServeError("failed", "the server failed; its log says where"))
