"""Vectors of fewer bits: how many of float32's ten nearest does their search find, in how many
bytes, and how fast?

python -m benchmarks.quantized [--quick]

The vectors have length 1, and come from the sentences that `benchmarks.lib.sentences` gathers. Some
vectors are the queries, the others are the corpus. The first vectors of the corpus give the ranges
of int8. The kinds of search take turns, each with all queries at once.
"""

import statistics
import time
from typing import Any

import numpy as np

from benchmarks.lib import report
from benchmarks.lib.sentences import ENOUGH, docstring_sentences, fingerprint, shuffled
from jsbert import SentenceTransformer, search
from jsbert.quantization import calibration_ranges, quantize_embeddings

K = 10

WAYS = (
    ("float32", None, 1),
    ("int8", None, 1),
    ("int8", "floats", 4),
    ("ubinary", None, 1),
    ("ubinary", "signs", 4),
    ("ubinary", "floats", 4),
    ("ubinary", "floats", 16),
)
"""The precision of the corpus, what scores the first matches again, and how many times ten matches
are scored again. uint8 and binary find the same as int8 and ubinary."""

CALIBRATION = 2_000
"""The number of vectors that give the ranges."""


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, and return what is written as JSON."""
    options = _options(argv)
    values = report.circumstances()
    report.print_circumstances(values)
    sentences = shuffled(docstring_sentences(options.sentences)[: options.sentences], 0)
    model = SentenceTransformer(options.model)
    vectors = model.encode(sentences, normalize_embeddings=True, on_truncate="ignore")
    queries, corpus = vectors[: options.queries], vectors[options.queries :]
    ranges = calibration_ranges(corpus[:CALIBRATION])
    codes = {precision: quantize_embeddings(corpus, precision, ranges) for precision, _, _ in WAYS}
    searches = [_search(queries, corpus, codes[way[0]], ranges, *way) for way in WAYS]
    found = [run().indices for run in searches]  # The first run compiles.
    seconds: list[list[float]] = [[] for _ in WAYS]
    for _ in range(options.repeats):
        for run, taken in zip(searches, seconds, strict=True):
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
    rows = [
        {
            "precision": precision,
            "rescored": rescored,
            "rescore_multiplier": multiplier,
            "bytes": codes[precision].nbytes,
            f"recall_at_{K}": recall(found[0], indices),
            "queries_per_second": len(queries) / statistics.median(taken),
            "seconds": taken,
        }
        for (precision, rescored, multiplier), indices, taken in zip(
            WAYS, found, seconds, strict=True
        )
    ]
    print(f"{len(corpus):,} vectors of {corpus.shape[1]}, {len(queries):,} queries\n")
    header = ["vectors", "precision", "scored again", "bytes"]
    header += [f"recall@{K}", "queries/s", "seconds"]
    cells = [
        [
            f"{len(corpus):,}",
            row["precision"],
            f"{row['rescore_multiplier'] * K} by {row['rescored']}" if row["rescored"] else "-",
            f"{row['bytes']:,}",
            f"{row[f'recall_at_{K}']:.1%}",
            f"{row['queries_per_second']:,.0f}",
            report.spread(row["seconds"]),
        ]
        for row in rows
    ]
    report.print_table(header, cells)
    values |= {
        "model": str(options.model or "default"),
        "sentences": fingerprint(sentences),
        "corpus": len(corpus),
    }
    values |= {"queries": len(queries), "dimensions": corpus.shape[1], "rows": rows}
    print("written:", report.write_json("quantized", values, options.out))
    return values


def recall(wanted: np.ndarray, found: np.ndarray) -> float:
    """Return the share of the wanted indices (Q, k) that are among the found indices of the same
    query (Q, k).

    >>> recall(np.array([[1, 2], [3, 4]]), np.array([[2, 9], [4, 3]]))
    0.75
    """
    return float((wanted[:, :, None] == found[:, None]).any(axis=2).mean())


def _search(queries, corpus, codes, ranges, precision, rescored, multiplier):
    if precision == "float32":
        return lambda: search.top_k(queries, corpus, K, similarity="dot")
    options = {"precision": precision, "ranges": ranges, "rescore_multiplier": multiplier}
    floats = corpus if rescored == "floats" else None
    return lambda: search.top_k_quantized(queries, codes, K, corpus_float=floats, **options)


def _options(argv):
    parser = report.parser(__doc__)
    add = parser.add_argument
    add("--model", help="a folder or name (default: the default model)")
    add(
        "--sentences", type=int, help=f"sentences, queries among them, at most (default {ENOUGH:,})"
    )
    add("--queries", type=int, help="queries (default 1,000)")
    add("--repeats", type=int, help="turns (default 5)")
    add(
        "--quick",
        action="store_true",
        help="3,000 sentences, 100 queries, two turns: some ten seconds",
    )
    options = parser.parse_args(argv)
    defaults = (3_000, 100, 2) if options.quick else (ENOUGH, 1_000, 5)
    for name, default in zip(("sentences", "queries", "repeats"), defaults, strict=True):
        setattr(options, name, getattr(options, name) or default)
    return options


if __name__ == "__main__":
    main()
