"""What a billion sentences cost, on paper, and what dead and slow workers cost, simulated.

python -m benchmarks.scale [--price CPU=0.10 --price H200=4.00 --price v5e=1.20]

Nothing is measured here. The rates come from `results/` and from `H200` below. A text of another
length, or a model that was not measured, is scaled by the arithmetic of its matrix products.
"""

import argparse
import heapq
import json
import math
import pathlib
import random
import statistics
from typing import NamedTuple

RESULTS = pathlib.Path(__file__).parent / "results"

PRICES = {"CPU": 0.10, "H200": 4.00, "v5e": 1.20}
"""Money an hour for 2 CPU cores, an H200 with its host, a chip of TPU v5e with its host.
Assumptions of 2026-11-28 without a source: put your own in."""

CORPORA = {"sentences": (10**9, 20), "documents": (10**8, 250)}
"""Texts, and tokens of a text."""

MODELS = {
    "jsbert-mini-en": (3, 384, 1536),
    "all-MiniLM-L6-v2": (6, 384, 1536),
    "BERT base": (12, 768, 3072),
}
"""Layers, width, inner width."""

CPU = {
    "jsbert-mini-en": ("encode-python3.11.json", "jsbert-mini-en"),
    "all-MiniLM-L6-v2": ("encode-python3.11.json", "all-MiniLM-L6-v2"),
    "BERT base": ("xeon-amx/bases-python3.11.json", "bert-base-shape"),
}
"""The file of results, and the model's name there. The dtype is bfloat16."""

SHORT, ABSTRACT = 325_976 / 20_000, (622_290 - 8_000 * 325_976 / 20_000) / 2_000
"""Mean tokens of the two kinds of texts that the H200 encoded."""

H200 = {
    ("jsbert-mini-en", "sentences"): ({SHORT: 20_000}, 0.237, 0.186),
    ("jsbert-mini-en", "documents"): ({SHORT: 8_000, ABSTRACT: 2_000}, 0.333, 0.219),
    ("BERT base", "documents"): ({SHORT: 8_000, ABSTRACT: 2_000}, 0.634, 0.247),
    ("BERT base", "sentences"): ({16.0: 2_048}, 0.0215, 0.0),
}
"""Texts by their tokens, seconds of a warm call, and seconds of it in which the host tokenises and
the device waits. BERT base on sentences is one batch without a host. Measured on an NVIDIA H200
with 16 CPU cores on 2026-11-26: jax 0.11.2, flax 0.12.12, bfloat16, commit d999744; BERT base with
random weights and attention by cuDNN."""

V5E_ROWS = {"sentences": (256, 128), "documents": (64, 512)}
"""Rows and tokens of a row of the program that packs such texts."""

BYTES_PER_TOKEN = 4.5
"""Bytes of English text for each token: an assumption."""

BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "bits": 1 / 8}
"""Bytes of a dimension."""

SHARD_ROWS = 32_768
"""The default of `jsbert embed`."""

WORK_HOURS, RESTART_HOURS, MEAN_LIFE_HOURS = 1000.0, 5 / 60, 24.0
"""The simulated corpus, for one worker of speed 1; from a death to the next start; a worker's mean
time until it dies."""

SLOW_SPEED = 0.5
"""The speed of one worker of 20; the others have .9 to 1.1."""


class Outcome(NamedTuple):
    """Hours of a run; hours of computing that deaths threw away; deaths that took a shard."""

    hours: float
    lost_hours: float
    deaths: int


def matmul_flops(model: str, length: float) -> float:
    """Return the floating-point operations of the products for a text of this many tokens."""
    layers, width, inner = MODELS[model]
    return layers * length * (4 * width * (2 * width + inner) + 4 * width * length)


def bill(prices: dict[str, float]) -> list[dict]:
    """Return a row for each device, corpus and model: hours of one device, at most and at least,
    money for the most, and where the rate comes from."""
    rows = []
    for device, hours in (("CPU", _cpu), ("H200", _h200), ("v5e", _v5e)):
        for corpus, (texts, length) in CORPORA.items():
            for model in MODELS:
                most, least, source = hours(corpus, model)
                rows.append({
                    "device": device, "corpus": corpus, "model": model, "hours": most,
                    "least": least, "money": most * prices[device],
                    "tokens_per_second": texts * length / least / 3600, "source": source,
                })  # fmt: skip
    return rows


