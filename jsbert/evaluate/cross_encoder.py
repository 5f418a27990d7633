"""Do a cross-encoder's scores of pairs agree with people's scores or classes?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jsbert.evaluate.binary_classification import check_binary
from jsbert.evaluate.evaluator import Evaluator, Outcome, check_columns, predict
from jsbert.metrics import average_precision, best_accuracy, best_f1, f1_scores, pearson, spearman


@dataclass(repr=False, eq=False)
class CrossEncoderCorrelationEvaluator(Evaluator):
    """Pearson's and Spearman's correlation of a cross-encoder's scores with people's scores.

    Keys: pearson, spearman. Primary: spearman.

    Args:
        sentence_pairs: pairs of texts.
        scores: how similar the texts of each pair are, in any range.
        name: see `Evaluator`.
        batch_size, show_progress_bar: as for `predict`.
        write_csv: see `Evaluator`.

    Reference: sentence-transformers' CrossEncoderCorrelationEvaluator.
    """

    sentence_pairs: Sequence[Sequence[str]]
    scores: Sequence[float]
    name: str = ""
    batch_size: int | None = None
    show_progress_bar: bool | None = False
    write_csv: bool = True

    def __post_init__(self):
        check_columns(sentence_pairs=self.sentence_pairs, scores=self.scores)

    @property
    def csv_file(self) -> str:
        """The name of the csv file."""
        return self._named("CrossEncoderCorrelationEvaluator")

    def _outcome(self, model):
        found = predict(
            model,
            self.sentence_pairs,
            batch_size=self.batch_size,
            show_progress_bar=self.show_progress_bar,
        )
        if found.ndim != 1:
            raise ValueError(
                f"correlation needs one score a pair; this model gives {found.shape[1]}"
            )
        metrics = {"pearson": pearson(self.scores, found), "spearman": spearman(self.scores, found)}
        columns = {
            "Pearson_Correlation": metrics["pearson"],
            "Spearman_Correlation": metrics["spearman"],
        }
        return Outcome(metrics, "spearman", columns)


@dataclass(repr=False, eq=False)
class CrossEncoderClassificationEvaluator(Evaluator):
    """How well a cross-encoder finds the classes of pairs.

    Keys for a model with one label: accuracy, accuracy_threshold, f1, f1_threshold, precision,
    recall and average_precision, as in `BinaryClassificationEvaluator`. Primary: average_precision.

    Keys for a model with several labels: f1_macro, f1_micro and f1_weighted. Primary: f1_macro.

    Args:
        sentence_pairs: pairs of texts.
        labels: the classes of the pairs; 0 or 1 for a model with one label.
        name: see `Evaluator`.
        batch_size, show_progress_bar: as for `predict`.
        write_csv: see `Evaluator`.

    Reference: sentence-transformers' CrossEncoderClassificationEvaluator.
    """

    sentence_pairs: Sequence[Sequence[str]]
    labels: Sequence[int]
    name: str = ""
    batch_size: int | None = None
    show_progress_bar: bool | None = False
    write_csv: bool = True

    def __post_init__(self):
        check_columns(sentence_pairs=self.sentence_pairs, labels=self.labels)

    @property
    def csv_file(self) -> str:
        """The name of the csv file."""
        return self._named("CrossEncoderClassificationEvaluator")

    def _outcome(self, model):
        found = predict(
            model,
            self.sentence_pairs,
            batch_size=self.batch_size,
            show_progress_bar=self.show_progress_bar,
        )
        return self._several_labels(found) if found.ndim == 2 else self._one_label(found)

    def _one_label(self, found):
        check_binary(self.labels)
        accuracy, f1 = best_accuracy(self.labels, found), best_f1(self.labels, found)
        metrics = {
            "accuracy": accuracy.accuracy,
            "accuracy_threshold": accuracy.threshold,
            "f1": f1.f1,
            "f1_threshold": f1.threshold,
            "precision": f1.precision,
            "recall": f1.recall,
            "average_precision": average_precision(self.labels, found),
        }
        return Outcome(
            metrics, "average_precision", {key.title(): value for key, value in metrics.items()}
        )

    def _several_labels(self, found):
        macro, micro, weighted = f1_scores(self.labels, np.argmax(found, axis=1))
        metrics = {"f1_macro": macro, "f1_micro": micro, "f1_weighted": weighted}
        return Outcome(
            metrics, "f1_macro", {"Macro_F1": macro, "Micro_F1": micro, "Weighted_F1": weighted}
        )
