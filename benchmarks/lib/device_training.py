"""The part of `benchmarks.accelerator` that trains."""

import itertools
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import train
from benchmarks.lib import device_peers, report
from benchmarks.lib.device_job import Job, Notes
from benchmarks.lib.device_peers import PEER


def training(job: Job, notes: Notes) -> None:
    """Train the large model in bfloat16 with each objective."""
    steps, texts = job.sizes.steps, job.texts("short")
    edges = np.linspace(steps // 4, steps, job.sizes.repeats + 1).astype(int).tolist()
    reason = device_peers.missing(job, "torch", "sentence_transformers", "datasets", "accelerate")
    for objective, pairs in job.sizes.pairs:
        name, rates = f"{objective}, {pairs} pairs", {}
        columns = train.scored_pairs(texts)
        if objective != "cosine":
            del columns["score"]
        task = {
            "model": job.base, "columns": columns, "steps": steps, "batch_size": pairs,
            "dtype": "bfloat16", "epochs": -(-steps * pairs // (len(texts) // 2)), "packing": True,
            "objective": objective, "device": job.platform, "waits": edges,
        }  # fmt: skip
        for worker in train.WORKERS:
            if worker == PEER and reason:
                notes.add(name, worker, skipped=reason)
                continue
            with tempfile.TemporaryDirectory(dir=job.folder) as folder:
                started = time.perf_counter()
                try:
                    seconds = train.run_worker(worker, task, Path(folder))["seconds"]
                except RuntimeError as error:  # the other runs go on
                    notes.add(name, worker, failed=str(error)[-800:])
                    continue
            rates[worker] = [
                (end - begin) / (seconds[end - 1] - seconds[begin - 1])
                for begin, end in itertools.pairwise(edges)
            ]
            notes.add(
                name,
                worker,
                steps_per_second=rates[worker],
                first_update_seconds=seconds[0],
                process_seconds=time.perf_counter() - started,
            )
        if len(rates) == 2:
            notes.add(name, times_peer=report.ratio(rates, "jsbert", PEER))
