"""Several evaluators as one."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from jsbert.evaluate.evaluator import Evaluator


class SequentialEvaluator(Evaluator):
    """The results of several evaluators in one dict, and "sequential_score", the primary metric.

    If an evaluator returns one number in place of a dict, its key is evaluator_{index}.
    Reference: sentence-transformers' SequentialEvaluator.
    """

    def __init__(
        self,
        evaluators: Iterable[Callable],
        main_score_function: Callable = lambda scores: scores[-1],
        name: str = "",
    ):
        """Combine evaluators.

        Args:
            evaluators: the evaluators, called in this order.
            main_score_function: makes the sequential score from the list of all primary metrics; by
                default it takes the last.
            name: the part of the key before "_sequential_score".
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
        """Call each evaluator with the same arguments, and return all results.

        Raises:
            ValueError: if two evaluators return the same key; give them different names.
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
