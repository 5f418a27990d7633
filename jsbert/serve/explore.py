"""The page of `/`: a corpus to search, and a map of it; and the requests that only this page sends.

The page's files are in `static/`. They ask no other site for anything.
"""

import asyncio
import functools
import importlib.resources

import jax
import jax.numpy as jnp
import numpy as np
from fastapi import APIRouter, Request, Response
from jaxtyping import Array, Float, Int
from pydantic import BaseModel, StrictBool

from jsbert.arrays import AnyArray
from jsbert.sentence_transformer import TASK_PROMPTS
from jsbert.serve.answers import Json, base64_floats
from jsbert.serve.bodies import Strings
from jsbert.serve.corpus import Corpus
from jsbert.serve.errors import ServeError
from jsbert.serve.serving import Serving

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page/explore.css": ("explore.css", "text/css; charset=utf-8"),
    "/page/explore.js": ("explore.js", "text/javascript; charset=utf-8"),
    "/page/tables.js": ("tables.js", "text/javascript; charset=utf-8"),
    "/page/map.js": ("map.js", "text/javascript; charset=utf-8"),
}
"""The file and the type of each path that needs no key."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: nothing from outside, no code in the page itself."""

MAX_POINTS = 4096
"""The most vectors from which the axes of the map are computed."""


class PageBody(BaseModel):
    """The body of `/page/embed`."""

    texts: Strings
    query: StrictBool = False


def router(serving: Serving, corpus: Corpus | None) -> APIRouter:
    """Return the routes of the page.

    Args:
        serving: the server.
        corpus: the texts that the page shows at its start; None for none.
    """
    routes = APIRouter(include_in_schema=False)

    for path, (name, media_type) in FILES.items():
        routes.add_api_route(path, _file(name, media_type), methods=["GET", "HEAD"])

    @routes.get("/page/info")
    async def info() -> Json:
        """Return what the page has to know of the server."""
        catalogue = serving.catalogue
        if not catalogue.all:
            raise ServeError("unready", "the models are not open yet", retry_seconds=2)
        embedder = next(iter(catalogue.embedders.values()), None)
        scorer = next((s for s in catalogue.scorers.values() if len(s.labels) == 1), None)
        return Json(
            {
                "model": None if embedder is None else embedder.name,
                "dimension": None if embedder is None else embedder.dimension,
                "max_tokens": None if embedder is None else embedder.max_tokens,
                "reranker": None if scorer is None else scorer.name,
                "truncates": serving.settings.truncate,
                "max_texts": serving.settings.max_request_texts,
                "max_body_bytes": serving.settings.max_body_bytes,
                "corpus": None if corpus is None else corpus.name,
            }
        )

    @routes.get("/page/corpus")
    async def texts() -> Json:
        """Return the texts of the page's start."""
        if corpus is None:
            raise ServeError("no path", "the server was started without --corpus")
        return Json({"name": corpus.name, "texts": corpus.texts})

    @routes.post("/page/embed")
    async def embed(request: Request, body: PageBody) -> Json:
        """Return vectors of length 1 as base64 of float32, and which texts were cut."""
        embedder = serving.catalogue.embedder()
        names = TASK_PROMPTS["query" if body.query else "document"]
        prompt = next((embedder.prompts[n] for n in names if n in embedder.prompts), "")
        tokens = await serving.tokenize(embedder, body.texts, field="texts", prompt=prompt)
        rows = await serving.compute(request, embedder.program(prompt), tokens, field="texts")
        vectors = embedder.vectors(rows, dimensions=None, normalize=True)
        return Json(
            {"vectors": base64_floats(vectors), "truncated": [int(i) for i in tokens.truncated]}
        )

    @routes.post("/page/axes")
    async def axes(request: Request) -> Json:
        """Return the mean (D,) and the two main axes (2, D) of vectors, as base64 of float32.

        The body is the vectors as float32, row by row.
        """
        dimension = serving.catalogue.embedder().dimension
        body = await request.body()
        vectors = np.frombuffer(body[: len(body) // 4 * 4], "<f4")
        if not len(vectors) or len(body) % (4 * dimension):
            raise ServeError(
                "malformed", f"the body must hold rows of {dimension} numbers, in float32"
            )
        vectors = vectors.reshape(-1, dimension)
        if len(vectors) > MAX_POINTS:
            raise ServeError("too much", f"{len(vectors)} vectors; at most {MAX_POINTS} are taken")
        if not np.isfinite(vectors).all():
            raise ServeError("invalid", "a number is not finite")
        loop = asyncio.get_running_loop()
        mean, found = await loop.run_in_executor(None, _main_axes, vectors)
        return Json({"mean": base64_floats(mean), "axes": base64_floats(found)})

    return routes


def _file(name, media_type):
    @functools.cache
    def content() -> bytes:
        return (importlib.resources.files("jsbert.serve") / "static" / name).read_bytes()

    async def file() -> Response:
        headers = {
            "content-security-policy": POLICY,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-cache",
        }
        return Response(content(), media_type=media_type, headers=headers)

    return file


def _main_axes(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `main_axes` of any number of vectors with one program: rows of weight 0 fill up."""
    padded = np.zeros((MAX_POINTS, vectors.shape[1]), np.float32)
    padded[: len(vectors)] = vectors
    mean, axes = main_axes(padded, len(vectors))
    return np.asarray(mean), np.asarray(axes)


@jax.jit
def main_axes(
    vectors: Float[AnyArray, "rows dim"], count: Int[AnyArray, ""] | int
) -> tuple[Float[Array, " dim"], Float[Array, "2 dim"]]:
    """Return the mean and the two main axes (PCA) of the first `count` vectors.

    An axis has length 1, and its largest entry is positive.
    """
    weights = (jnp.arange(len(vectors)) < count).astype(vectors.dtype)
    mean = weights @ vectors / count
    centred = (vectors - mean[None]) * weights[:, None]
    covariance = jnp.matmul(centred.T, centred, precision="highest") / count
    _, columns = jnp.linalg.eigh(covariance)
    axes = columns[:, -1:-3:-1].T
    largest = jnp.take_along_axis(axes, jnp.abs(axes).argmax(axis=1, keepdims=True), axis=1)
    return mean, axes * jnp.sign(largest)
