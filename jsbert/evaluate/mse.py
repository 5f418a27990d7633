"""How far are a student's vectors from the teacher's vectors?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jsbert.evaluate.evaluator import Evaluator, Outcome, check_columns, embed


class MSEEvaluator(Evaluator):
    """The mean squared difference, times 100, between the model's vectors of texts and a teacher's
    vectors of the original texts.

    Key: negative_mse, at most 0, the primary metric.
    Reference: sentence-transformers' MSEEvaluator.
    """

    def __init__(
        self,
        source_sentences: Sequence[str],
        target_sentences: Sequence[str],
        teacher_model: Any,
        show_progress_bar: bool | None = False,
        batch_size: int | None = None,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
    ):
        """Encode the original texts with the teacher.

        Args:
            source_sentences: the original texts, for the teacher.
            target_sentences: the texts for the student, such as translations of the originals.
            teacher_model: a SentenceTransformer. The evaluator does not keep it.
            show_progress_bar, batch_size, truncate_dim: as for `encode`.
            name, write_csv: see `Evaluator`.
        """
        check_columns(source_sentences=source_sentences, target_sentences=target_sentences)
        self.name, self.write_csv = name, write_csv
        self.target_sentences = target_sentences
        self._options: dict[str, Any] = {
            "show_progress_bar": show_progress_bar,
            "batch_size": batch_size,
            "truncate_dim": truncate_dim,
        }
        self.source_embeddings = embed(teacher_model, source_sentences, **self._options)

    @property
    def csv_file(self) -> str:
        """The name of the csv file."""
        return f"mse_evaluation_{self.name}_results.csv"

    def _outcome(self, model):
        embeddings = embed(model, self.target_sentences, **self._options)
        if embeddings.shape != self.source_embeddings.shape:
            raise ValueError(
                f"the teacher's vectors have {self.source_embeddings.shape[1]} dimensions, the "
                "model's "
                f"{embeddings.shape[1]}; they must agree, see truncate_dim"
            )
        mse = 100 * np.mean(np.square(self.source_embeddings - embeddings), dtype=np.float64)
        return Outcome({"negative_mse": -mse}, "negative_mse", {"MSE": mse})
