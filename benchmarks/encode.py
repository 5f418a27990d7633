"""Texts a second on one machine: jsbert compared with sentence-transformers, onnxruntime and
OpenVINO.

python -m benchmarks.encode [--quick] [--peer-python PATH]

Models: the bundled model, all-MiniLM-L6-v2, the shapes of a BERT base and an MPNet base with random
weights, and MiniLM as a cross-encoder with a random head.

Loads have distinct texts. "short" has sentences, "long" has documents of 200 to 256 tokens, "mixed"
has four of five short and one of five long texts, shuffled. "pairs" has pairs of sentences for the
cross-encoder.

Each engine is a process of its own (`benchmarks.lib.serve`) with all the threads. The engines take
turns, and each runs with the settings that were fastest on a part of the load. Tokenising counts.
Opening and compiling have a table of their own. "jsbert-onnx" and "jsbert-openvino" are jsbert with
`backend=`; "onnxruntime" and "openvino" run the graph that torch exports, without jsbert. A peer
whose packages are missing is left out, and the output names the missing packages; --peer-python
names an interpreter that has the packages.

With --device gpu, the engines are jsbert with its own attention and with cuDNN's, and
sentence-transformers with SDPA and with flash-attention.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
from typing import Any

import jax
import numpy as np

from benchmarks.lib import report
from benchmarks.lib.engines import ENGINES
from benchmarks.lib.processes import EngineProcess, missing_modules
from benchmarks.lib.sentences import docstring_sentences, documents, fingerprint, shuffled
from benchmarks.pairwise import base_shape
from jsbert import CrossEncoder, SentenceTransformer
from jsbert.checkpoint import (
    bundled_models,
    find_folder,
    new_cross_encoder,
    read_bi_encoder,
    write_bi_encoder,
    write_cross_encoder,
)
from jsbert.encoders import bert, mpnet
from jsbert.engine import padding_share, plan

TEACHER = "all-MiniLM-L6-v2"
BASES, CROSS = {"bert-base-shape": bert, "mpnet-base-shape": mpnet}, "cross-encoder"
COUNTS = {"short": 3000, "mixed": 600, "long": 180, "pairs": 1500}
"""The number of texts of each load. A base model gets a tenth of the number."""

RATES = {"cpu": {}, "gpu": {"rows": 8192, "inputs": 8192, "outputs": 8192, "dtype": "bfloat16"}}
"""The shape of the product whose rate is the unit of the other rates; see
`report.matmul_flops_per_second`."""

SINGLE_TEXTS = 100
"""The number of texts encoded one by one for the latency."""


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, and return what is written as JSON."""
    options = _options(argv)
    # The engines share a GPU's memory, so none of them may reserve most of the memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    values = report.circumstances()
    report.print_circumstances(values)
    names = _engines_here(options)
    place = "" if options.device == "cpu" else f"{options.device}-"
    name = f"encode-{place}python" + values["python"].rpartition(".")[0]
    rows, starts, loads, rates = [], [], {}, []
    with tempfile.TemporaryDirectory() as work:
        for model in options.model:
            folder = _copy(model, pathlib.Path(work) / pathlib.Path(model).name)
            opened = (CrossEncoder if model == CROSS else SentenceTransformer)(
                folder, device=options.device
            )
            texts, loads[model] = _loads(opened, options)
            files = {
                load: report.write_json(load, chosen, folder / "texts")
                for load, chosen in texts.items()
            }
            found = _measure(names, folder, files, options, rates)
            rows += [
                {"model": model} | row
                for row in _with_ratios(found, loads[model], statistics.median(rates))
            ]
            _print_rows([row for row in rows if row["model"] == model], loads[model])
            started = _starts(names, folder, next(iter(texts.values()))[:SINGLE_TEXTS], options)
            starts += [{"model": model} | row for row in started]
            _print_starts(started)
            # Write the file after each model, because a later model may fail.
            values |= {
                "matmul_flops_per_second": rates,
                "loads": loads,
                "rows": rows,
                "starts": starts,
            }
            written = report.write_json(name, values, options.out)
            _draw(rows, options.out / f"{name}.png")
    kind = RATES[options.device].get("dtype", "float32")
    rate = statistics.median(rates) / 1e9
    print(f"{kind} matmul rate, measured between the turns: {rate:,.0f} GFLOP/s")
    print("written:", written)
    return values


