"""Semantic textual similarity without fine-tuning on it: Spearman x 100 of models' cosines with
people's scores, beside Table 1 of Reimers & Gurevych 2019.

python -m benchmarks.sts --data DATA [MODEL ...]

A MODEL is a folder or a name; NAME=MODEL gives it another name in the table, and :cls, :mean or
another pooling behind it overrules its own: raw=FOLDER:cls. Without any it is the default model.

DATA holds those of these that are to be scored, all with the columns score, sentence1 and
sentence2: the folders sts/sts12 .. sts/sts16 with a .tsv (or .tsv.gz) a subset, the files
sts/stsb-test.tsv and sts/sick-test.tsv. The subsets of a year are concatenated to one correlation,
as in the paper. A set that is not there is "-", and an average is over all seven or not given. The
paper's rows saw no STS training data: a model that was tuned on any is no equal of theirs.
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
"""Each set's folder of subsets or file, under DATA."""

PAPER = {
    "Avg. GloVe": (55.14, 70.66, 59.73, 68.25, 63.66, 58.02, 53.76, 61.32),
    "Avg. BERT embeddings": (38.78, 57.98, 57.98, 63.15, 61.06, 46.35, 58.40, 54.81),
    "BERT CLS": (20.16, 30.01, 20.09, 36.88, 38.08, 16.50, 42.63, 29.19),
    "InferSent-GloVe": (52.86, 66.75, 62.15, 72.77, 66.87, 68.03, 65.65, 65.01),
    "USE": (64.49, 67.80, 64.61, 76.83, 73.18, 74.92, 76.69, 71.22),
    "SBERT-NLI-base": (70.97, 76.53, 73.19, 79.09, 74.30, 77.03, 72.91, 74.89),
    "SBERT-NLI-large": (72.27, 78.46, 74.90, 80.99, 76.25, 79.23, 73.75, 76.55),
}
"""Table 1: the sets in order and the average, as printed (the seven of SBERT-NLI-base have the mean
74.86)."""


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Scores the models; returns what it writes."""
    options = _options(argv)
    pairs = {name: len(found.scores) for name in SETS if (found := evaluator(options.data, name))}
    if not pairs:
        raise SystemExit(
            f"{options.data} has none of {', '.join(SETS.values())}; give --data a folder with one "
            "of them"
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
    """Spearman x 100 of a model's cosines on one of `SETS`; None if it is not in `data`."""
    found = evaluator(data, set_name)
    return None if found is None else 100 * found(model)["spearman_cosine"]


def evaluator(data: pathlib.Path, set_name: str) -> EmbeddingSimilarityEvaluator | None:
    """The evaluator of one of `SETS`, by cosine; None if it is not in `data`.

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
    """(sentences1, sentences2, scores) of a file with these columns, the last named "score"."""
    examples = read_examples(file, columns=["sentence1", "sentence2"], label="score")
    return *examples.texts, examples.labels.tolist()


def average(scores: dict[str, float | None]) -> float | None:
    """The mean; None if one of the scores is.

    >>> average({"STSb": 80.0, "SICK-R": 70.0}), average({"STSb": 80.0, "SICK-R": None})
    (75.0, None)
    """
    return None if None in scores.values() else statistics.mean(scores.values())


def open_model(text: str | None) -> tuple[str, SentenceTransformer]:
    """(name, model) of a MODEL as the command line takes it; None is the default model."""
    if text is None:
        return model_name(None), SentenceTransformer()
    name, _, place = text.rpartition("=")
    folder, _, pooling = place.rpartition(":")
    if pooling not in POOLINGS:
        return name or model_name(place), SentenceTransformer(place)
    return name or f"{model_name(folder)}:{pooling}", SentenceTransformer(folder, pooling=pooling)


def model_name(model: str | None) -> str:
    """What a model is called in results: a folder's own name, or the name that was given."""
    if model is None:
        return "default model"
    return pathlib.Path(model).absolute().name if pathlib.Path(model).is_dir() else model


def _cells(row):
    told = [
        f"{value:.2f}" if value is not None else "-"
        for value in (*row["scores"].values(), row["average"])
    ]
    return [row["name"], f"{row['parameters'] / 1e6:.1f}", *told]


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