def _cpu(corpus, model):
    texts, length = CORPORA[corpus]
    load = {"sentences": "short", "documents": "long"}[corpus]
    file, name = CPU[model]
    results = json.loads((RESULTS / file).read_text(encoding="utf8"))
    wanted = name, load, "jsbert bfloat16"
    (row,) = [r for r in results["rows"] if (r["model"], r["load"], r["engine"]) == wanted]
    flops = results["loads"][name][load]["matmul_flops"]
    seconds = statistics.median(row["seconds"]) / flops * matmul_flops(model, length) * texts
    return seconds / 3600, seconds / 3600, f"{file}, {load}"


def _h200(corpus, model):
    texts, length = CORPORA[corpus]
    like = "jsbert-mini-en" if model == "all-MiniLM-L6-v2" else model
    counts, total, host = H200[like, corpus]
    flops = sum(n * matmul_flops(like, tokens) for tokens, n in counts.items())
    device = (total - host) / flops * matmul_flops(model, length) * texts
    if not host:
        counts, _, host = H200["jsbert-mini-en", corpus]
    host *= texts * length / sum(n * tokens for tokens, n in counts.items())
    source = {
        ("BERT base", "sentences"): "batch 2,048 x 16, and the bundled model's host",
        ("BERT base", "documents"): "mixed, cuDNN",
    }.get((model, corpus), {"sentences": "short", "documents": "mixed"}[corpus])
    source += ", by FLOP" if like != model else ""
    return (device + host) / 3600, max(device, host) / 3600, source


