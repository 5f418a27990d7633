"""How fast is training? jsbert's `fit` and the sentence-transformers trainer take turns.

python -m benchmarks.train --data DATA/sts/stsb-train.tsv

Both have the same model (all-MiniLM-L6-v2), examples, batch, recipe, dropout and threads. Both are
whole trainers, from texts to updated weights. Each turn is a process of its own. Without --data the
pairs are sentences of Python's documentation.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.lib import report
from benchmarks.lib.sentences import docstring_sentences, shuffled
from jsbert.checkpoint import find_folder

WORKERS = {
    "jsbert": """
        import json, os, resource, sys
        from jsbert import SentenceTransformer
        from jsbert.data import Examples
        from jsbert.train import Recipe, Source, fit
        job = json.load(open(sys.argv[1]))
        recipe = Recipe(max_steps=job["steps"], batch_size=job["batch_size"], dtype=job["dtype"],
                        log_steps=1, epochs=job["epochs"], checkpoint_steps=10**9,
                        packing=job["packing"])
        model = SentenceTransformer(job["model"], device=job["device"])
        examples = Examples.from_columns(job["columns"])
        fit(model, Source(examples, job["objective"]), job["out"], recipe)
        lines = [json.loads(line) for line in open(os.path.join(job["out"], "metrics.jsonl"))]
        print(json.dumps({"seconds": [line["seconds"] for line in lines],
                          "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
    """,
    "sentence-transformers": """
        import json, os, resource, sys, time
        import datasets, torch, transformers
        from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
        from sentence_transformers import SentenceTransformerTrainingArguments
        from sentence_transformers.sentence_transformer import losses
        job = json.load(open(sys.argv[1]))
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        transformers.utils.logging.disable_progress_bar()
        datasets.disable_progress_bars()
        class Clock(transformers.TrainerCallback):
            def on_train_begin(self, *a, **k):
                self.began, self.seconds = time.perf_counter(), []
            def on_step_end(self, *a, **k):
                if torch.cuda.is_available() and len(self.seconds) + 1 in job["waits"]:
                    torch.cuda.synchronize()
                self.seconds.append(time.perf_counter() - self.began)
        clock = Clock()
        device = {"gpu": "cuda"}.get(job["device"], "cpu")
        model = SentenceTransformer(job["model"], device=device)
        arguments = SentenceTransformerTrainingArguments(
            job["out"], max_steps=job["steps"], per_device_train_batch_size=job["batch_size"],
            learning_rate=2e-5, warmup_steps=0.1, weight_decay=0.01,
            bf16=job["dtype"] == "bfloat16", save_strategy="no", report_to="none",
            use_cpu=device == "cpu", disable_tqdm=True, logging_steps=10**9)
        data = datasets.Dataset.from_dict(job["columns"])
        loss = {"cosine": losses.CosineSimilarityLoss,
                "multiple-negatives-ranking": losses.MultipleNegativesRankingLoss}
        SentenceTransformerTrainer(model, arguments, train_dataset=data,
                                   loss=loss[job["objective"]](model),
                                   callbacks=[clock]).train()
        print(json.dumps({"seconds": clock.seconds,
                          "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
    """,
}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, and return what is written as JSON."""
    options = _options(argv)
    values = report.circumstances()
    report.print_circumstances(values)
    columns = _columns(options)
    job = {
        "model": str(find_folder(options.model)),
        "columns": columns,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "dtype": options.dtype,
        "epochs": -(-options.steps * options.batch_size // len(columns["score"])),
        "objective": "cosine",
        "device": None,  # JAX's first device; sentence-transformers on the CPU
        "waits": [],
    }
    engines = {"jsbert": ("jsbert", True)}
    if options.padded:
        engines["jsbert, padded towers"] = ("jsbert", False)
    if report.has_torch():
        engines["sentence-transformers"] = ("sentence-transformers", False)
    tokens_per_update = _tokens_per_update(job)
    with tempfile.TemporaryDirectory() as folder:
        first, turns = {}, {name: [] for name in engines}
        for turn in range(options.repeats + 1):
            for name, (worker, packing) in engines.items():
                done = run_worker(worker, job | {"packing": packing}, pathlib.Path(folder))
                (first.__setitem__(name, done) if turn == 0 else turns[name].append(done))
    skip = options.steps // 2
    results = {}
    for name, runs in turns.items():
        rates = [
            (options.steps - skip) / (run["seconds"][-1] - run["seconds"][skip - 1]) for run in runs
        ]
        results[name] = {
            "updates_per_second": rates,
            "tokens_per_second": statistics.median(rates) * tokens_per_update,
            "peak_bytes": statistics.median(run["peak_bytes"] for run in runs),
            "whole_seconds": [run["seconds"][-1] for run in runs],
            "whole_seconds_nothing_compiled": first[name]["seconds"][-1],
        }
    _print(results, options, skip)
    values |= {
        "options": {k: report.without_places(str(v)) for k, v in vars(options).items()},
        "tokens_per_update": tokens_per_update,
    }
    name = "train" if options.dtype == "float32" else f"train-{options.dtype}"
    print("written:", report.write_json(name, values | {"results": results}, options.out))
    return values | {"results": results}


def _print(results, options, skip):
    base = results.get("sentence-transformers")
    rows = []
    for name, found in results.items():
        rate = statistics.median(found["updates_per_second"])
        rows.append(
            [
                name,
                report.spread(found["updates_per_second"], 2),
                f"{found['tokens_per_second']:,.0f}",
                f"{rate / statistics.median(base['updates_per_second']):.2f}" if base else "-",
                report.spread(found["whole_seconds"], 1),
                f"{found['whole_seconds_nothing_compiled']:.1f}",
                f"{found['peak_bytes'] / 1e6:,.0f}",
            ]
        )
    print(
        f"{options.steps} updates of {options.batch_size} pairs, {options.dtype}; "
        f"the rate is of those after {skip}\n"
    )
    head = ["trainer", "updates/s", "tokens/s", "ratio", "whole run, s", "first run, s", "peak MB"]
    report.print_table(head, rows)


def run_worker(worker: str, job: dict[str, Any], folder: pathlib.Path) -> dict[str, Any]:
    """Train in a process of its own. Return the seconds after each update, and the peak memory.

    Args:
        worker: a name of WORKERS.
        job: the options of the run. "waits" names the updates after which sentence-transformers
            waits for the GPU; jsbert reads the loss of each update.
        folder: holds the run's files, and a cache of compiled programs for later runs.

    Raises:
        RuntimeError: if the worker fails.
    """
    file = folder / "job.json"
    with tempfile.TemporaryDirectory(dir=folder) as out:
        file.write_text(
            json.dumps(job | {"out": str(pathlib.Path(out) / "model")}), encoding="utf8"
        )
        lines = WORKERS[worker].strip("\n").splitlines()
        code = "\n".join(line[8:] for line in lines)
        environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code, str(file)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{worker} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _columns(options):
    if options.data is not None:
        from jsbert.data import read_examples

        examples = read_examples(options.data, label_range=(0, 5))
        return {
            **dict(zip(examples.names, examples.texts, strict=True)),
            "score": examples.labels.tolist(),
        }
    return scored_pairs(
        shuffled(docstring_sentences(), 0)[: 2 * options.steps * options.batch_size]
    )


def scored_pairs(texts: list[str]) -> dict[str, list]:
    """Return columns of pairs. Their scores follow from the lengths, and mean nothing."""
    half = len(texts) // 2
    scores = [
        (len(a) + len(b)) % 6 / 5 for a, b in zip(texts[:half], texts[half : 2 * half], strict=True)
    ]
    return {"sentence1": texts[:half], "sentence2": texts[half : 2 * half], "score": scores}


def _tokens_per_update(job):
    from jsbert import SentenceTransformer

    tokenizer = SentenceTransformer(job["model"]).tokenizer
    texts = [text for name in ("sentence1", "sentence2") for text in job["columns"][name]]
    return float(tokenizer(texts).lengths.sum()) / len(job["columns"]["score"]) * job["batch_size"]


def _options(argv) -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument(
        "--data", type=pathlib.Path, help="a file of sentence1, sentence2 and score (0 to 5)"
    )
    parser.add_argument(
        "--model", default="all-MiniLM-L6-v2", help="a folder or name (all-MiniLM-L6-v2)"
    )
    parser.add_argument(
        "--steps", type=int, default=120, help="updates of each run; the second half counts (120)"
    )
    parser.add_argument("--batch-size", type=int, default=16, help="pairs of a batch (16)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--padded", action="store_true", help="measure jsbert without packed rows, too"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="runs of each, in turns, after a first (5)"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
