"""The parts of `benchmarks.accelerator`. Each runs in a process of its own, because a part may hang
or fail:

python -m benchmarks.lib.device_parts PART JOB RESULTS

JOB and RESULTS are files of `benchmarks.lib.device_job`.
"""

import collections
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.encode import RATES, matmul_flops
from benchmarks.lib import device_peers, report
from benchmarks.lib.device_job import Job, Notes
from benchmarks.lib.device_peers import PEER
from benchmarks.lib.device_training import training
from benchmarks.lib.serve import Served
from benchmarks.search import unit_vectors
from jsbert import SentenceTransformer
from jsbert.engine import Batch, pad
from jsbert.engine.placement import TOKEN_BUDGETS
from jsbert.engine.rows import SLOTS, packed_batches
from jsbert.outputs import sentence_vectors
from jsbert.search import top_k
from jsbert.tokenizer import Ragged


def mixed(job: Job, notes: Notes) -> None:
    """Encode mixed texts with the large model."""
    _encode(job, notes, job.base, job.texts("mixed"))


def short(job: Job, notes: Notes) -> None:
    """Encode short texts with the bundled model."""
    _encode(job, notes, job.bundled, job.texts("short"))


def batches(job: Job, notes: Notes) -> None:
    """Compute single batches with the large model in bfloat16."""
    model = _open(job, job.base, "bfloat16")
    notes.add(attention=model.attn_implementation)
    shape = {"rows": 64, "dtype": "bfloat16"} if job.is_small else RATES["gpu"]
    notes.add(matmul_tflops=report.matmul_flops_per_second(**shape) / 1e12)
    # torch comes after jsbert's own figures: if torch ends the process, the figures are there.
    for rows, length in job.sizes.shapes:
        _batch(job, notes, model, None, rows, length)
    peer = device_peers.opened(job, notes, PEER, folder=job.base, dtype="bfloat16")
    for rows, length in job.sizes.shapes if peer else ():
        _batch(job, notes, model, peer, rows, length)


def float32(job: Job, notes: Notes) -> None:
    """Compute the first of the batches in float32, and compare its vectors with the CPU's."""
    model = _open(job, job.base, "float32")
    notes.add(attention=model.attn_implementation)
    rows, length = job.sizes.shapes[0]
    ids, vectors = _batch(job, notes, model, None, rows, length, both_layouts=False)
    on_cpu = SentenceTransformer(job.base, device="cpu")
    few = ids[: job.sizes.checked]
    arrays = {"ids": few, "lengths": np.full(len(few), length, np.int32)}
    found = np.asarray(on_cpu.engine.compute(sentence_vectors(on_cpu.config), arrays))
    notes.add(
        vectors_compared_with_the_cpu=len(few),
        largest_difference_to_the_cpu=float(np.abs(vectors[: len(few)] - found).max()),
    )
    peer = device_peers.opened(job, notes, PEER, folder=job.base, dtype="float32")
    if peer is not None:
        _batch(job, notes, model, peer, rows, length, both_layouts=False)


def search(job: Job, notes: Notes) -> None:
    """Find the ten nearest of each query."""
    sizes, generator = job.sizes, np.random.default_rng(0)
    queries, corpus = (unit_vectors(generator, count) for count in (sizes.queries, sizes.corpus))
    there = [jax.device_put(vectors, job.devices[0]) for vectors in (queries, corpus)]
    jax.block_until_ready(there)
    seconds, found = report.measure(lambda: top_k(*there), repeats=1)
    notes.add(first_seconds=seconds[0])
    functions = {"jsbert": lambda: top_k(*there)}
    notes.add("seconds", **report.in_turns(functions, sizes.repeats))
    if reason := device_peers.missing(job, "torch"):
        notes.add("torch", skipped=reason)
    else:
        theirs = device_peers.search(job, queries, corpus, 10)
        notes.add(equal_places_with_torch=float((theirs() == found.indices).mean()))
        seconds = report.in_turns(functions | {"torch": theirs}, sizes.repeats)
        notes.add("seconds", **seconds)
        notes.add(times_torch=report.ratio(seconds, "torch", "jsbert"))
    top_k(queries, corpus)
    from_host = report.in_turns({"jsbert, from the host": lambda: top_k(queries, corpus)}, 3)
    notes.add("seconds", **from_host)


def one(job: Job, notes: Notes) -> None:
    """Encode one text at a time."""
    texts = job.texts("short")[: job.sizes.singles]
    for name, folder in {"bundled": job.bundled, Path(job.base).name: job.base}.items():
        model = _open(job, folder, "bfloat16")
        functions = {"jsbert": model.encode}
        seconds, _ = report.measure(lambda model=model: model.encode(texts[0]), repeats=1)
        notes.add(name, first_seconds=seconds[0])
        peer = device_peers.opened(job, notes, name, PEER, folder=folder, dtype="bfloat16")
        if peer is not None:
            functions[PEER] = lambda text, peer=peer: peer.encode([text])
        taken = collections.defaultdict(list)
        for turn in range(2):  # the first turn compiles and warms up
            for text in texts:
                for engine, function in functions.items():
                    started = time.perf_counter()
                    function(text)
                    if turn:
                        taken[engine].append(1e3 * (time.perf_counter() - started))
        for engine, milliseconds in taken.items():
            median, p99 = np.percentile(milliseconds, [50, 99]).tolist()
            notes.add(name, engine, median_ms=median, p99_ms=p99)


PARTS = {
    "mixed": (mixed, 110),
    "short": (short, 70),
    "batches": (batches, 80),
    "float32": (float32, 80),
    "search": (search, 45),
    "training": (training, 140),
    "one": (one, 45),
}
"""The parts, the most telling first: the function and the most seconds of each."""


