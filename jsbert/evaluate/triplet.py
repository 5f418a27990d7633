"""Is the anchor closer to the positive than to the negative?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jsbert.evaluate.evaluator import (
    Evaluator,
    Outcome,
    check_columns,
    embed,
    embed_pairs,
    pairwise,
    similarity_names,
)
from jsbert.inputs import check_choice
from jsbert.similarity import SIMILARITIES


@dataclass(repr=False, eq=False)
class TripletEvaluator(Evaluator):
    """The share of triplets whose anchor is more similar to the positive than to the negative. A
    tie counts as wrong.

    Anchors are encoded as queries, positives and negatives as documents: with the model's prompts
    of these names. Keys: {s}_accuracy for each similarity s; with several similarities also
    max_accuracy. Primary: the accuracy of `main_similarity_function`; by default that of the only
    similarity, or max_accuracy.

    Args:
        anchors, positives, negatives: the triplets.
        main_similarity_function: the similarity of the primary metric.
        margin: how much closer the positive must be: one number, or one for each similarity by
            name.
        name: see `Evaluator`.
        batch_size, show_progress_bar: as for `encode`.
        write_csv: see `Evaluator`.
        truncate_dim: as for `encode`.
        similarity_fn_names: "cosine", "dot", "euclidean", "manhattan"; by default the model's.

    Reference: sentence-transformers' TripletEvaluator.
    """

    anchors: Sequence[str]
    positives: Sequence[str]
    negatives: Sequence[str]
    main_similarity_function: str | None = None
    margin: float | Mapping[str, float] | None = None
    name: str = ""
    batch_size: int | None = None
    show_progress_bar: bool | None = False
    write_csv: bool = True
    truncate_dim: int | None = None
    similarity_fn_names: Sequence[str] | None = None

    def __post_init__(self):
        check_columns(anchors=self.anchors, positives=self.positives, negatives=self.negatives)
        similarity_names(self.similarity_fn_names, self.main_similarity_function)
        if isinstance(self.margin, Mapping):
            for name in self.margin:
                check_choice("a name in margin", name, tuple(SIMILARITIES))

    @property
    def csv_file(self) -> str:
        """The name of the csv file."""
        return self._named("triplet_evaluation")

    def _outcome(self, model):
        anchors = embed(model, self.anchors, how="encode_query", **self._encoding)
        positives, negatives = embed_pairs(
            model, self.positives, self.negatives, how="encode_document", **self._encoding
        )
        names = similarity_names(self.similarity_fn_names, self.main_similarity_function) or [
            model.similarity_fn_name
        ]
        metrics, columns = {}, {}
        for name in names:
            margin = (
                self.margin.get(name, 0) if isinstance(self.margin, Mapping) else self.margin or 0
            )
            closer = pairwise(name, anchors, positives) > pairwise(
                name, anchors, negatives
            ) + np.float32(margin)
            metrics[f"{name}_accuracy"] = columns[f"accuracy_{name}"] = closer.mean()
        if len(names) > 1:
            metrics["max_accuracy"] = max(metrics.values())
        main = self.main_similarity_function or ("max" if len(names) > 1 else names[0])
        return Outcome(metrics, f"{main}_accuracy", columns)