def _v5e(corpus, model):
    texts, length = CORPORA[corpus]
    rows, width = V5E_ROWS[corpus]
    results = json.loads((RESULTS / "aot.json").read_text(encoding="utf8"))
    (row,) = [
        r for r in results["rows"]
        if (r["what"], r.get("model"), r.get("rows"), r.get("length"))
        == ("encode", "bert", rows, width)
    ]  # fmt: skip
    arithmetic = matmul_flops(model, width) / matmul_flops("BERT base", width)
    (layers, size, _), (all_layers, full, _) = MODELS[model], MODELS["BERT base"]
    memory = layers * size / (all_layers * full)
    ms = max(row["arithmetic_ms"] * arithmetic, row["memory_ms"] * memory)
    hours = texts / (rows * (width // length)) * ms / 1e3 / 3600
    source = f"aot.json, {rows} x {width}" + ("" if model == "BERT base" else ", in proportion")
    return hours, hours, source


def simulate(
    workers: int,
    shards: int,
    shard_hours: float,
    *,
    speeds: list[float],
    life_hours: float = math.inf,
    restart_hours: float = 0.0,
    seed: int = 0,
) -> Outcome:
    """Return what a run takes. A free worker takes the next shard. A worker that dies gives its
    shard back, and another worker takes its place after `restart_hours`. As with Ray actors, a
    worker without a shard to take is let go.

    Args:
        workers: how many, at least 1.
        shards: how many, all of the same size.
        shard_hours: a shard's time at speed 1.
        speeds: of each worker.
        life_hours: a worker's mean time until it dies; times are exponential.
        restart_hours: from a death to the next start.
        seed: of the deaths.
    """
    generator = random.Random(seed)
    # (time, worker, what happens then: 1 a shard is done, 0 the worker is free, -1 it dies)
    events = [(0.0, worker, 0) for worker in range(workers)]
    todo, done, lost, deaths, time = shards, 0, 0.0, 0, 0.0
    while done < shards:
        time, worker, what = heapq.heappop(events)
        if what < 0:
            todo += 1
            heapq.heappush(events, (time + restart_hours, worker, 0))
            continue
        done += what
        if todo:
            todo -= 1
            needs = shard_hours / speeds[worker]
            lives = generator.expovariate(1 / life_hours) if life_hours < math.inf else math.inf
            if lives < needs:
                lost, deaths = lost + lives, deaths + 1
            heapq.heappush(events, (time + min(lives, needs), worker, 1 if lives >= needs else -1))
    return Outcome(time, lost, deaths)


def worker_speeds(workers: int, seed: int = 0) -> list[float]:
    """Return the speeds of workers, of which one in 20, and at least one, is slow."""
    generator = random.Random(seed)
    slow = max(1, workers // 20)
    return [SLOW_SPEED] * slow + [generator.uniform(0.9, 1.1) for _ in range(workers - slow)]


def simulations(seeds: int = 5) -> list[dict]:
    """Return a row for each number of workers and shard size: time over the ideal, and the share of
    computing that is lost, simulated (means) and by formula. The ideal divides the work by speeds,
    without deaths and without shards."""
    rows = []
    for workers in (10, 100, 1000):
        for minutes in (1, 10, 60):
            hours = minutes / 60
            shards = round(WORK_HOURS / hours)
            ratios, shares = [], []
            for seed in range(seeds):
                speeds = worker_speeds(workers, seed)
                found = simulate(
                    workers, shards, hours, speeds=speeds, life_hours=MEAN_LIFE_HOURS,
                    restart_hours=RESTART_HOURS, seed=seed,
                )  # fmt: skip
                ideal = WORK_HOURS / sum(speeds)
                ratios.append(found.hours / ideal)
                shares.append(found.lost_hours / (ideal * workers))
            half = hours / 2 / MEAN_LIFE_HOURS
            tail = hours / SLOW_SPEED / (WORK_HOURS / sum(worker_speeds(workers)))
            rows.append({
                "workers": workers, "minutes": minutes, "shards": shards,
                "ratio": statistics.mean(ratios),
                "formula": 1 + half + RESTART_HOURS / MEAN_LIFE_HOURS + tail,
                "lost": statistics.mean(shares), "half": half,
            })  # fmt: skip
    return rows


def tables(prices: dict[str, float]) -> str:
    """Return the tables of docs/scale.md."""
    lines = [
        "| device | corpus | model | hours | at best | money | tokens/s | MB of text/s | from |",
        "|---|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in bill(prices):
        lines.append(
            f"| {row['device']} | {row['corpus']} | {row['model']} | {_number(row['hours'])} | "
            f"{_number(row['least'])} | {_number(row['money'])} | {row['tokens_per_second']:,.0f} "
            f"| {row['tokens_per_second'] * BYTES_PER_TOKEN / 1e6:,.2f} | {row['source']} |"
        )
    lines += ["", "| vectors | float32 | float16 | int8 | bits |", "|---|---:|---:|---:|---:|"]
    for corpus, (texts, _) in CORPORA.items():
        for dim in (384, 768):
            sizes = " | ".join(f"{texts * dim * each / 1e9:,.1f} GB" for each in BYTES.values())
            lines.append(f"| {texts:,} {corpus}, {dim} dimensions | {sizes} |")
    lines += [
        "",
        "| workers | shard, minutes | shards | time / ideal | formula | lost | formula |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in simulations():
        lines.append(
            f"| {row['workers']:,} | {row['minutes']} | {row['shards']:,} | {row['ratio']:.3f} | "
            f"{row['formula']:.3f} | {100 * row['lost']:.2f} % | {100 * row['half']:.2f} % |"
        )
    return "\n".join(lines)


def _number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def main(argv: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--price", action="append", default=[], metavar="DEVICE=MONEY",
        help=f"money an hour of one of {', '.join(PRICES)}",
    )  # fmt: skip
    prices = dict(PRICES)
    for given in parser.parse_args(argv).price:
        device, _, money = given.partition("=")
        try:
            prices[device] = float(money)
        except ValueError:
            device = ""
        if device not in PRICES:
            parser.error(f"--price {given!r}: give one of {', '.join(PRICES)}, = and a number")
    print(tables(prices))


if __name__ == "__main__":
    main()