def _encode(job, notes, folder, texts):
    """Note the first and the warm calls of `encode`, beside sentence-transformers."""
    started = time.perf_counter()
    model = _open(job, folder, "bfloat16")
    tokens = model.engine.tokenize(texts)
    notes.add(
        texts=len(texts),
        tokens=int(tokens.lengths.sum()),
        attention=model.attn_implementation,
        open_seconds=time.perf_counter() - started,
    )
    # Count the arrays that the first call computes.
    shapes, compute = collections.Counter(), model.engine.compute

    def counted(function, arrays, **options):
        shapes[arrays["ids"].shape] += 1
        return compute(function, arrays, **options)

    def run():
        return model.encode(texts, on_truncate="ignore")

    model.engine.compute = counted
    (first,), vectors = report.measure(run, repeats=1)
    del model.engine.compute
    computed = sum(rows * length * count for (rows, length), count in shapes.items())
    notes.add(
        first_seconds=first,
        compile_seconds=model.compile_seconds,
        programs=model.num_compilations,
        batches={f"{rows} x {length}": count for (rows, length), count in shapes.items()},
        padding=1 - int(tokens.lengths.sum()) / computed,
    )
    _note_turns(notes, len(texts), report.in_turns({"jsbert": run}, job.sizes.repeats))
    tokenize = {"jsbert": lambda: model.engine.tokenize(texts)}
    notes.add(tokenize_seconds=report.in_turns(tokenize, 3)["jsbert"])
    peer = device_peers.opened(job, notes, PEER, folder=folder, dtype="bfloat16")
    if peer is None:
        return
    chosen = Served(peer).tune(texts[:: max(1, min(8, len(texts) // 64))])["settings"]
    theirs = peer.encode(texts, **chosen)
    notes.add(PEER, settings=chosen, min_cosine=_min_cosine(vectors, theirs))
    functions = {"jsbert": run, PEER: lambda: peer.encode(texts, **chosen)}
    _note_turns(notes, len(texts), report.in_turns(functions, job.sizes.repeats))


def _note_turns(notes, num_texts, seconds):
    notes.add("seconds", **seconds)
    rates = {name: num_texts / statistics.median(taken) for name, taken in seconds.items()}
    notes.add("texts_per_second", **rates)
    if PEER in seconds:
        notes.add(times_peer=report.ratio(seconds, PEER, "jsbert"))


def _batch(job, notes, model, peer, rows, length, both_layouts=True):
    """Note the milliseconds of one batch of texts without padding. Return (ids, vectors).

    "packed" is what `encode` computes on accelerators: texts side by side in rows. "padded" has a
    text in each row.
    """
    name, engine, calls = f"{rows} x {length}", model.engine, job.sizes.calls
    vocab_size = model.config.encoder.vocab_size
    ids = np.random.default_rng(0).integers(5, vocab_size, (rows, length)).astype(np.int32)
    tokens, longest = Ragged.from_lists(list(ids)), max(length, model.max_seq_length)
    budget = TOKEN_BUDGETS["gpu"]
    layouts = {"packed": packed_batches(tokens.lengths, max_length=longest, token_budget=budget)}
    if both_layouts:
        layouts["padded"] = [Batch(np.arange(rows), rows, length)]
    function, functions, vectors = sentence_vectors(model.config), {}, None
    for layout, planned in layouts.items():
        arrays = [
            jax.device_put(pad(tokens, batch, SLOTS), engine.placement.by_row) for batch in planned
        ]

        def run(arrays=arrays):
            for _ in range(calls):
                found = [engine.compute(function, batch) for batch in arrays]
            return jax.block_until_ready(found)

        before = model.compile_seconds
        outputs = [np.asarray(output) for output in run()]
        if peer is None:  # else the programs are there
            notes.add(name, layout, compile_seconds=model.compile_seconds - before)
        functions[layout] = run
        if vectors is None:
            vectors = np.zeros((rows, outputs[0].shape[-1]), np.float32)
            for output, batch in zip(outputs, planned, strict=True):
                vectors[batch.indices] = output[batch.row, batch.slot]
    if peer is not None:
        functions["torch"] = device_peers.batch(peer, ids, calls)
        notes.add(name, min_cosine_to_torch=_min_cosine(vectors, functions["torch"]()))
    taken = _milliseconds(functions, job)
    notes.add(name, ms=taken)
    if peer is not None:
        speeds = {layout: report.ratio(taken, "torch", layout) for layout in layouts}
        notes.add(name, times_torch=speeds)
    if model.config.encoder.model_type in ("bert", "roberta", "mpnet"):
        flops = matmul_flops(model.config.encoder, tokens.lengths)
        rates = {key: flops / statistics.median(ms) / 1e9 for key, ms in taken.items()}
        notes.add(name, tflops=rates)
    return ids, vectors


def _milliseconds(functions, job) -> dict[str, list[float]]:
    """The milliseconds of a batch: each turn computes several batches."""
    seconds = report.in_turns(functions, job.sizes.repeats)
    return {name: [1e3 * s / job.sizes.calls for s in taken] for name, taken in seconds.items()}


def _open(job: Job, folder: str, dtype: Any) -> SentenceTransformer:
    return SentenceTransformer(folder, device=job.devices[0], dtype=dtype)


def _min_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(1) / lengths).min())


if __name__ == "__main__":
    PARTS[sys.argv[1]][0](Job.read(sys.argv[2]), Notes(sys.argv[3]))
