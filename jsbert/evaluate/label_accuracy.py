"""Does a softmax classifier on two vectors find the classes of pairs?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jsbert.arrays import AnyArray
from jsbert.evaluate.evaluator import Evaluator, Outcome, check_columns, embed_pairs
from jsbert.losses import concatenate
from jsbert.losses.classification import CONCATENATION
from jsbert.modules import dense


@dataclass(repr=False, eq=False)
class LabelAccuracyEvaluator(Evaluator):
    """The share of pairs whose class is found by a classifier that was trained with
    `losses.softmax_classification`.

    Key: accuracy, the primary metric. All models are scored with the same classifier.

    Args:
        sentences1, sentences2: the pairs.
        labels: the classes of the pairs, 0 to C - 1.
        classifier: {"kernel" (k * D, C), "bias" (C,)}.
        concatenation: the parts of a pair that the classifier sees, as in training.
        name: see `Evaluator`.
        batch_size, show_progress_bar: as for `encode`.
        write_csv: see `Evaluator`.
        truncate_dim: as for `encode`.

    Reference: sentence-transformers' LabelAccuracyEvaluator, which reads the pairs from a torch
    DataLoader.
    """

    sentences1: Sequence[str]
    sentences2: Sequence[str]
    labels: Sequence[int]
    classifier: Mapping[str, Float[AnyArray, "..."]]
    concatenation: Sequence[str] = CONCATENATION
    name: str = ""
    batch_size: int | None = None
    show_progress_bar: bool | None = False
    write_csv: bool = True
    truncate_dim: int | None = None

    def __post_init__(self):
        check_columns(sentences1=self.sentences1, sentences2=self.sentences2, labels=self.labels)
        num_labels = self.classifier["kernel"].shape[1]
        for row, label in enumerate(self.labels):
            if label not in range(num_labels):
                raise ValueError(
                    f"label {row} is {label!r}; the classifier knows 0 to {num_labels - 1}"
                )

    @property
    def csv_file(self) -> str:
        """The name of the csv file."""
        return self._named("accuracy_evaluation")

    def _outcome(self, model):
        towers = np.stack(embed_pairs(model, self.sentences1, self.sentences2, **self._encoding))
        features = concatenate(towers, self.concatenation)
        if features.shape[1] != len(self.classifier["kernel"]):
            raise ValueError(
                f"the model's vectors make {features.shape[1]} features a pair, the classifier "
                "takes "
                f"{len(self.classifier['kernel'])}; give the concatenation and the truncate_dim of "
                "its training"
            )
        logits = np.asarray(dense(self.classifier, features, "identity"))
        accuracy = np.mean(np.argmax(logits, axis=1) == np.asarray(self.labels))
        return Outcome({"accuracy": accuracy}, "accuracy", {"accuracy": accuracy})
