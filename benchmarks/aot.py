"""What a TPU's compiler makes of jsbert's programs, without a TPU: seconds to compile, arithmetic,
bytes that go through memory, and the time that the two allow. Compiled, not run.

python -m benchmarks.aot [--what encode|train|search] [--model bert] [--shape 256x128] [--json]

Needs `pip install 'jsbert[aot]'` (libtpu) and Python 3.12 or newer. Without --what, --model and
--shape, all programs are compiled: every encoder family of base size, a training step, and a block
of a search. Each result is written as it comes.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # asks no cloud what machine this is
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # looks for no TPU

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from benchmarks.lib import report
from jsbert import encoders
from jsbert.compute import Compute
from jsbert.config import Config
from jsbert.encoders import (
    albert,
    bert,
    distilbert,
    electra,
    gte,
    modernbert,
    mpnet,
    nomic_bert,
    qwen3,
    roberta,
)
from jsbert.encoders.casting import in_dtype
from jsbert.engine.rows import SLOTS
from jsbert.outputs import sentence_vectors
from jsbert.search import nearest

MODELS = {
    "bert": bert.Config(),
    "roberta": roberta.Config(),
    "mpnet": mpnet.Config(),
    "distilbert": distilbert.Config(),
    "electra": electra.Config(hidden_size=768, num_attention_heads=12, intermediate_size=3072),
    "albert": albert.Config(
        hidden_size=768, num_attention_heads=12, intermediate_size=3072, vocab_size=30000
    ),
    "modernbert": modernbert.Config(),
    "nomic_bert": nomic_bert.Config(),
    "gte": gte.Config(),
    "qwen3": qwen3.Config(
        hidden_size=1024,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=3072,
    ),
}
"""Every family at its base size; Qwen3 at the size of Qwen3-Embedding-0.6B."""

CHIPS = {"v5e": ("v5e:2x2", 197e12, 819e9), "v6e": ("v6e:2x2", 918e12, 1640e9)}
"""Topology, bfloat16 FLOP/s and bytes/s of a chip, by the vendor's data sheets."""

SHAPES = ((256, 128), (64, 512))

