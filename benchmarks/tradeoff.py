"""Accuracy against cost: one trunk as bi-encoder, as cross-encoder, and as both,
retrieve-then-rerank.

python -m benchmarks.tradeoff --data DATA [--model MODEL] [--work WORK]

DATA holds sts/stsb-{train,dev,test}.tsv and, for the times, nli/nli-train.tsv.gz. Both models start
from MODEL and learn STSb train: the bi-encoder by cosine regression, the cross-encoder, a new head
on the trunk, by binary cross-entropy on scores scaled to 0..1. The models are kept in WORK; if the
command was stopped, the same command continues there. The best epoch on STSb dev is kept. STSb test
is only scored.

What the columns say:

- Spearman: x 100, on the pairs of STSb test. The bi-encoder scores a pair by cosine. For
  retrieve-then-rerank the pool is all distinct sentences of STSb test. If the sentence2 of a pair
  is among the k sentences of the pool that are nearest to sentence1 by cosine, the cross-encoder
  scores the pair. All other pairs rank below these pairs, in the order of their cosines.
- accuracy@1 of finding: the queries are the distinct sentence1 of the pairs with a score of 4 or
  more. A method names one sentence of the pool other than the query. The bi-encoder names the
  sentence with the highest cosine. Retrieve-then-rerank names the sentence, of the k nearest by
  cosine, that the cross-encoder scores highest; the cross-encoder reads the query first. The
  cross-encoder alone chooses from the whole pool. This is run only if it takes no more than
  --exhaustive passes; otherwise the passes are only counted. A sentence is right if the sentence
  and the query are a pair with a score of 4 or more, in either order. People scored only few of
  all pairs. A good answer that nobody scored counts as wrong, for every method.
- passes and seconds: through the encoder, to the closest pair among n sentences. Bi-encoder: n
  passes and all cosines, measured. Cross-encoder: n(n-1)/2 passes, seconds EXTRAPOLATED from a
  measured random sample of the pairs. Retrieve-then-rerank: n passes, and the cross-encoder on the
  pairs closest by cosine (--rerank-pairs, among the 10 nearest of each sentence), measured.
  Compilation is left out everywhere.
"""

import argparse
import functools
import pathlib
import statistics
from typing import Any

from benchmarks.lib import report
from benchmarks.lib.closest import costs, distinct_sentences
from benchmarks.lib.finding import METHODS, accuracies
from benchmarks.lib.sentences import fingerprint
from benchmarks.sts import model_name, read_pairs
from jsbert import CrossEncoder, SentenceTransformer
from jsbert.checkpoint import find_folder
from jsbert.data import read_examples
from jsbert.evaluate import CrossEncoderCorrelationEvaluator, EmbeddingSimilarityEvaluator
from jsbert.train import Recipe, Source, fit

