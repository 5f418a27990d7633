"""Exact search: the ten nearest of 1,000 queries among a million vectors, compared with FAISS's
IndexFlatIP.

python -m benchmarks.search [--peer-python PATH]

The vectors are random unit vectors of 384 numbers; the cost does not depend on the numbers. FAISS
runs in a process of its own with the same threads, and the two take turns. Building the index (a
copy of the vectors) and compiling are left out.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks.lib import report
from benchmarks.lib.engines import THREADS
from jsbert import search

FAISS = """
import sys, time, json, faiss, numpy
faiss.omp_set_num_threads(int(sys.argv[4]))
corpus, queries = numpy.load(sys.argv[1]), numpy.load(sys.argv[2])
index = faiss.IndexFlatIP(corpus.shape[1])
index.add(corpus)
index.search(queries, int(sys.argv[3]))
print(faiss.__version__, flush=True)
for _ in sys.stdin:
    started = time.perf_counter()
    found = index.search(queries, int(sys.argv[3]))[1]
    print(json.dumps([time.perf_counter() - started, found.tolist()]), flush=True)
"""


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, and return what is written as JSON."""
    options = _options(argv)
    values = report.circumstances()
    report.print_circumstances(values)
    generator = np.random.default_rng(0)
    corpus, queries = (
        unit_vectors(generator, count) for count in (options.corpus, options.queries)
    )
    seconds: dict[str, list[float]] = {"jsbert": [], "faiss": []}
    rates, agreement = [], None
    with tempfile.TemporaryDirectory() as folder:
        peer, version = _faiss(options, pathlib.Path(folder), corpus, queries)
        search.top_k(queries, corpus, options.k)  # The first run compiles.
        for _ in range(options.repeats):
            rates.append(report.matmul_flops_per_second())
            started = time.perf_counter()
            found = search.top_k(queries, corpus, options.k).indices
            seconds["jsbert"].append(time.perf_counter() - started)
            if peer is not None:
                peer.stdin.write("\n")
                peer.stdin.flush()
                taken, theirs = json.loads(peer.stdout.readline())
                seconds["faiss"].append(taken)
                agreement = float((found == np.asarray(theirs)).mean())
        if peer is not None:
            peer.communicate()
    flops = 2 * options.corpus * options.queries * corpus.shape[1]
    rate = statistics.median(rates)
    rows = []
    for name, taken in seconds.items():
        if taken:
            share = flops / statistics.median(taken) / rate
            rows.append([name, report.spread(taken, 2), f"{share:.0%}"])
    report.print_table(["engine", "seconds", "of the float32 matmul rate"], rows)
    print(
        f"float32 matmul rate {rate / 1e9:.0f} GFLOP/s: all of it would take {flops / rate:.2f} s"
    )
    if agreement is not None:
        ratio = statistics.median(seconds["faiss"]) / statistics.median(seconds["jsbert"])
        print(f"jsbert is {ratio:.2f} x as fast as faiss {version}; equal places: {agreement:.2%}")
    values |= {
        "corpus": options.corpus,
        "queries": options.queries,
        "k": options.k,
        "seconds": seconds,
    }
    values |= {"faiss": version, "equal_places": agreement, "matmul_flops_per_second": rates}
    print("written:", report.write_json("search", values, options.out))
    return values


def unit_vectors(generator: np.random.Generator, count: int) -> np.ndarray:
    """Return random vectors of length 1, (count, 384) float32."""
    vectors = generator.standard_normal((count, 384), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _faiss(options, folder, corpus, queries):
    """Return (a process that searches at each line, the version of faiss), or (None, None) without
    faiss."""
    for name, vectors in (("corpus", corpus), ("queries", queries)):
        np.save(folder / f"{name}.npy", vectors)
    files = [str(folder / f"{name}.npy") for name in ("corpus", "queries")]
    arguments = [*files, str(options.k), str(THREADS)]
    peer = subprocess.Popen(
        [options.peer_python, "-c", FAISS, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    version = peer.stdout.readline().strip()
    if not version:
        print("without faiss: the peers' interpreter lacks it (pip install faiss-cpu)")
        peer.communicate()
        return None, None
    return peer, version


def _options(argv):
    parser = report.parser(__doc__)
    add = parser.add_argument
    add("--corpus", type=int, default=1_000_000, help="vectors (default 1,000,000)")
    add("--queries", type=int, default=1_000, help="queries (default 1,000)")
    add("--k", type=int, default=10, help="matches (default 10)")
    add("--repeats", type=int, default=5, help="turns (default 5)")
    add(
        "--peer-python",
        default=sys.executable,
        help="the interpreter that runs faiss (default: this one)",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
