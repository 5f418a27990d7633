"""The one thread that owns the device."""

import asyncio
import threading
import time
from collections.abc import Callable

import numpy as np

from jsbert.serve.jobs import Job
from jsbert.serve.metrics import Metrics
from jsbert.serve.scheduler import Piece, Round, Scheduler
from jsbert.tokenizer import Ragged


class Worker:
    """A thread that takes rounds from a scheduler, computes them, and hands results to the event
    loop.

    When it is idle, a job starts at once. When it is busy, jobs wait, and the next round has the
    texts of all jobs that wait.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
        *,
        first: Callable[[], None],
    ):
        """Start the thread.

        Args:
            scheduler: gives the rounds.
            metrics: counts them.
            loop: the event loop of the jobs' futures.
            first: called in the thread before the first round: opens the models.
        """
        self._scheduler, self._metrics, self._loop = scheduler, metrics, loop
        self._tokens = self._seconds = 0.0
        self._thread = threading.Thread(
            target=self._run, args=(first,), name="jsbert-device", daemon=True
        )
        self._thread.start()

    @property
    def tokens_per_second(self) -> float:
        """The speed of the rounds so far; 0 before the first."""
        return self._tokens / self._seconds if self._seconds else 0.0

    def join(self, seconds: float) -> bool:
        """Wait for the end of the thread after `Scheduler.close`. Return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self, first: Callable[[], None]) -> None:
        first()
        while (taken := self._scheduler.take()) is not None:
            try:
                self._compute(taken)
            except Exception as error:
                self._call(self._fail, [piece.job for piece in taken.pieces], error)

    def _compute(self, taken: Round) -> None:
        """Compute a round. A job whose last result comes is finished at once, while the device
        computes the rest of the round."""
        pieces, program = taken.pieces, taken.program
        tokens, started = _joined(pieces), time.perf_counter()
        before = program.engine.num_tokens, program.engine.num_padded_tokens
        texts = [(job, position) for job, positions in pieces for position in positions.tolist()]
        for places, outputs in program.engine.stream(
            program.function, tokens, packs=program.packs, scalars=dict(program.scalars)
        ):
            done = []
            for place, row in zip(places.tolist(), program.rows(outputs), strict=True):
                job, position = texts[place]
                if job.put(position, row):
                    done.append(job)
            if done:
                self._call(self._finish, done)
        self._metrics.count_round(
            program.engine.num_tokens - before[0],
            program.engine.num_padded_tokens - before[1],
            len(texts),
        )
        self._tokens += len(tokens.ids)
        self._seconds += time.perf_counter() - started

    def _call(self, function: Callable, *args: object) -> None:
        # The loop is closed if the server ended while a round was computed: nobody waits then.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    def _finish(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._scheduler.remove(job)
            if not job.future.done():
                job.future.set_result(job.results)

    def _fail(self, jobs: list[Job], error: Exception) -> None:
        for job in jobs:
            self._scheduler.remove(job)
            if not job.future.done():
                job.future.set_exception(error)


def _joined(pieces: list[Piece]) -> Ragged:
    """The tokens of pieces, one piece after the other."""
    parts = [
        job.tokens
        if len(positions) == len(job.tokens.lengths) == 1
        else job.tokens.take(np.asarray(positions))
        for job, positions in pieces
    ]
    return parts[0] if len(parts) == 1 else Ragged.join(parts)