def _engines_here(options):
    """Return the engines that can run: {name: the interpreter of the engine}."""
    here = {}
    for name in options.engine:
        python = sys.executable if name.startswith("jsbert") else options.peer_python
        if missing := missing_modules(name, python):
            print(f"without {name}: its interpreter lacks {', '.join(missing)}")
        else:
            here[name] = python
    return here


def _copy(model, folder):
    """Return a copy of the model's folder, because ONNX graphs are written into the folder."""
    source = find_folder(TEACHER if model == CROSS else None if model in BASES else model)
    if model in BASES:
        write_bi_encoder(folder, base_shape(read_bi_encoder(source), BASES[model]))
    elif model == CROSS:
        write_cross_encoder(
            folder, new_cross_encoder(read_bi_encoder(source), 1, jax.random.key(0))
        )
    else:
        shutil.copytree(source, folder)
    return folder


def _loads(model, options):
    """Return (the texts of each load, a description of each load)."""

    def num_tokens(text):
        return len(model.tokenizer.backend.encode(text).ids)

    encoder = model.config.encoder
    share = options.share * (0.1 if encoder.hidden_size == 768 else 1)
    counts = {load: max(20, round(count * share)) for load, count in COUNTS.items()}
    sentences = shuffled(docstring_sentences(), 0)
    if isinstance(model, CrossEncoder):
        pairs = list(zip(sentences[::2], sentences[1::2], strict=False))[: counts["pairs"]]
        return {"pairs": pairs}, {"pairs": _about(model, encoder, pairs)}
    at_least = min(200, model.max_seq_length)
    long_ones = documents(
        reversed(sentences), counts["long"] + counts["mixed"] // 5, at_least, num_tokens
    )
    num_short = counts["mixed"] - counts["mixed"] // 5
    texts = {
        "short": sentences[: counts["short"]],
        "mixed": shuffled(sentences[:num_short] + long_ones[counts["long"] :], 1),
        "long": long_ones[: counts["long"]],
    }
    texts = {load: chosen for load, chosen in texts.items() if load in options.load}
    return texts, {load: _about(model, encoder, chosen) for load, chosen in texts.items()}


def _about(model, encoder, texts):
    lengths = model.tokenizer(texts).lengths
    batches = plan(
        lengths, max_length=model.max_seq_length, token_budget=model.engine.placement.token_budget
    )
    edges = [0, 8, 16, 32, 64, 128, 192, 256]
    return {
        "num_texts": len(texts),
        "sha256": fingerprint(
            [text if isinstance(text, str) else "\t".join(text) for text in texts]
        ),
        "tokens": int(lengths.sum()),
        "tokens_histogram": {
            "edges": edges,
            "counts": np.histogram(lengths - 0.5, edges)[0].tolist(),
        },
        "shapes": len({(batch.rows, batch.length) for batch in batches}),
        "padding_share": padding_share(lengths, batches),
        "matmul_flops": matmul_flops(encoder, lengths),
    }


def _measure(names, folder, files, options, rates):
    """Return a row for each engine and load, with the seconds of each turn."""
    engines = {
        name: EngineProcess(name, folder, python, options.device) for name, python in names.items()
    }
    try:
        rows = []
        for load, file in files.items():
            reference = None
            for name, engine in engines.items():
                chosen = engine.ask(tune=_part(file))
                # This request compiles, too.
                warm = engine.ask(texts=file, out=folder / "vectors.npy")
                vectors = np.load(folder / "vectors.npy")
                reference = vectors if reference is None else reference
                rows.append(
                    {"load": load, "engine": name, "settings": chosen["settings"], "seconds": []}
                )
                rows[-1] |= _agreement(vectors, reference) | {
                    "compile_seconds": warm.get("compile_seconds")
                }
            for _ in range(options.repeats):
                rates.append(report.matmul_flops_per_second(**RATES[options.device]))
                for row in rows[-len(engines) :]:
                    answer = engines[row["engine"]].ask(texts=file)
                    row["seconds"].append(answer["seconds"])
                    row["peak_mb"] = answer["peak_mb"]
        return rows
    finally:
        for engine in engines.values():
            engine.close()


