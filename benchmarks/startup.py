"""How long a fresh process takes: for the import, and for 200 mixed texts with nothing compiled
beforehand.

python -m benchmarks.startup
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from typing import Any

from benchmarks.lib import report
from benchmarks.lib.sentences import docstring_sentences, shuffled
from jsbert.checkpoint import find_folder

IMPORTS = {"jax, flax.nnx": "import jax, flax.nnx", "jsbert": "import jsbert"}

ENCODE = {
    "jsbert": """
        import json, sys, jsbert
        texts = json.load(open(sys.argv[1]))
        jsbert.SentenceTransformer(sys.argv[2]).encode(texts, on_truncate="ignore")
    """,
    "sentence-transformers": """
        import json, os, sys, torch, sentence_transformers
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        texts = json.load(open(sys.argv[1]))
        sentence_transformers.SentenceTransformer(sys.argv[2], device="cpu").encode(texts)
    """,
}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, and return what is written as JSON."""
    parser = report.parser(__doc__)
    parser.add_argument(
        "--repeats", type=int, default=5, help="processes of each kind, taking turns (default 5)"
    )
    options = parser.parse_args(argv)
    values = report.circumstances()
    report.print_circumstances(values)
    imports = _in_turns({name: (code, []) for name, code in IMPORTS.items()}, options.repeats)
    ratio = statistics.median(imports["jsbert"]) / statistics.median(imports["jax, flax.nnx"])
    report.print_table(
        ["import", "seconds"], [[name, report.spread(seconds)] for name, seconds in imports.items()]
    )
    print(f"import jsbert takes {ratio:.2f} x import jax, flax.nnx\n")

    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "texts.json"
        file.write_text(json.dumps(mixed_texts(200)), encoding="utf8")
        arguments = [str(file), str(find_folder())]
        jobs = {"jsbert, cold cache": (textwrap.dedent(ENCODE["jsbert"]), arguments)}
        if report.has_torch():
            jobs["sentence-transformers"] = (
                textwrap.dedent(ENCODE["sentence-transformers"]),
                arguments,
            )
        totals = _in_turns(jobs, options.repeats)
        warm = {"jsbert, warm cache": jobs["jsbert, cold cache"]}
        cache = os.path.join(folder, "cache")
        _in_turns(warm, 1, cache)
        totals |= _in_turns(warm, options.repeats, cache)
    report.print_table(
        ["200 mixed texts in a fresh process", "seconds in all"],
        [[name, report.spread(seconds)] for name, seconds in totals.items()],
    )
    values |= {"import_seconds": imports, "import_ratio": ratio, "mixed_200_seconds": totals}
    print("written:", report.write_json("startup", values, options.out))
    return values


def mixed_texts(count: int, seed: int = 0) -> list[str]:
    """Return texts, of which four of five are a sentence, and one of five is 20 sentences long."""
    sentences = shuffled(docstring_sentences(), seed)
    rest = iter(sentences)
    return [
        " ".join(next(rest) for _ in range(20 if index % 5 == 0 else 1)) for index in range(count)
    ]


def _in_turns(jobs, repeats, cache=None):
    """Return the seconds of each job's process. Without `cache`, every process gets an empty cache
    folder of its own."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, (code, arguments) in jobs.items():
            with tempfile.TemporaryDirectory() as empty:
                environment = os.environ | {"XDG_CACHE_HOME": cache or empty, "HF_HUB_OFFLINE": "1"}
                started = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-c", code, *arguments],
                    env=environment,
                    check=True,
                    capture_output=True,
                )
                seconds[name].append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    main()
