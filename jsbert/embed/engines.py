"""Who computes the shards: this process, several processes, or the actors of a Ray cluster.

An engine is a function of a job and shards. It yields each shard with its number of tokens, in any
order, as soon as its files are there.
"""

import multiprocessing
import os
import sys
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
    with ThreadPoolExecutor(2) as executor:
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
        RuntimeError: if a process dies.
    """
    num_cores = max(1, _num_cores() // workers)
    executor = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_open,
        initargs=(job, num_cores),
    )
    problem: BaseException | None = None
    with executor:
        futures = [executor.submit(_compute, number, pieces) for number, pieces in todo]
        for future in as_completed(futures):
            if future.cancelled():
                continue
            if (error := future.exception()) is None:
                yield future.result()
            elif problem is None:
                # Shards that are being computed are brought to their end.
                problem = error
                executor.shutdown(wait=False, cancel_futures=True)
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
    this machine. The shards of an actor that dies are computed again.

    Args:
        workers: the number of actors; by default one for each GPU, else one for each node.
        options: Ray's options of an actor, such as {"num_gpus": 1}; by default one GPU, or an even
            share of the cores.

    Raises:
        ImportError: if Ray is not installed.
        RuntimeError: if a shard kills its worker again and again.
    """
    try:
        import ray
        from ray.util import ActorPool
    except ImportError:
        raise ImportError("engine 'ray' needs Ray: pip install 'jsbert[ray]'") from None
    if not ray.is_initialized():
        ray.init(logging_level="ERROR", log_to_driver=False)
    resources = ray.cluster_resources()
    num_gpus, num_cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    workers = workers or num_gpus or len([node for node in ray.nodes() if node["Alive"]])
    if options is None:
        share = max(1, num_cpus // workers)
        options = {"num_gpus": 1} if num_gpus >= workers else {"num_cpus": share}
    if not options.get("num_gpus"):
        variables = _limits(max(1, int(options.get("num_cpus", 1))))
        options = {"runtime_env": {"env_vars": variables}} | dict(options)
    actor = ray.remote(Worker).options(max_restarts=-1, max_task_retries=RETRIES, **options)
    actors = [actor.remote(job) for _ in range(min(workers, len(todo)))]
    try:
        yield from ActorPool(actors).map_unordered(lambda one, of: one.compute.remote(*of), todo)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise (cause if isinstance(cause, (OSError, ValueError, ImportError)) else error) from None
    except ray.exceptions.RayActorError as error:
        raise RuntimeError(
            f"workers died {RETRIES + 1} times with the same shard ({error}); run the same again: "
            "it goes on"
        ) from None
    finally:
        for one in actors:
            ray.kill(one)


_worker: Worker | None = None
"""The worker of a spawned process."""


def _open(job: Job, num_cores: int) -> None:
    global _worker
    os.environ.update(_limits(num_cores), JAX_PLATFORMS="cpu")
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    _worker = Worker(job)


def _compute(number: int, pieces: Sequence[Piece]) -> tuple[Shard, int]:
    assert _worker is not None
    return _worker.compute(number, pieces)


def _limits(num_cores: int) -> dict[str, str]:
    """Environment variables that give a process this many threads: XLA's, and the tokenizer's."""
    return {"NPROC": str(num_cores), "RAYON_NUM_THREADS": str(num_cores)}


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
