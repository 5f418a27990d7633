"""torch beside jsbert, in the same process: a model of sentence-transformers, one batch of it, and
an exact search."""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.lib.device_job import Job, Notes
from benchmarks.lib.engines import open_engine

PEER = "sentence-transformers"


def missing(job: Job, *modules: str) -> str | None:
    """Return why there is no torch to compare with; None if there is."""
    if not job.peers:
        return "left out by --no-torch"
    if lacking := [name for name in modules if importlib.util.find_spec(name) is None]:
        return f"not installed: {', '.join(lacking)}"
    if job.platform == "tpu":
        return "torch computes on no TPU here"
    if job.platform == "gpu":
        import torch

        if not torch.cuda.is_available():
            return "torch sees no GPU"
    return None


def opened(job: Job, notes: Notes, *names: str, folder: str, dtype: str) -> Any:
    """Open a folder with sentence-transformers and SDPA. Return None, and note why under `names`,
    if that cannot be done."""
    reason = missing(job, "torch", "sentence_transformers")
    if reason is None:
        try:
            return open_engine(f"{PEER} {dtype}", folder, job.platform)
        except Exception as error:  # whatever torch says: jsbert's figures are wanted all the same
            reason = f"{type(error).__name__}: {error}"[:500]
    notes.add(*names, skipped=reason)
    return None


def batch(engine: Any, ids: np.ndarray, calls: int) -> Callable[[], np.ndarray]:
    """Return a function that computes `calls` batches of texts without padding, one after the
    other, waits, and returns the vectors of the last batch."""
    import torch

    device = engine.model.device
    features = {"input_ids": torch.from_numpy(ids.astype(np.int64)).to(device)}
    features["attention_mask"] = torch.ones_like(features["input_ids"])

    def run():
        with torch.inference_mode():
            for _ in range(calls):
                found = engine.model(dict(features))["sentence_embedding"]
            return found.float().cpu().numpy()

    return run


def search(job: Job, queries: np.ndarray, corpus: np.ndarray, k: int) -> Callable[[], np.ndarray]:
    """Return a function that finds the indices of the `k` nearest: one product, one topk."""
    import torch

    device = "cuda" if job.platform == "gpu" else "cpu"
    asking, searched = (torch.from_numpy(vectors).to(device) for vectors in (queries, corpus))

    def run():
        with torch.inference_mode():
            return torch.topk(asking @ searched.T, k).indices.cpu().numpy()

    return run