def _part(file):
    """Write a file with every eighth of the texts, but at least 64 texts, or all texts if there are
    fewer."""
    texts = json.loads(file.read_text(encoding="utf8"))
    return report.write_json(
        f"part-{file.stem}", texts[:: max(1, min(8, len(texts) // 64))], file.parent
    )


def _agreement(vectors, reference):
    """Compare an engine's vectors, or scores, with the vectors of the first engine."""
    difference = {"largest_difference": float(np.abs(vectors - reference).max())}
    if vectors.shape[1] == 1:
        return difference
    cosines = (
        (vectors * reference).sum(1)
        / np.linalg.norm(vectors, axis=1)
        / np.linalg.norm(reference, axis=1)
    )
    return difference | {"mean_cosine": float(cosines.mean()), "min_cosine": float(cosines.min())}


def _with_ratios(rows, loads, rate):
    """Add rates, and the ratio to the best peer of the same precision, to the rows."""
    for row in rows:
        load, seconds = loads[row["load"]], statistics.median(row["seconds"])
        row["texts_per_second"] = load["num_texts"] / seconds
        row["tokens_per_second"] = load["tokens"] / seconds
        row["share_of_matmul_rate"] = load["matmul_flops"] / seconds / rate
    for row in rows:
        peers = [peer["texts_per_second"] for peer in rows if _are_peers(peer, row)]
        row["times_best_peer"] = row["texts_per_second"] / max(peers) if peers else None
    return rows


def _are_peers(peer, row):
    same = peer["load"] == row["load"] and peer["engine"].split()[1] == row["engine"].split()[1]
    return same and not peer["engine"].startswith("jsbert")


def _starts(names, folder, texts, options):
    """Return a row for each engine: the seconds to the first vector of a fresh process with warm
    caches, and the latency of one text at a time."""
    one = report.write_json("one", texts[:1], folder / "texts")
    many = report.write_json("single", texts, folder / "texts")
    rows = {name: {"engine": name, "first_vector_seconds": []} for name in names}
    for turn in range(options.repeats):
        for name, python in names.items():
            engine = EngineProcess(name, folder, python, options.device)
            engine.ask(texts=one)
            rows[name]["first_vector_seconds"].append(engine.seconds_since_start())
            if turn == 0:
                engine.ask(single=many)
                rows[name]["milliseconds"] = engine.ask(single=many)["milliseconds"]
                rows[name]["peak_mb"] = engine.ask(texts=one)["peak_mb"]
            engine.close()
    return list(rows.values())


def _print_rows(rows, loads):
    print()
    for name, load in loads.items():
        print(
            f"{rows[0]['model']}, {name}: {load['num_texts']} texts, "
            f"{load['tokens'] / load['num_texts']:.1f} tokens each, "
            f"jsbert's {load['shapes']} shapes with {load['padding_share']:.1%} padding"
        )
    header = ["load", "engine", "settings", "seconds", "texts/s", "tokens/s", "of matmul rate"]
    header += ["x best peer", "largest difference", "mean cosine", "min cosine", "peak MB"]
    cells = []
    for row in rows:
        ratio = row["times_best_peer"]
        cosines = [row.get(name) for name in ("mean_cosine", "min_cosine")]
        cells.append([
            row["load"], row["engine"], ", ".join(map(str, row["settings"].values())),
            report.spread(row["seconds"], 2),
            f"{row['texts_per_second']:,.0f}", f"{row['tokens_per_second']:,.0f}",
            f"{row['share_of_matmul_rate']:.0%}", "" if ratio is None else f"{ratio:.2f}",
            f"{row['largest_difference']:.1e}",
            *("" if cosine is None else f"{cosine:.6f}" for cosine in cosines),
            f"{row['peak_mb'] or 0:,.0f}",
        ])  # fmt: skip
    report.print_table(header, cells)


def _print_starts(rows):
    header = ["engine", "fresh process, first vector, s", "one text, median ms"]
    header += ["p99 ms", "peak MB"]
    cells = []
    for row in rows:
        median, p99 = np.percentile(row["milliseconds"], [50, 99])
        first = report.spread(row["first_vector_seconds"], 2)
        cells.append(
            [row["engine"], first, f"{median:.2f}", f"{p99:.2f}", f"{row['peak_mb'] or 0:,.0f}"]
        )
    report.print_table(header, cells)


def matmul_flops(config: Any, lengths: np.ndarray) -> float:
    """Return the floating-point operations of a BERT's products over texts of these lengths,
    without padding."""
    width, inner = config.hidden_size, config.intermediate_size
    per_token = 2 * (4 * width * width + 2 * width * inner)
    per_pair = 2 * 2 * width  # the scores, and the products of weights and values
    return float(
        config.num_hidden_layers * (per_token * lengths.sum() + per_pair * np.square(lengths).sum())
    )


def _draw(rows, file):
    """Draw the texts a second of each engine, with a panel for each model and load."""
    if (plt := report.pyplot()) is None:
        return
    models, loads, engines = (
        list(dict.fromkeys(row[key] for row in rows)) for key in ("model", "load", "engine")
    )
    colors = {
        "jsbert": "tab:red",
        "jsbert-cudnn": "tab:orange",
        "jsbert-onnx": "tab:green",
        "jsbert-openvino": "tab:olive",
        "sentence-transformers": "0.75",
        "onnxruntime": "tab:blue",
        "openvino": "tab:purple",
    }
    size = (4 * len(loads), 0.6 + 2.4 * len(models))
    figure, axes = plt.subplots(len(models), len(loads), figsize=size, squeeze=False, sharey=True)
    for row in rows:
        ax = axes[models.index(row["model"])][loads.index(row["load"])]
        ax.barh(
            engines.index(row["engine"]),
            row["texts_per_second"],
            color=colors.get(row["engine"].split()[0], "0.5"),
        )
        ax.set_title(f"{row['model']}, {row['load']}, texts/s", fontsize=9)
    for ax in axes.flat:
        ax.set_yticks(range(len(engines)), engines, fontsize=7)
        ax.tick_params(axis="x", labelsize=7)
    axes[0][0].invert_yaxis()
    report.save_figure(figure, file)


def _options(argv) -> argparse.Namespace:
    parser = report.parser(__doc__)
    add = parser.add_argument
    add(
        "--model",
        action="append",
        help=f"a folder, a name, {', '.join(BASES)} or {CROSS}; repeatable (default: all)",
    )
    known = dict.fromkeys(name for names in ENGINES.values() for name in names)
    add(
        "--engine", action="append", choices=known, help="repeatable (default: all of the device's)"
    )
    add("--device", choices=ENGINES, default="cpu", help="where all engines compute (cpu)")
    add("--load", action="append", choices=COUNTS, help="repeatable (default: all)")
    add("--repeats", type=int, default=3, help="turns of each engine (default 3)")
    add("--share", type=float, default=1.0, help="of the number of texts (default 1)")
    add(
        "--peer-python",
        default=sys.executable,
        help="the interpreter that runs the peers (default: this one)",
    )
    add(
        "--quick",
        action="store_true",
        help="the default model, a quarter of the texts, one turn: some two minutes",
    )
    options = parser.parse_args(argv)
    if options.quick:
        options.share, options.repeats = options.share / 4, 1
    models = [*dict.fromkeys(bundled_models().values()), *BASES, CROSS]
    options.model = options.model or (models[:1] if options.quick else models)
    options.engine, options.load = (
        options.engine or list(ENGINES[options.device]),
        options.load or list(COUNTS),
    )
    return options


if __name__ == "__main__":
    main()
