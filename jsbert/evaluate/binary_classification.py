"""Does a threshold on the similarity of two texts say whether they are similar?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jsbert.evaluate.evaluator import (
    Evaluator,
    Outcome,
    check_columns,
    embed_pairs,
    largest,
    pairwise,
    similarity_names,
)
from jsbert.metrics import average_precision, best_accuracy, best_f1, matthews

COLUMNS = (
    "accuracy",
    "accuracy_threshold",
    "f1",
    "precision",
    "recall",
    "f1_threshold",
    "ap",
    "mcc",
)


@dataclass(repr=False, eq=False)
class BinaryClassificationEvaluator(Evaluator):
    """How well a threshold on the similarity of pairs separates similar from dissimilar pairs.

    Keys, for each similarity s: {s}_accuracy and {s}_accuracy_threshold, at the best accuracy;
    {s}_f1, {s}_f1_threshold, {s}_precision and {s}_recall, at the best F1; {s}_mcc (Matthews'
    correlation), at the threshold of the best F1; {s}_ap (average precision). With several
    similarities also max_ of each. Thresholds of "euclidean" and "manhattan" are distances.
    Primary: ap.

    Args:
        sentences1, sentences2: the pairs.
        labels: 1 for similar, 0 for dissimilar.
        name: see `Evaluator`.
        batch_size, show_progress_bar: as for `encode`.
        write_csv: see `Evaluator`.
        truncate_dim: as for `encode`.
        similarity_fn_names: "cosine", "dot", "euclidean", "manhattan"; by default the model's.

    Reference: sentence-transformers' BinaryClassificationEvaluator.
    """

    sentences1: Sequence[str]
    sentences2: Sequence[str]
    labels: Sequence[int]
    name: str = ""
    batch_size: int | None = None
    show_progress_bar: bool | None = False
    write_csv: bool = True
    truncate_dim: int | None = None
    similarity_fn_names: Sequence[str] | None = None

    def __post_init__(self):
        check_columns(sentences1=self.sentences1, sentences2=self.sentences2, labels=self.labels)
        check_binary(self.labels)
        similarity_names(self.similarity_fn_names)

    @property
    def csv_file(self) -> str:
        """The name of the csv file."""
        return self._named("binary_classification_evaluation")

    def _outcome(self, model):
        first, second = embed_pairs(model, self.sentences1, self.sentences2, **self._encoding)
        names = similarity_names(self.similarity_fn_names) or [model.similarity_fn_name]
        scores = {
            name: _scores(name, pairwise(name, first, second), np.asarray(self.labels))
            for name in names
        }
        metrics = {f"{name}_{key}": value for name in names for key, value in scores[name].items()}
        if len(names) > 1:
            metrics |= {
                f"max_{key}": largest([scores[name][key] for name in names])
                for key in scores[names[0]]
            }
        columns = {f"{name}_{key}": scores[name][key] for name in names for key in COLUMNS}
        return Outcome(metrics, f"{names[0] if len(names) == 1 else 'max'}_ap", columns)


def check_binary(labels: Sequence[int]) -> None:
    """Raise ValueError unless every label is 0 or 1."""
    for row, label in enumerate(labels):
        if label not in (0, 1):
            raise ValueError(
                f"label {row} is {label!r}; give 1 for similar pairs, 0 for dissimilar ones"
            )


def _scores(name, found, labels):
    accuracy, f1 = best_accuracy(labels, found), best_f1(labels, found)
    sign = -1 if name in ("euclidean", "manhattan") else 1
    # If no F1 is above 0, `f1.threshold` is 0. Adding 0.0 turns -0.0, the 0 of a distance, into
    # 0.0.
    return {
        "accuracy": accuracy.accuracy,
        "accuracy_threshold": sign * accuracy.threshold,
        "f1": f1.f1,
        "f1_threshold": sign * f1.threshold + 0.0,
        "precision": f1.precision,
        "recall": f1.recall,
        "ap": average_precision(labels, found),
        "mcc": matthews(labels, found >= f1.threshold),
    }
