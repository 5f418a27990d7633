"""Short sentences a second, beside sentence-transformers in the same run, taking turns, tokenisation included.

python -m benchmarks.encode
"""

import functools
import os
import pathlib
import statistics
import time
from typing import Any

import numpy as np

import jsbert
from benchmarks import report
from benchmarks.sentences import docstring_sentences, file_sentences, fingerprint, shuffled
from jsbert.batching import padding_share, plan
from jsbert.checkpoint import find_folder
from jsbert.device import token_budget


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Runs the benchmark; returns what it writes."""
    parser = report.parser(__doc__)
    parser.add_argument(
        "--sentences", type=pathlib.Path, help="a text file, one sentence a line, instead of docstrings"
    )
    parser.add_argument("--count", type=int, default=8000, help="sentences (default 8000)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, taking turns (default 5)")
    options = parser.parse_args(argv)
    values = report.circumstances()
    report.print_circumstances(values)
    sentences = file_sentences(options.sentences) if options.sentences else docstring_sentences()
    texts = shuffled(sentences, 0)[: options.count]

    model = jsbert.SentenceTransformer()
    tokens = model.tokenizer(texts)
    batches = plan(tokens.lengths, max_length=model.max_seq_length, token_budget=token_budget(model.devices))
    shapes = len({(batch.rows, batch.length) for batch in batches})
    print(
        f"{len(texts)} sentences, sha256 {fingerprint(texts)}, {tokens.lengths.mean():.1f} tokens each "
        f"(median {np.median(tokens.lengths):.0f}, longest {tokens.lengths.max()}); "
        f"{len(batches)} batches of {shapes} shapes, {padding_share(tokens.lengths, batches):.1%} padding\n"
    )
    engines = {"jsbert float32": model.encode, "jsbert bfloat16": jsbert.SentenceTransformer(dtype="bfloat16").encode}
    if report.has_torch():
        engines["sentence-transformers float32"] = _torch_encode()
    vectors = {name: encode(texts) for name, encode in engines.items()}  # compiles, and warms up
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    rates = []
    for _ in range(options.repeats):
        rates.append(report.matmul_flops_per_second())
        for name, encode in engines.items():
            started = time.perf_counter()
            encode(texts)
            seconds[name].append(time.perf_counter() - started)
    peak, flops = statistics.median(rates), matmul_flops(model.config.encoder, tokens.lengths)
    peer = statistics.median(seconds.get("sentence-transformers float32", [float("nan")]))
    exact = vectors["jsbert float32"]
    rows = []
    for name, times in seconds.items():
        median = statistics.median(times)
        rows.append(
            {
                "engine": name,
                "seconds": times,
                "sentences_per_second": len(texts) / median,
                "tokens_per_second": int(tokens.lengths.sum()) / median,
                "share_of_float32_matmul_rate": flops / median / peak,
                "times_sentence_transformers": peer / median,
                "smallest_cosine_to_jsbert_float32": float((vectors[name] * exact).sum(1).min()),
            }
        )
    report.print_table(
        [
            "engine",
            "seconds",
            "sentences/s",
            "tokens/s",
            "of fp32 matmul rate",
            "x sentence-transformers",
            "min cosine",
        ],
        [
            [
                row["engine"],
                report.spread(row["seconds"], 2),
                f"{row['sentences_per_second']:,.0f}",
                f"{row['tokens_per_second']:,.0f}",
                f"{row['share_of_float32_matmul_rate']:.0%}",
                f"{row['times_sentence_transformers']:.2f}",
                f"{row['smallest_cosine_to_jsbert_float32']:.6f}",
            ]
            for row in rows
        ],
    )
    print(
        f"float32 matmul rate measured between the runs: {peak / 1e9:.0f} GFLOP/s; "
        "the share counts the products of real tokens, padding not"
    )
    values |= {
        "num_texts": len(texts),
        "matmul_flops_per_second": rates,
        "matmul_flops": flops,
        "shapes": shapes,
        "rows": rows,
    }
    print("written:", report.write_json("encode-short", values, options.out))
    return values


def matmul_flops(config: Any, lengths: np.ndarray) -> float:
    """Floating-point operations of a BERT's products over texts of these lengths, without padding."""
    width, inner = config.hidden_size, config.intermediate_size
    per_token = 2 * (4 * width * width + 2 * width * inner)
    per_pair = 2 * 2 * width  # scores, and their products with the values
    return float(config.num_hidden_layers * (per_token * lengths.sum() + per_pair * np.square(lengths).sum()))


def _torch_encode():
    import sentence_transformers
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = sentence_transformers.SentenceTransformer(str(find_folder()), device="cpu")
    return functools.partial(model.encode, show_progress_bar=False)


if __name__ == "__main__":
    main()
