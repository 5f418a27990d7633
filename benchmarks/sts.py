"""Semantic textual similarity without fine-tuning on it: Spearman x 100 of models' cosines with
people's scores, compared with Table 1 of Reimers & Gurevych 2019.

python -m benchmarks.sts --data DATA [MODEL ...]

A MODEL is a folder or a name. NAME=MODEL gives the model another name in the table. A suffix :cls,
:mean or another pooling overrules the model's own pooling: raw=FOLDER:cls. Without a MODEL, the
default model is scored.

DATA holds the sets that are to be scored: the folders sts/sts12 .. sts/sts16 with a .tsv (or
.tsv.gz) for each subset, and the files sts/stsb-test.tsv and sts/sick-test.tsv. All files have the
columns score, sentence1 and sentence2. The subsets of a year are concatenated to one correlation,
as in the paper. A missing set is "-"; an average is over all seven sets or is not given. The
paper's rows saw no STS training data, so a model that was tuned on STS training data cannot be
compared with them.
"""

import argparse
import pathlib
import statistics
from typing import Any

import jax

from benchmarks.lib import report
from jsbert import SentenceTransformer
from jsbert.data import read_examples
from jsbert.evaluate import EmbeddingSimilarityEvaluator, sts_subsets
from jsbert.pooling import POOLINGS

SETS = {f"STS{year}": f"sts/sts{year}" for year in range(12, 17)} | {
    "STSb": "sts/stsb-test.tsv",
    "SICK-R": "sts/sick-test.tsv",
}
"""The folder of subsets, or the file, of each set, under DATA."""

PAPER = {
    "Avg. GloVe": (55.14, 70.66, 59.73, 68.25, 63.66, 58.02, 53.76, 61.32),
    "Avg. BERT embeddings": (38.78, 57.98, 57.98, 63.15, 61.06, 46.35, 58.40, 54.81),
    "BERT CLS": (20.16, 30.01, 20.09, 36.88, 38.08, 16.50, 42.63, 29.19),
    "InferSent-GloVe": (52.86, 66.75, 62.15, 72.77, 66.87, 68.03, 65.65, 65.01),
    "USE": (64.49, 67.80, 64.61, 76.83, 73.18, 74.92, 76.69, 71.22),
    "SBERT-NLI-base": (70.97, 76.53, 73.19, 79.09, 74.30, 77.03, 72.91, 74.89),
    "SBERT-NLI-large": (72.27, 78.46, 74.90, 80.99, 76.25, 79.23, 73.75, 76.55),
}
"""Table 1: the sets in order and the average, as printed (the mean of SBERT-NLI-base's seven is
74.86)."""


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Score the models, and return what is written as JSON."""
    options = _options(argv)
    pairs = {name: len(found.scores) for name in SETS if (found := evaluator(options.data, name))}
    if not pairs:
        raise SystemExit(
            f"{options.data} has none of {', '.join(SETS.values())}; "
            "give --data a folder with one of them"
        )
    values = report.circumstances()
    report.print_circumstances(values)
    rows = []
    for text in options.models:
        name, model = open_model(text)
        scores = {set_name: score(model, options.data, set_name) for set_name in SETS}
        size = sum(leaf.size for leaf in jax.tree.leaves(model.params))
        rows.append(
            {"name": name, "parameters": size, "scores": scores, "average": average(scores)}
        )
    paper = [
        [f"paper, {name}", "-", *(f"{value:.2f}" for value in found)]
        for name, found in PAPER.items()
    ]
    report.print_table(
        ["model", "parameters (M)", *SETS, "Avg"], [_cells(row) for row in rows] + paper
    )
    values |= {"pairs": pairs, "rows": rows, "paper": PAPER}
    print("written:", report.write_json("sts", values, options.out))
    return values


def score(model: SentenceTransformer, data: pathlib.Path, set_name: str) -> float | None:
    """Return Spearman x 100 of a model's cosines on one of `SETS`; None if the set is not in
    `data`."""
    found = evaluator(data, set_name)
    return None if found is None else 100 * found(model)["spearman_cosine"]


def evaluator(data: pathlib.Path, set_name: str) -> EmbeddingSimilarityEvaluator | None:
    """Return the evaluator of one of `SETS`, by cosine; None if the set is not in `data`.

    Raises:
        ValueError: for a folder without subsets, and for malformed files.
    """
    path = data / SETS[set_name]
    if not path.exists():
        return None
    files = sorted([*path.glob("*.tsv"), *path.glob("*.tsv.gz")]) if path.is_dir() else [path]
    if not files:
        raise ValueError(
            f"{path} holds no subsets; put a .tsv a subset into it, or take the folder away"
        )
    return sts_subsets(
        {file.name: read_pairs(file) for file in files}, name="", similarity_fn_names=["cosine"]
    )


def read_pairs(file: pathlib.Path) -> tuple[list[str], list[str], list[float]]:
    """Return (sentences1, sentences2, scores) of a file with these columns; the last is named
    "score"."""
    examples = read_examples(file, columns=["sentence1", "sentence2"], label="score")
    return *examples.texts, examples.labels.tolist()


def average(scores: dict[str, float | None]) -> float | None:
    """Return the mean; None if one of the scores is None.

    >>> average({"STSb": 80.0, "SICK-R": 70.0}), average({"STSb": 80.0, "SICK-R": None})
    (75.0, None)
    """
    return None if None in scores.values() else statistics.mean(scores.values())


def open_model(text: str | None) -> tuple[str, SentenceTransformer]:
    """Return (name, model) of a MODEL as the command line takes it; None means the default
    model."""
    if text is None:
        return model_name(None), SentenceTransformer()
    name, _, place = text.rpartition("=")
    folder, _, pooling = place.rpartition(":")
    if pooling not in POOLINGS:
        return name or model_name(place), SentenceTransformer(place)
    return name or f"{model_name(folder)}:{pooling}", SentenceTransformer(folder, pooling=pooling)


def model_name(model: str | None) -> str:
    """Return the name of a model in results: the name of a folder, or the name that was given."""
    if model is None:
        return "default model"
    return pathlib.Path(model).absolute().name if pathlib.Path(model).is_dir() else model


def _cells(row):
    scores = [
        f"{value:.2f}" if value is not None else "-"
        for value in (*row["scores"].values(), row["average"])
    ]
    return [row["name"], f"{row['parameters'] / 1e6:.1f}", *scores]


def _options(argv) -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        default=[None],
        help="[NAME=]FOLDER[:POOLING] or a name",
    )
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with sts/")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
