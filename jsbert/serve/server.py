"""Run a server until a signal ends it."""

import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from jsbert.serve.app import make_app
from jsbert.serve.corpus import Corpus
from jsbert.serve.models import Catalogue
from jsbert.serve.serving import Serving
from jsbert.serve.settings import Settings

MAX_CONNECTIONS = 2000
"""Connections past this number are answered with 503."""

BACKLOG = 1024
"""The number of connections that may wait to be accepted."""

KEEP_ALIVE_SECONDS = 75
"""The time that an idle connection stays open; longer than usual clients keep theirs."""

CLOSE_SECONDS = 2
"""The time that the last answers have to be written, when the server ends."""


def serve(
    settings: Settings, open_models: Callable[[Catalogue], None], corpus: Corpus | None = None
) -> None:
    """Listen, open the models, and answer until SIGTERM or SIGINT.

    The first signal stops new requests; what is queued is answered. A second one ends the process
    at once, with the exit code 128 + its number.

    Args:
        settings: where to listen, and what is allowed.
        open_models: adds the models to a catalogue; called in another thread.
        corpus: what the page shows at its start.

    Raises:
        OSError: if the address cannot be used.
        Exception: what `open_models` raised.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    serving = Serving(settings, open_models)
    print(f"jsbert: listening on http://{shown}:{port}", file=sys.stderr, flush=True)
    logging.basicConfig(level=logging.WARNING, format="jsbert: %(levelname)s: %(message)s")
    Server(serving, corpus).run(sockets=[listener])
    if serving.error is not None:
        raise serving.error
    print("jsbert: ended", file=sys.stderr, flush=True)
    if not serving.stop(0):
        # The worker still compiles or computes, and a thread in XLA cannot be ended.
        os._exit(0)


class Server(uvicorn.Server):
    """uvicorn's server with another end: it answers what is queued while new requests get 503, and
    exits with 0. It also cuts connections that send no request in time."""

    def __init__(self, serving: Serving, corpus: Corpus | None = None):
        config = uvicorn.Config(
            make_app(serving, corpus),
            log_config=None,
            access_log=False,
            log_level="error",
            server_header=False,
            ws="none",
            lifespan="on",
            backlog=BACKLOG,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
        super().__init__(config)
        self._serving = serving
        self._waiting: dict[Any, tuple[object, float]] = {}
        self._drained_by: float | None = None
        serving.on_failure = self._end

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end at the first signal; end at the second."""
        if self._drained_by is not None:
            os._exit(128 + sig)
        self._drained_by = time.monotonic() + self._serving.settings.timeout_seconds
        self._serving.drain()
        print("jsbert: answering what is queued", file=sys.stderr, flush=True)

    async def on_tick(self, counter: int) -> bool:
        """Do what is due ten times a second. Return whether the server ends."""
        if counter % 10 == 0:
            self._close_waiting()
        if self._drained_by is not None and (
            not self._serving.num_working or time.monotonic() > self._drained_by
        ):
            self._end()
        return await super().on_tick(counter)

    def _end(self) -> None:
        self.should_exit = True

    def _close_waiting(self) -> None:
        """Cut connections that have sent no whole headers, or have not read their answer, for the
        allowed time. uvicorn itself closes those that are idle after an answer."""
        now = time.monotonic()
        longest = max(self._serving.settings.timeout_seconds, KEEP_ALIVE_SECONDS)
        before, self._waiting = self._waiting, {}
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                continue
            known, since = before.get(connection, (cycle, now))
            since = since if known is cycle else now
            if now - since > longest:
                connection.transport.abort()
            else:
                self._waiting[connection] = cycle, since
