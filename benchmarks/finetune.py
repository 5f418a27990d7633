"""Does jsbert's training reach the scores of the sentence-transformers trainer? Both tune
all-MiniLM-L6-v2 further with one recipe. The score is on the STS benchmark's test set.

python -m benchmarks.finetune --data DATA

DATA holds sts/stsb-{train,test}.tsv and nli/nli-{train,triplets}.tsv.gz. Every cell (task, trainer,
seed) is a process of its own and is saved when the cell is done. If the command was stopped, the
same command continues with the missing cells. `benchmarks.train` measures speed.
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

from benchmarks import sts
from benchmarks.lib import report
from jsbert import SentenceTransformer
from jsbert.checkpoint import find_folder
from jsbert.data import Examples, read_examples

TASKS = {
    "nli-softmax": ("nli/nli-train.tsv.gz", "softmax, (u, v, |u-v|)"),
    "nli-ranking": ("nli/nli-triplets.tsv.gz", "in-batch negatives, with hard negatives"),
    "stsb-cosine": ("sts/stsb-train.tsv", "cosine regression"),
}
"""Each task's file and objective."""


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the cells that are missing, and return what is written as JSON."""
    options = _options(argv)
    if options.cell:
        return _cell(options)
    values = report.circumstances()
    report.print_circumstances(values)
    cells = options.out / "finetune"
    cells.mkdir(parents=True, exist_ok=True)
    before = _score(SentenceTransformer(options.model), options.data)
    trainers = ("jsbert", "sentence-transformers") if report.has_torch() else ("jsbert",)
    for seed in range(options.seeds):
        for task in TASKS:
            for trainer in trainers:
                if not (cells / f"{task}-{trainer}-{seed}.json").is_file():
                    _run_cell(options, task, trainer, seed)
    results: dict[str, Any] = {"before": before}
    rows = []
    for task, (_, objective) in TASKS.items():
        found = {}
        for trainer in trainers:
            files = [cells / f"{task}-{trainer}-{seed}.json" for seed in range(options.seeds)]
            found[trainer] = [json.loads(file.read_text(encoding="utf8")) for file in files]
        scores = {trainer: [cell["score"] for cell in own] for trainer, own in found.items()}
        results[task] = {"examples": found["jsbert"][0]["examples"], "scores": scores}
        rows += [
            [task, objective, trainer, f"{100 * before:.2f}", _mean(own)]
            for trainer, own in scores.items()
        ]
    report.print_table(["task", "objective", "trainer", "before", "after (mean, range)"], rows)
    print(
        "written:",
        report.write_json(
            "finetune", values | {"seeds": options.seeds, "results": results}, options.out
        ),
    )
    return results


def _mean(scores):
    low, high = min(scores), max(scores)
    return f"{100 * statistics.mean(scores):.2f} [{100 * low:.2f} .. {100 * high:.2f}]"


def _score(model, data):
    return sts.evaluator(data, "STSb")(model)["spearman_cosine"]


def _run_cell(options, task, trainer, seed):
    print(f"{task}, {trainer}, seed {seed} ...", end=" ", flush=True)
    command = [sys.executable, "-m", "benchmarks.finetune"]
    command += ["--data", str(options.data), "--out", str(options.out)]
    command += ["--pairs", str(options.pairs), "--triplets", str(options.triplets)]
    command += ["--cell", task, trainer, str(seed), "--model", str(options.model)]
    done = subprocess.run(
        command,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr[-3000:]}")
    print(done.stdout.splitlines()[-1], flush=True)


def _cell(options):
    """Train one cell, score the model with jsbert for both trainers, and write the cell's file."""
    task, trainer, seed = options.cell[0], options.cell[1], int(options.cell[2])
    examples = _examples(options, task)
    with tempfile.TemporaryDirectory() as folder:
        out = str(pathlib.Path(folder) / "model")
        train = _train_jsbert if trainer == "jsbert" else _train_sentence_transformers
        train(task, examples, str(find_folder(options.model)), out, seed)
        score = _score(SentenceTransformer(out), options.data)
    values = report.circumstances() | {
        "task": task, "trainer": trainer, "seed": seed, "examples": len(examples), "score": score,
    }  # fmt: skip
    report.write_json(f"{task}-{trainer}-{seed}", values, options.out / "finetune")
    print(f"{100 * score:.2f}")
    return values


def _examples(options, task):
    file = options.data / TASKS[task][0]
    if task == "stsb-cosine":
        return read_examples(file, label_range=(0, 5))
    examples, most = (
        read_examples(file),
        options.pairs if task == "nli-softmax" else options.triplets,
    )
    texts, labels = examples.rows(range(min(most, len(examples))))
    columns = dict(zip(examples.names, texts, strict=True))
    return Examples.from_columns(columns | ({} if labels is None else {"label": labels.tolist()}))


def _train_jsbert(task, examples, model, out, seed):
    from jsbert.train import Recipe, Source, fit, objective

    objectives = {
        "nli-softmax": objective("softmax", num_labels=3),
        "nli-ranking": objective("multiple-negatives-ranking"),
        "stsb-cosine": objective("cosine"),
    }
    fit(SentenceTransformer(model), Source(examples, objectives[task]), out, Recipe(seed=seed))


def _train_sentence_transformers(task, examples, model, out, seed):
    import datasets
    import torch
    from sentence_transformers import SentenceTransformer as Theirs
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(seed)
    columns = dict(zip(examples.names, examples.texts, strict=True))
    if examples.labels is not None:
        columns["label"] = examples.labels.tolist()
    model = Theirs(model, device="cpu")
    loss = {
        "nli-softmax": lambda: losses.SoftmaxLoss(
            model, model.get_embedding_dimension(), num_labels=3
        ),
        "nli-ranking": lambda: losses.MultipleNegativesRankingLoss(model),
        "stsb-cosine": lambda: losses.CosineSimilarityLoss(model),
    }[task]()
    sampler = BatchSamplers.NO_DUPLICATES if task == "nli-ranking" else BatchSamplers.BATCH_SAMPLER
    arguments = SentenceTransformerTrainingArguments(
        out, num_train_epochs=1, per_device_train_batch_size=16, learning_rate=2e-5,
        warmup_steps=0.1, weight_decay=0.01, max_grad_norm=1.0, seed=seed, batch_sampler=sampler,
        save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    SentenceTransformerTrainer(
        model, arguments, train_dataset=datasets.Dataset.from_dict(columns), loss=loss
    ).train()
    model.save_pretrained(out)


def _options(argv) -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument(
        "--data", type=pathlib.Path, required=True, help="folder with sts/ and nli/"
    )
    parser.add_argument(
        "--model", default="all-MiniLM-L6-v2", help="a folder or name (all-MiniLM-L6-v2)"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=4_000, help="NLI pairs for softmax (4,000)")
    parser.add_argument(
        "--triplets", type=int, default=2_400, help="NLI triplets for in-batch negatives (2,400)"
    )
    parser.add_argument(
        "--cell", nargs=3, metavar=("TASK", "TRAINER", "SEED"), help="run this cell only"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