TRAIN_SHAPES = ((64, 128),)
"""32 pairs: the activations of 128 pairs take more memory than a v5e has, without `remat`."""


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Compile what the options ask for; returns a dict for each program."""
    options = _options(argv)
    if importlib.util.find_spec("libtpu") is None:
        raise SystemExit(
            "compiling for a TPU needs libtpu: pip install 'jsbert[aot]', with Python 3.12 or newer"
        )
    sharding = _sharding(options.chip)
    if not options.json:
        report.print_circumstances(report.circumstances())
    rows = []
    for job in _jobs(options):
        try:
            row = job | _compiled(job, options, sharding)
        except jax.errors.JaxRuntimeError as error:  # the chip's memory is too small
            row = job | {"chip": options.chip, "error": str(error).splitlines()[0]}
        rows.append(row)
        print(json.dumps(row) if options.json else _line(row), flush=True)
        if not options.json:
            values = report.circumstances() | {"chip": options.chip, "rows": rows}
            report.write_json("aot", values, options.out)
    return rows


def _jobs(options):
    models = [options.model] if options.model else list(MODELS)
    shapes = [options.shape] if options.shape else list(SHAPES)
    kinds = [options.what] if options.what else ["encode", "train", "search"]
    jobs = []
    for what in kinds:
        if what == "search":
            jobs.append({"what": what})
        for model in models if what == "encode" else models[:1] if what == "train" else ():
            default = shapes if what == "encode" else TRAIN_SHAPES
            for rows, length in [options.shape] if options.shape else default:
                shape = {"rows": rows, "length": length, "dtype": options.dtype}
                jobs.append({"what": what, "model": model} | shape)
    return jobs


def _sharding(chip):
    import jax.experimental.topologies

    topology = jax.experimental.topologies.get_topology_desc(
        platform="tpu", topology_name=CHIPS[chip][0], chips_per_host_bounds=[2, 2, 1]
    )
    return NamedSharding(Mesh(np.array(topology.devices[:1]), ("x",)), PartitionSpec())


def _compiled(job, options, sharding) -> dict[str, Any]:
    """Compile a job's program. Arithmetic and bytes count a scanned body as often as it runs: XLA
    counts the body once, so a second program without the loop says what the body adds."""

    def placed(tree: PyTree) -> PyTree:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    function, arguments, turns = {"encode": _encode, "train": _train, "search": _search}[
        job["what"]
    ](job)
    arguments = jax.tree.map(placed, arguments)
    started = time.perf_counter()
    lowered = jax.jit(function, out_shardings=sharding).lower(*arguments)
    lowered_at = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - lowered_at
    cost = _cost(compiled)
    if turns > 1 and not options.once:
        rest = _cost(_without_loop(function, sharding, arguments, turns))
        cost = {name: rest[name] + turns * (cost[name] - rest[name]) for name in cost}
    memory = compiled.memory_analysis()
    _, flops, bandwidth = CHIPS[options.chip]
    return {
        "chip": options.chip,
        "lower_seconds": round(lowered_at - started, 2),
        "compile_seconds": round(seconds, 2),
        "flops": cost["flops"],
        "bytes_accessed": cost["bytes accessed"],
        "temp_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "arithmetic_ms": 1e3 * cost["flops"] / flops,
        "memory_ms": 1e3 * cost["bytes accessed"] / bandwidth,
    }


def _cost(compiled) -> Mapping[str, float]:
    analysis = compiled.cost_analysis()
    return {name: float(analysis[name]) for name in ("flops", "bytes accessed")}


def _without_loop(function, sharding, arguments, turns):
    """The program whose loop over the layers hands on what it is given."""
    scan = jax.lax.scan

    def skip(body, first, over=None, **options):
        if len(jax.tree.leaves(over)[0]) != turns:
            return scan(body, first, over, **options)
        _, outputs = jax.eval_shape(lambda: scan(body, first, over))
        return first, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), outputs)

    jax.lax.scan = skip
    try:
        jax.clear_caches()
        return jax.jit(function, out_shardings=sharding).lower(*arguments).compile()
    finally:
        jax.lax.scan = scan
        jax.clear_caches()


def _config(job) -> Config:
    compute = Compute(job["dtype"], attn_implementation="auto", platform="tpu")
    return Config(dataclasses.replace(MODELS[job["model"]], compute=compute))


def _random(config):
    return encoders.init(config.encoder, jax.random.key(0))


def _turns(config: Config) -> int:
    """How often the scanned body runs."""
    if "layers" not in encoders.shapes(config.encoder):  # ALBERT's shared layers
        return config.encoder.num_hidden_layers
    return encoders.repetition_of(config.encoder)[2]


def _encode(job) -> tuple[Callable, tuple, int]:
    """The program that `encode` runs: packed rows to sentence vectors."""
    config, shape = _config(job), (job["rows"], job["length"])
    encoder = config.encoder
    params = {
        "encoder": jax.eval_shape(
            lambda: encoders.stacked(encoder, in_dtype(_random(config), job["dtype"]))
        )
    }
    ids = jax.ShapeDtypeStruct(shape, jnp.int32)
    lengths = jax.ShapeDtypeStruct((job["rows"], SLOTS), jnp.int32)

    def encode(params, ids, lengths):
        return sentence_vectors(config)(params, ids=ids, lengths=lengths)

    return encode, (params, ids, lengths), _turns(config)


def _train(job) -> tuple[Callable, tuple, int]:
    """An update with in-batch negatives: half as many pairs as the shape has rows."""
    from jsbert.train import Recipe, make_optimizer, make_step, objective

    config = _config(job)
    recipe = Recipe(max_steps=100)
    optimizer = make_optimizer(recipe, 100)
    learned = objective("multiple-negatives-ranking")(config, name="x")
    from jsbert.train.step import init_state

    state = jax.eval_shape(lambda: init_state({"encoder": _random(config)}, optimizer))
    pairs, length = job["rows"] // 2, job["length"]
    batch = {
        "ids": jax.ShapeDtypeStruct((pairs, 2, length), jnp.int32),
        "lengths": jax.ShapeDtypeStruct((pairs, 2), jnp.int32),
    }
    step = make_step(learned, optimizer)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return step, (state, batch, key), _turns(config)


def _search(job) -> tuple[Callable, tuple, int]:
    """A block of `search.top_k`: 1,024 queries, 131,072 rows of 384, k = 10."""
    queries = jax.ShapeDtypeStruct((nearest.QUERIES, 384), jnp.float32)
    corpus = jax.ShapeDtypeStruct((nearest.LARGE, 384), jnp.float32)
    best = (
        jax.ShapeDtypeStruct((nearest.QUERIES, 10), jnp.float32),
        jax.ShapeDtypeStruct((nearest.QUERIES, 10), jnp.int32),
    )

    def block(queries, corpus, best):
        score = nearest.cosine_to_units
        return nearest.merge(score, queries, corpus, best, 0, nearest.LARGE, True)

    return block, (queries, corpus, best), 1


def _line(row) -> str:
    name = " ".join(str(row[key]) for key in ("what", "model", "dtype") if key in row)
    shape = f" {row['rows']} x {row['length']}" if "rows" in row else ""
    if "error" in row:
        return f"{name}{shape}: not compiled: {row['error']}"
    return (
        f"{name}{shape}: compiled in {row['compile_seconds']:.1f} s; "
        f"{row['flops'] / 1e12:.2f} TFLOP ({row['arithmetic_ms']:.1f} ms), "
        f"{row['bytes_accessed'] / 1e9:.1f} GB ({row['memory_ms']:.1f} ms), "
        f"{row['temp_bytes'] / 1e6:,.0f} MB temporary"
    )


def _shape(text: str) -> tuple[int, int]:
    rows, _, length = text.partition("x")
    return int(rows), int(length)


def _model(name: str) -> str:
    """The family, also written as "bert-base-shape"."""
    family = name.removesuffix("-base-shape")
    if family not in MODELS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(MODELS)}")
    return family


def _options(argv) -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--what", choices=["encode", "train", "search"], help="by default all")
    parser.add_argument("--model", type=_model, help=f"one of {', '.join(MODELS)}")
    parser.add_argument("--shape", type=_shape, metavar="ROWSxLENGTH", help="such as 256x128")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "int8"], default="bfloat16")
    parser.add_argument("--chip", choices=sorted(CHIPS), default="v5e")
    parser.add_argument("--once", action="store_true", help="count a scanned body once")
    parser.add_argument("--json", action="store_true", help="print one JSON line a program")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main() is None)
