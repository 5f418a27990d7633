"""What the routes of a server share: models, queue, worker and counters, and their life."""

import asyncio
import math
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from starlette.requests import Request

from jsbert.serve.errors import ServeError
from jsbert.serve.jobs import Job, Program
from jsbert.serve.metrics import Metrics
from jsbert.serve.models import Catalogue, Served, Texts
from jsbert.serve.scheduler import Scheduler
from jsbert.serve.settings import Settings
from jsbert.serve.worker import Worker
from jsbert.tokenizer import Ragged

State = Literal["warming", "ready", "draining", "failed"]
"""The life of a server: it compiles; it answers; it answers what is queued; no model opened."""

FEW_CHARACTERS = 4000
"""Texts of up to this many characters are tokenised at once. More go to a thread, so that other
requests do not wait."""


class ClientGone(Exception):
    """The client closed the connection before the answer was there."""


class Serving:
    """A server without HTTP.

    Attributes:
        settings: what is allowed.
        catalogue: the models; empty until they are opened.
        metrics: the counters.
        scheduler: the queue.
        state: where the server is in its life.
        error: the error of the state "failed".
        num_working: the number of requests that were read and not answered yet.
    """

    def __init__(self, settings: Settings, open_models: Callable[[Catalogue], None]):
        """Make a server that opens nothing yet.

        Args:
            settings: what is allowed.
            open_models: adds the models to a catalogue; called in the worker's thread.
        """
        self.settings, self._open_models = settings, open_models
        self.catalogue, self.metrics = Catalogue(), Metrics()
        self.scheduler = Scheduler(settings.max_queue_tokens)
        self.state: State = "warming"
        self.error: BaseException | None = None
        self.num_working = 0
        self.on_failure: Callable[[], None] = lambda: None
        self._worker: Worker | None = None
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="jsbert-tokenize")
        self.metrics.watch(
            queue_tokens=lambda: self.scheduler.num_tokens,
            queue_requests=lambda: self.scheduler.num_jobs,
            compilations=self.catalogue.num_compilations,
            compile_seconds=self.catalogue.compile_seconds,
            ready=lambda: float(self.state == "ready"),
        )

    def start(self) -> None:
        """Start the worker, which opens and warms the models. Call it in the event loop."""
        loop = asyncio.get_running_loop()
        self._worker = Worker(self.scheduler, self.metrics, loop, first=self._warm)

    def drain(self) -> None:
        """Take no new requests from now on."""
        if self.state in ("warming", "ready"):
            self.state = "draining"

    def stop(self, seconds: float) -> bool:
        """End the worker. Return whether it ended in time."""
        self.scheduler.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        return self._worker is None or self._worker.join(seconds)

    def _warm(self) -> None:
        started = time.perf_counter()
        try:
            self._open_models(self.catalogue)
            for model in self.catalogue.all.values():
                model.warm(self.settings.warm_tokens)
        except Exception as error:
            self.state, self.error = "failed", error
            self.on_failure()
            return
        if self.state == "warming":
            self.state = "ready"
            seconds = time.perf_counter() - started
            names = ", ".join(self.catalogue.all)
            print(f"jsbert: ready after {seconds:.1f} s: {names}", file=sys.stderr, flush=True)

    def check_ready(self) -> None:
        """Raise ServeError unless the server takes requests."""
        if self.state == "warming":
            raise ServeError(
                "unready", "the server is warming up; /health says when it is ready",
                retry_seconds=2,
            )  # fmt: skip
        if self.state != "ready":
            raise ServeError("unready", "the server is ending; ask another one", retry_seconds=5)

    def check_room(self) -> None:
        """Raise ServeError if the queue is full."""
        if self.scheduler.num_tokens >= self.settings.max_queue_tokens:
            raise self._full()

    async def tokenize(
        self,
        served: Served,
        texts: Texts,
        *,
        field: str,
        prompt: str = "",
        truncate: bool | None = None,
    ) -> Ragged:
        """Return the tokens of a request's texts.

        Args:
            served: the model.
            texts: all of one kind.
            field: the request's field that holds the texts, for messages.
            prompt: put in front of each string.
            truncate: whether texts past the model's limit are cut; None: as the settings say.

        Raises:
            ServeError: if there are no texts or too many, if a text is too long and must not be
                cut, and as `Served.tokenize`.
        """
        if not texts:
            raise ServeError("empty", "there is no text; give at least one", field=field)
        most = self.settings.max_request_texts
        if len(texts) > most:
            raise ServeError(
                "too much", f"{len(texts)} texts; at most {most} are allowed in a request",
                field=field,
            )  # fmt: skip

        def tokenize() -> Ragged:
            return served.tokenize(texts, field=field, prompt=prompt)

        if _num_characters(texts) <= FEW_CHARACTERS:
            tokens = tokenize()
        else:
            loop = asyncio.get_running_loop()
            tokens = await loop.run_in_executor(self._threads, tokenize)
        if len(tokens.truncated):
            if not (self.settings.truncate if truncate is None else truncate):
                raise ServeError(
                    "too long",
                    f"text {tokens.truncated[0]} is longer than {served.max_tokens} tokens; "
                    "shorten it, or allow truncation",
                    field=field,
                )
            self.metrics.count_truncated(len(tokens.truncated))
        return tokens

    async def compute(
        self, request: Request, program: Program, tokens: Ragged, *, field: str
    ) -> list[np.ndarray]:
        """Queue texts and wait for their results: one array for each text.

        Args:
            request: whose client is watched; if it goes away, the texts leave the queue.
            program: what is computed.
            tokens: the texts.
            field: the request's field that holds the texts, for messages.

        Raises:
            ServeError: if the queue is full, if the texts never fit, or if the time is over.
            ClientGone: if the client went away.
        """
        job = Job(program, tokens, asyncio.get_running_loop().create_future())
        most = self.settings.max_queue_tokens
        if job.num_tokens > most:
            raise ServeError(
                "too much",
                f"{job.num_tokens} tokens; at most {most} are allowed in a request, because the "
                "queue holds no more",
                field=field,
            )
        if not self.scheduler.add(job):
            raise self._full()
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait(
                {job.future, gone},
                timeout=self.settings.timeout_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if job.future.done():
                return job.future.result()
            if gone.done():
                self.metrics.count_dropped()
                raise ClientGone
            raise ServeError(
                "late",
                f"no answer within {self.settings.timeout_seconds:g} seconds; the server is too "
                "busy",
                retry_seconds=self._wait_seconds(),
            )
        finally:
            gone.cancel()
            self.scheduler.remove(job)
            if job.started is not None:
                self.metrics.count_wait(job.started - job.submitted)

    def _full(self) -> ServeError:
        return ServeError(
            "full", "the queue is full; try again later", retry_seconds=self._wait_seconds()
        )

    def _wait_seconds(self) -> int:
        """The time that the queue needs at the worker's usual speed, from 1 to 60."""
        speed = self._worker.tokens_per_second if self._worker is not None else 0
        return min(max(math.ceil(self.scheduler.num_tokens / speed), 1), 60) if speed else 1


async def _disconnected(request: Request) -> None:
    """Return when the client has closed the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _num_characters(texts: Sequence) -> int:
    return sum(
        len(text) if not isinstance(text, tuple) else len(text[0]) + len(text[1]) for text in texts
    )
