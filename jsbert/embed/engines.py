"""Who computes the shards: this process, several processes, or the actors of a Ray cluster.

An engine is a function of a job and shards. It yields each shard with its number of tokens, in any
order, as soon as its files are there.
"""

import collections
import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from jsbert.corpus.folder import Shard
from jsbert.corpus.readers import Piece
from jsbert.embed.worker import Job, Worker

if TYPE_CHECKING:
    from tqdm.auto import tqdm

Todo = Sequence[tuple[int, Sequence[Piece]]]
"""The numbers and pieces of the shards to compute, ascending."""

Computed = Iterator[tuple[Shard, int]]

RETRIES = 3
"""How often a shard is given to a worker again after a worker died with it."""


def in_this_process(job: Job, todo: Todo, progress: "tqdm") -> Computed:
    """Compute in this process, on all devices of the model. The next shard is read, and the last
    one written, while one is computed. `progress` counts rows."""
    worker = Worker(job)
    writing: Future[Shard] | None = None
    num_tokens = 0
    with contextlib.closing(worker), ThreadPoolExecutor(2) as executor:
        try:
            ahead = executor.submit(worker.read, todo[0][1])
            for place, (number, _) in enumerate(todo):
                rows = ahead.result()
                if place + 1 < len(todo):
                    ahead = executor.submit(worker.read, todo[place + 1][1])
                vectors, num_new = worker.encode(rows, progress)
                progress.update(rows.num_bad)
                if writing is not None:
                    shard, writing = writing.result(), None
                    yield shard, num_tokens
                num_tokens = num_new
                writing = executor.submit(worker.write, number, rows, vectors)
        except (Exception, KeyboardInterrupt):
            if writing is not None:  # the shard before is not lost
                yield writing.result(), num_tokens
            raise
        if writing is not None:
            yield writing.result(), num_tokens


def in_processes(job: Job, todo: Todo, workers: int) -> Computed:
    """Compute in spawned processes on the CPU, which share its cores evenly.

    Raises:
        RuntimeError: if a process dies, or cannot start.
    """
    num_cores = max(1, _num_cores() // workers)
    executor = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_take,
        initargs=(job, num_cores),
    )
    problem: Exception | None = None
    futures: list[Future[tuple[Shard, int]]] = []
    given = set()
    try:
        try:
            futures.extend(executor.submit(_compute, number, pieces) for number, pieces in todo)
            for future in as_completed(futures):
                found = future.result()
                given.add(future)
                yield found
        except Exception as error:
            problem = error
    finally:  # no further shard begins; those that are being computed are brought to their end
        executor.shutdown(cancel_futures=True)
    for future in futures:
        is_whole = future.done() and not future.cancelled() and future.exception() is None
        if is_whole and future not in given:
            yield future.result()
    if isinstance(problem, BrokenProcessPool):
        raise RuntimeError(
            "a worker process died; out of memory? Run the same again: it goes on"
        ) from problem
    if problem is not None:
        raise problem


def on_ray(
    job: Job, todo: Todo, workers: int | None, options: Mapping[str, Any] | None
) -> Computed:
    """Compute in actors of the Ray cluster that this process is connected to, or of a new one on
    this machine. The shard of an actor that dies goes to another, and a new actor takes the place
    of the dead one as soon as Ray has room for it.

    Args:
        workers: the number of actors; by default one for each GPU, else one for each node.
        options: Ray's options of an actor, such as {"num_gpus": 1}; by default one GPU, or an even
            share of the cores.

    Raises:
        ImportError: if Ray is not installed.
        RuntimeError: if workers die with the same shard, or at their start, again and again.
    """
    try:
        import ray
    except ImportError:
        raise ImportError("engine 'ray' needs Ray: pip install 'jsbert[ray]'") from None
    if not ray.is_initialized():
        ray.init(logging_level="ERROR", log_to_driver=False)
    actor, num_actors = _actor(ray, workers, options)
    rest, failures = collections.deque(todo), collections.Counter[int]()
    # What is awaited: of each actor either its start, which is number -1, or a shard.
    awaited: dict[Any, tuple[Any, int, Sequence[Piece]]] = {}

    def start() -> None:
        one = actor.remote(job)
        awaited[one.__ray_ready__.remote()] = one, -1, []

    for _ in range(min(num_actors, len(todo))):
        start()
    try:
        while rest or any(number >= 0 for _, number, _ in awaited.values()):
            (ready,), _ = ray.wait(list(awaited), num_returns=1)
            one, number, pieces = awaited.pop(ready)
            try:
                found = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else error from None
            except ray.exceptions.RayError as error:  # the actor has died
                failures[number] += 1
                if failures[number] > RETRIES:
                    doing = "at their start" if number < 0 else f"with shard {number}"
                    raise RuntimeError(
                        f"workers died {failures[number]} times {doing} ({error}); what is done "
                        "is kept: run the same again"
                    ) from None
                if number >= 0:
                    rest.appendleft((number, pieces))
                start()
                continue
            if number >= 0:
                yield found
            else:
                del failures[number]  # a good start: only failed starts in a row end the run
            if rest:
                number, pieces = rest.popleft()
                awaited[one.compute.remote(number, pieces)] = one, number, pieces
    finally:
        for one, _, _ in awaited.values():
            ray.kill(one)


def _actor(ray: Any, workers: int | None, options: Mapping[str, Any] | None) -> tuple[Any, int]:
    """Return the class of the actors with their resources, and how many to start."""
    resources = ray.cluster_resources()
    num_gpus, num_cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    workers = workers or num_gpus or len([node for node in ray.nodes() if node["Alive"]])
    if options is None:
        share = max(1, num_cpus // workers)
        options = {"num_gpus": 1} if num_gpus >= workers else {"num_cpus": share}
    if not options.get("num_gpus"):
        variables = _limits(max(1, int(options.get("num_cpus", 1))))
        options = {"runtime_env": {"env_vars": variables}} | dict(options)
    return ray.remote(Worker).options(**options), workers


_job: Job
_worker: Worker | None = None
"""The job and the worker of a spawned process."""


def _take(job: Job, num_cores: int) -> None:
    global _job
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(_limits(num_cores), JAX_PLATFORMS="cpu")
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    _job = job


def _end_with_parent() -> None:
    """End this process once the one that started it is dead. The executor's processes would wait
    for work forever if their parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _compute(number: int, pieces: Sequence[Piece]) -> tuple[Shard, int]:
    global _worker
    if _worker is None:  # here, so that an error reaches the caller
        _worker = Worker(_job)
    return _worker.compute(number, pieces)


def _limits(num_cores: int) -> dict[str, str]:
    """Environment variables that give a process this many threads: XLA's, and the tokenizer's."""
    return {"NPROC": str(num_cores), "RAYON_NUM_THREADS": str(num_cores)}


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
