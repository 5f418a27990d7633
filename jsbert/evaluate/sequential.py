"""Several evaluations as one."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from jsbert.evaluate.evaluator import Evaluator


class SequentialEvaluator(Evaluator):
    """The results of several evaluators in one dict, and "sequential_score", the primary metric.

    An evaluator may also return one number; its key is then evaluator_{its index}.
    Reference: sentence-transformers' SequentialEvaluator.
    """

    def __init__(
        self,
        evaluators: Iterable[Callable],
        main_score_function: Callable = lambda scores: scores[-1],
        name: str = "",
    ):
        """Joins evaluators.

        Args:
            evaluators: called one after the other.
            main_score_function: makes the sequential score of the list of their primary metrics; by
                default the last.
            name: put before "_sequential_score".
        """
        self.evaluators = list(evaluators)
        self.main_score_function = main_score_function
        self.name = name
        if not self.evaluators:
            raise ValueError("evaluators is empty; give at least one")

    def __call__(
        self,
        model: Any,
        output_path: str | os.PathLike | None = None,
        epoch: int = -1,
        steps: int = -1,
    ) -> dict[str, float]:
        """The results on `model`; the arguments are handed to each evaluator.

        Raises:
            ValueError: for two evaluators with the same key; names keep them apart.
        """
        results: dict[str, float] = {}
        scores = []
        for index, evaluator in enumerate(self.evaluators):
            found = evaluator(model, output_path, epoch, steps)
            if not isinstance(found, dict):
                found = {f"evaluator_{index}": float(found)}
            if twice := sorted(results.keys() & found.keys()):
                raise ValueError(f"two evaluators return {twice[0]!r}; give each a name of its own")
            primary = getattr(evaluator, "primary_metric", None)
            scores.append(found[primary] if primary else next(iter(found.values())))
            results |= found
        self.primary_metric = f"{self.name}_sequential_score" if self.name else "sequential_score"
        return results | {self.primary_metric: float(self.main_score_function(scores))}
