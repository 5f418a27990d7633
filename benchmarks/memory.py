"""Memory of `encode` over a million short sentences, in addition to the memory of a loaded, warm
model.

python -m benchmarks.memory [--count 1000000]

Linux only: the peak is the kernel's (VmHWM, reset before the call). The texts are in memory before
the call. The vectors, which the call returns, are subtracted.
"""

import pathlib
import random
import re
import time
from typing import Any

from benchmarks.lib import report
from benchmarks.lib.processes import memory_mb
from benchmarks.lib.sentences import docstring_sentences
from jsbert import SentenceTransformer

WARM_UP = 2 * 32_768
"""The number of texts encoded beforehand: two windows, so that one window is tokenised while the
other is computed."""


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, and return what is written as JSON."""
    options = _options(argv)
    values = report.circumstances()
    report.print_circumstances(values)
    texts = short_texts(options.count, options.words)
    model = SentenceTransformer(options.model, dtype=options.dtype)
    model.encode(texts[:WARM_UP], on_truncate="ignore")
    before = _reset_peak_mb()
    started = time.perf_counter()
    vectors = model.encode(texts, show_progress_bar=True, on_truncate="ignore")
    seconds = time.perf_counter() - started
    returned = vectors.nbytes / 2**20
    above = memory_mb("VmHWM") - before - returned
    tokens = float(model.tokenizer(texts[:1000]).lengths.mean())
    print(
        f"{options.count:,} texts of {tokens:.1f} tokens in {seconds:.0f} s "
        f"({options.count / seconds:,.0f}/s): peak {above:,.0f} MB above {before:,.0f} MB "
        f"(model and texts) and {returned:,.0f} MB of vectors"
    )
    values |= {
        "count": options.count,
        "tokens_per_text": tokens,
        "dtype": model.dtype,
        "seconds": seconds,
    }
    values |= {"before_mb": before, "returned_mb": returned, "above_mb": above}
    print("written:", report.write_json("memory", values, options.out))
    return values


def short_texts(count: int, words: int) -> list[str]:
    """Return distinct texts: this many words, drawn from real sentences, and a number."""
    vocabulary = sorted(
        {word for text in docstring_sentences(3000) for word in re.findall(r"[a-z]+", text)}
    )
    generator = random.Random(0)
    return [" ".join([*generator.choices(vocabulary, k=words), str(n)]) for n in range(count)]


def _reset_peak_mb():
    """Reset the peak, and return the memory in use."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return memory_mb("VmRSS")


def _options(argv):
    parser = report.parser(__doc__)
    add = parser.add_argument
    add("--model", help="a folder or name (the default model)")
    add("--dtype", default="auto", help="of the matrix products (auto)")
    add("--count", type=int, default=1_000_000, help="texts (default 1,000,000)")
    add("--words", type=int, default=4, help="words of a text, without its number (default 4)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
