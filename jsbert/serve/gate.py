"""The door of the server: every request is counted, let in or refused, and read within limits,
before a route sees it; and every error leaves in the API's own form."""

import asyncio
import contextlib
import hmac
import logging
import time
import traceback
from collections.abc import AsyncIterator, Collection
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jsbert.serve.errors import ServeError, form_of
from jsbert.serve.explore import FILES
from jsbert.serve.serving import ClientGone, Serving

logger = logging.getLogger("jsbert.serve")

OPEN = ("/health", "/docs", "/openapi.json", *FILES)
"""The paths that need no key: they show nothing of what clients sent."""

CLIENT_GONE = 499
"""The status that is counted for a request whose client went away; nobody receives it."""


DISCARDED = 8
"""How much of a body is read before the server stops reading, in units of the allowed size."""


class Gate:
    """ASGI middleware. In this order it checks the key, whether the server is ready, whether the
    queue has room, and size and time of the body.

    Nothing that a client sent is logged. An error that was not foreseen is logged as its type and
    its place, because its message could hold a text.
    """

    def __init__(self, app: ASGIApp, serving: Serving, routes: Collection[str]):
        """Wrap `app`.

        Args:
            app: gets the requests that are let in, with their whole body.
            serving: the server.
            routes: the paths that exist. All others are counted as "other".
        """
        self._app, self._serving, self._routes = app, serving, frozenset(routes)
        self._keys = [key.encode() for key in serving.settings.keys]
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, path = time.perf_counter(), scope["path"]
        answer = _Answer(send)
        try:
            await self._answer(scope, receive, answer)
        except ClientGone:
            self._serving.metrics.count_dropped()
            answer.status = CLIENT_GONE
        except Exception as error:
            if not isinstance(error, ServeError):
                place = traceback.extract_tb(error.__traceback__)[-1]
                logger.error(
                    "%s in %s, line %s", type(error).__name__, place.filename, place.lineno
                )
                error = ServeError("failed", "the server failed; its log says where")
            await answer.refuse(error, path)
        finally:
            route = path if path in self._routes else "other"
            seconds = time.perf_counter() - started
            self._serving.metrics.count_request(route, answer.status, seconds)

    async def _answer(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        is_open = scope["path"] in OPEN and scope["method"] in ("GET", "HEAD")
        if not is_open:
            self._check_key(scope)
        if scope["method"] != "POST":
            await self._app(scope, receive, answer.send)
            return
        serving = self._serving
        serving.check_ready()
        serving.check_room()
        async with self._body(scope, receive) as body:
            serving.check_ready()  # again: reading takes as long as the client wants
            serving.num_working += 1
            try:
                await self._app(scope, _replayed(body, receive), answer.send)
            finally:
                serving.num_working -= 1

    def _check_key(self, scope: Scope) -> None:
        if not self._keys:
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = given.partition(b" ")
        # Compare with every key, each in constant time, so that the time tells nothing.
        matches = [hmac.compare_digest(key.strip(), one) for one in self._keys]
        if scheme.lower() != b"bearer" or not any(matches):
            raise ServeError(
                "unauthorized", "give a valid key in the header 'Authorization: Bearer KEY'"
            )

    @contextlib.asynccontextmanager
    async def _body(self, scope: Scope, receive: Receive) -> AsyncIterator[bytes]:
        """Read the body. It counts as held until the context ends.

        Raises:
            ServeError: if the body is too large or comes too slowly, or if all bodies together are
                too large.
            ClientGone: if the client went away.
        """
        settings, chunks, held = self._serving.settings, [], 0
        # A client that waits for permission to send is refused before it sends.
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"")
        if b"expect" in headers and declared.isdigit() and int(declared) > settings.max_body_bytes:
            raise _too_large(settings.max_body_mb)
        try:
            async with asyncio.timeout(settings.timeout_seconds):
                async for chunk in _chunks(receive, settings.max_body_bytes, settings.max_body_mb):
                    chunks.append(chunk)
                    held += len(chunk)
                    self._held_bytes += len(chunk)
                    if self._held_bytes > settings.max_held_bytes:
                        raise ServeError(
                            "full", "too many large requests; try again later", retry_seconds=1
                        )
        except TimeoutError:
            self._held_bytes -= held
            raise ServeError(
                "slow", f"the body did not come within {settings.timeout_seconds:g} seconds"
            ) from None
        except BaseException:
            self._held_bytes -= held
            raise
        try:
            yield b"".join(chunks)
        finally:
            self._held_bytes -= held


class _Answer:
    """What was sent of one answer."""

    def __init__(self, send: Send):
        self._send, self._has_begun, self.status = send, False, CLIENT_GONE

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_begun, self.status = True, message["status"]
        await self._send(message)

    async def refuse(self, error: ServeError, path: str) -> None:
        """Send an error, unless an answer has begun."""
        if self._has_begun:
            return
        form = form_of(path)
        body = orjson.dumps(error.body(form))
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        # The rest of the body may still come, so the connection cannot be used again.
        if error.kind in ("too much", "slow"):
            headers["connection"] = "close"
        start: dict[str, Any] = {
            "type": "http.response.start",
            "status": error.status(form),
            "headers": [
                (name.encode(), value.encode())
                for name, value in (headers | error.headers()).items()
            ],
        }
        await self.send(start)
        await self.send({"type": "http.response.body", "body": body})


async def _chunks(receive: Receive, max_bytes: int, max_mb: int) -> AsyncIterator[bytes]:
    """Yield the chunks of a body. The rest of a body that is too large is read and thrown away, up
    to a limit: many clients read the answer only when they have sent everything."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > DISCARDED * max_bytes:
            break
        if size <= max_bytes:
            yield chunk
    if size > max_bytes:
        raise _too_large(max_mb)


def _too_large(max_body_mb: int) -> ServeError:
    return ServeError("too much", f"the body is larger than {max_body_mb} MiB; send less at a time")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body, and then what the client does."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
