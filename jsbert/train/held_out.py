"""The loss of held-out examples, as an evaluator of a run."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jsbert.cross_encoder import CrossEncoder
from jsbert.evaluate import Evaluator
from jsbert.evaluate.evaluator import Outcome
from jsbert.inputs import check_positive
from jsbert.train.batches import Source, collate


class HeldOutLoss(Evaluator):
    """The mean loss of examples that are not trained on. Smaller is better.

    Keys: loss, the primary metric, the mean over all sources' examples; with several sources also
    {name of the source}_loss. There is no dropout. In-batch negatives come from batches of
    `batch_size` in the order of the examples.

    >>> from jsbert import SentenceTransformer
    >>> from jsbert.data import Examples
    >>> from jsbert.train import HeldOutLoss, Source
    >>> pairs = Examples.from_columns({"a": ["a cat"], "b": ["a dog"], "score": [0.5]})
    >>> sorted(HeldOutLoss(Source(pairs, "cosine"))(SentenceTransformer()))
    ['loss']
    """

    greater_is_better = False
    csv_file = "held_out_loss_results.csv"

    def __init__(
        self,
        sources: Source | Sequence[Source],
        *,
        batch_size: int = 16,
        name: str = "",
        write_csv: bool = True,
    ):
        """Take the examples.

        Args:
            sources: held-out examples with their objectives. An objective with params of its own,
                such as "softmax", cannot be scored: an evaluator sees the model alone.
            batch_size: examples of a batch.
            name, write_csv: see `Evaluator`.

        Raises:
            ValueError: without sources, or if two have the same name.
        """
        check_positive("batch_size", batch_size, or_none=False)
        self.sources = [sources] if isinstance(sources, Source) else list(sources)
        names = [source.name for source in self.sources]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"the sources are named {names}; give each a name of its own")
        self.batch_size, self.name, self.write_csv = batch_size, name, write_csv
        self._config: Any = None
        self._losses: list[Any] = []

    def _outcome(self, model):
        if model.config != self._config:  # the programs of a run are compiled once
            self._losses = [self._loss(source, model.config) for source in self.sources]
            self._config = model.config
        sums = [
            self._sum(model, source, *loss)
            for source, loss in zip(self.sources, self._losses, strict=True)
        ]
        counts = [len(source.examples) for source in self.sources]
        metrics = {"loss": sum(sums) / sum(counts)}
        if len(sums) > 1:
            for source, total, count in zip(self.sources, sums, counts, strict=True):
                metrics[f"{source.name}_loss"] = total / count
        return Outcome(metrics, "loss", metrics)

    def _loss(self, source, config):
        """The objective of a source, and its jitted sum of the losses of a batch."""
        objective = source.build(config)
        if objective.init is not None:
            raise ValueError(
                f"{source.name}: {objective.kind} has params of its own, which an evaluator does "
                "not see; give an evaluator of jsbert.evaluate"
            )

        def summed(params, batch):
            return objective.loss(params, objective.forward(params, batch, None), batch).sum()

        return objective, jax.jit(summed)

    def _sum(self, model, source, objective, loss) -> float:
        """The sum of the losses of all examples of a source."""
        losses = []
        for start in range(0, len(source.examples), self.batch_size):
            indices = np.arange(start, min(start + self.batch_size, len(source.examples)))
            batch = collate(
                source,
                objective,
                model.tokenizer,
                indices,
                pairs=isinstance(model, CrossEncoder),
            )
            losses.append(loss(model.params, batch.arrays))
        return float(np.sum(np.asarray(losses, np.float64)))