PAPER = {"BERT base, cross-encoder": 84.30, "SBERT base": 84.67}
"""Spearman x 100 on STSb test, trained on STSb only (Table 2)."""


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train what is not trained yet, score and time the methods, and return what is written as
    JSON."""
    options = _options(argv)
    values = report.circumstances()
    report.print_circumstances(values)
    test = [column[: options.pool] for column in read_pairs(options.data / "sts/stsb-test.tsv")]
    sentences, source = distinct_sentences(options.data, options.n)
    bi, cross = trained(options)
    untuned = SentenceTransformer(options.model, dtype=options.dtype)
    results, found = accuracies(
        untuned, bi, cross, test, k=options.k, exhaustive=options.exhaustive
    )
    for name, cost in costs(
        bi, cross, sentences, sample=options.sample, rerank_pairs=options.rerank_pairs
    ).items():
        results[name] |= cost
    _print_rows(results, found, options)
    places = ("data", "work", "out")
    shown = {name: value for name, value in vars(options).items() if name not in places}
    values |= {
        "options": shown | {"model": model_name(options.model)},
        "sentences": {"source": source, "sha256": fingerprint(sentences)},
        "finding": found,
        "results": results,
        "paper": PAPER,
    }
    print("written:", report.write_json("tradeoff", values, options.out))
    _draw(results, options.out / "tradeoff.png")
    return values


def trained(options: argparse.Namespace) -> tuple[SentenceTransformer, CrossEncoder]:
    """Return the bi-encoder and the cross-encoder in `options.work`, in the dtype of the options.
    Train them first if they are missing."""
    train = read_examples(options.data / "sts/stsb-train.tsv", label_range=(0, 5))
    first, second, scores = read_pairs(options.data / "sts/stsb-dev.tsv")
    recipe = functools.partial(
        Recipe, epochs=options.epochs, max_steps=options.steps, dtype=options.dtype
    )
    fit(
        SentenceTransformer(options.model),
        Source(train, "cosine"),
        options.work / "bi-encoder",
        recipe(learning_rate=options.learning_rate),
        evaluator=EmbeddingSimilarityEvaluator(
            first, second, scores, similarity_fn_names=["cosine"]
        ),
        show_progress_bar=True,
    )
    fit(
        CrossEncoder(find_folder(options.model), num_labels=1),
        Source(train, "binary-cross-entropy"),
        options.work / "cross-encoder",
        recipe(learning_rate=options.cross_learning_rate),
        evaluator=CrossEncoderCorrelationEvaluator(list(zip(first, second, strict=True)), scores),
        show_progress_bar=True,
    )
    return (
        SentenceTransformer(options.work / "bi-encoder", dtype=options.dtype),
        CrossEncoder(options.work / "cross-encoder", dtype=options.dtype),
    )


def _print_rows(results, found, options):
    rows = []
    for name in METHODS:
        row = results[name]
        accuracy = "-" if row["accuracy_at_1"] is None else f"{100 * row['accuracy_at_1']:.1f} %"
        far = row.get("extrapolated_seconds")
        far = "-" if far is None else f"{far:,.0f}" if far > 100 else f"{far:.3f}"
        passes = f"{row['passes']:,}" if "passes" in row else "-"
        seconds = report.spread(row["seconds"]) if "seconds" in row else "-"
        rows.append([name, f"{row['spearman']:.2f}", accuracy, passes, seconds, far])
    rows += [
        [f"paper, {name}", f"{value:.2f}", "-", "-", "-", "-"] for name, value in PAPER.items()
    ]
    n = f"n = {options.n:,}"
    header = ["method", "STSb test", "accuracy@1", f"passes, {n}", f"seconds, {n}"]
    report.print_table([*header, "seconds, EXTRAPOLATED"], rows)
    sample, reranked = (
        results["cross-encoder"]["sample_pairs"],
        results["retrieve-then-rerank"]["passes"] - options.n,
    )
    passes = ", ".join(f"{name} {count:,}" for name, count in found["passes"].items())
    print(f"extrapolated from {sample:,} pairs; reranked: the {reranked:,} pairs closest by cosine")
    print(
        f"finding: {found['queries']:,} queries in a pool of {found['pool']:,}, k = {options.k}; "
        f"passes: {passes}\n"
        f"{found['pairs_retrieved']:,} of {found['pairs']:,} test pairs are among the k nearest\n"
    )


def _draw(results, file):
    plt = report.pyplot()
    if plt is None:
        return
    figure, axes = plt.subplots(figsize=(7, 4.5))
    axes.axhline(
        results[METHODS[0]]["spearman"],
        color="grey",
        linewidth=0.8,
        linestyle="--",
        label=METHODS[0],
    )
    for name in METHODS[1:]:
        row = results[name]
        far = row.get("extrapolated_seconds")
        seconds, kind = (
            (statistics.median(row["seconds"]), "measured")
            if far is None
            else (far, "EXTRAPOLATED")
        )
        axes.plot(
            seconds,
            row["spearman"],
            "o",
            fillstyle="full" if far is None else "none",
            label=f"{name}, {kind}",
        )
    axes.set(
        xscale="log",
        xlabel=f"seconds to the closest pair, {results['bi-encoder']['passes']:,} sentences",
        ylabel="Spearman x 100, STSb test",
        title="Accuracy against cost",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    report.save_figure(figure, file)


def _options(argv) -> argparse.Namespace:
    parser = report.parser(__doc__)
    add = parser.add_argument
    add("--data", type=pathlib.Path, required=True, help="folder with sts/ and nli/")
    add(
        "--work",
        type=pathlib.Path,
        default=report.WORK,
        help="folder for the two models (benchmarks/work)",
    )
    add("--model", help="the trunk, a folder or name; by default the default model")
    add("--epochs", type=int, default=4, help="passes over STSb train (4)")
    add("--learning-rate", type=float, default=2e-5, help="the bi-encoder's (2e-5)")
    add(
        "--cross-learning-rate",
        type=float,
        default=5e-5,
        help="the cross-encoder's, whose head is new (5e-5)",
    )
    add(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of training, scores and times (float32)",
    )
    add("--k", type=int, default=16, help="sentences retrieved to be reranked (16)")
    add(
        "--rerank-pairs",
        type=int,
        default=1_000,
        help="closest pairs by cosine to be reranked (1,000)",
    )
    add("--n", type=int, default=10_000, help="sentences whose closest pair is looked for (10,000)")
    add(
        "--sample",
        type=int,
        default=2_000,
        help="pairs that the cross-encoder's seconds are measured on (2,000)",
    )
    add(
        "--exhaustive",
        type=int,
        default=20_000,
        help="most passes to find by the cross-encoder alone (20,000)",
    )
    add("--pool", type=int, help="use this many pairs of STSb test; by default all")
    add("--steps", type=int, help="stop both trainings after this many updates")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
