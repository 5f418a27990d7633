"""The peer's trainers over `jsbert.train.fit`."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jsbert.cross_encoder import CrossEncoder
from jsbert.data import Examples
from jsbert.evaluate import SequentialEvaluator
from jsbert.sentence_transformer import SentenceTransformer
from jsbert.sentence_transformers.cross_encoder.losses import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
)
from jsbert.sentence_transformers.losses import CoSENTLoss, Loss
from jsbert.sentence_transformers.missing import refuse
from jsbert.sentence_transformers.training_args import SentenceTransformerTrainingArguments
from jsbert.train import Source, fit
from jsbert.train.folder import METRICS
from jsbert.train.record import read_metrics

Losses = Loss | Mapping[str, Loss] | Callable[[Any], Loss]
"""One loss; one for each data set; or a function of the model that makes one."""

_OWN = "use jsbert.train.make_step in a loop of your own"
WAYS = {
    "eval_dataset": "give an evaluator of jsbert.sentence_transformers.evaluation",
    "data_collator": _OWN,
    "processing_class": "the model has its tokenizer",
    "model_init": "give the model",
    "compute_metrics": "give an evaluator",
    "callbacks": "give an evaluator, which is called as the training goes on",
    "optimizer_cls_and_kwargs": _OWN,
    "preprocess_logits_for_metrics": "give an evaluator",
}
"""For each argument that jsbert does not have, what to do."""


class TrainOutput(NamedTuple):
    """What `train` returns.

    Attributes:
        global_step: updates done.
        training_loss: the mean loss of the last logged updates.
        metrics: the last line of metrics.jsonl that has a loss.
    """

    global_step: int
    training_loss: float
    metrics: dict[str, Any]


class SentenceTransformerTrainer:
    """Train a model by `jsbert.train.fit`, under the peer's names.

    `train()` changes the model. The run's folder is `args.output_dir`: it holds the trained model
    as well, and an interrupted run goes on when it is started again.
    """

    def __init__(
        self,
        model: Any,
        args: SentenceTransformerTrainingArguments | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        loss: Losses | None = None,
        evaluator: Callable | Sequence[Callable] | None = None,
        data_collator: Any = None,
        processing_class: Any = None,
        model_init: Any = None,
        compute_metrics: Any = None,
        callbacks: Sequence[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: Any = None,
        preprocess_logits_for_metrics: Any = None,
    ):
        """Check the arguments.

        Args:
            model: a `SentenceTransformer` or a `CrossEncoder`; it is trained in place.
            args: the arguments of the run.
            train_dataset: a `datasets.Dataset`, or a dict of them. Columns of texts in the order of
                the loss, and a column "label", "labels", "score" or "scores" if it takes labels.
            loss: of `losses`; a dict has one for each data set. By default CoSENTLoss, and for a
                cross-encoder the cross-entropy.
            evaluator: one or several, called as `args.eval_strategy` says; the best state is kept
                by the main score, that of several being their last.
            The other arguments are refused.

        Raises:
            ValueError: for an argument that jsbert does not have, no data, or losses that do not
                fit the data sets.
        """
        refuse(
            type(self).__name__,
            {
                "eval_dataset": eval_dataset,
                "data_collator": data_collator,
                "processing_class": processing_class,
                "model_init": model_init,
                "compute_metrics": compute_metrics,
                "callbacks": callbacks or None,
                "optimizer_cls_and_kwargs": optimizer_cls_and_kwargs,
                "preprocess_logits_for_metrics": preprocess_logits_for_metrics,
            },
            WAYS,
        )
        if tuple(optimizers) != (None, None):
            raise ValueError(f"optimizers is not supported; {_OWN}")
        if train_dataset is None:
            raise ValueError("train_dataset is None; give a datasets.Dataset, or a dict of them")
        self.model = model
        self.args = args or SentenceTransformerTrainingArguments()
        self.train_dataset = train_dataset
        self.loss = self._default_loss() if loss is None else loss
        self.evaluator: Callable | None
        if isinstance(evaluator, Sequence):
            self.evaluator = SequentialEvaluator(evaluator)
        else:
            self.evaluator = evaluator

    def train(self) -> TrainOutput:
        """Train the model. Return the number of updates and the last loss.

        Raises:
            ValueError, OSError: as `jsbert.train.fit`.
        """
        data = self.train_dataset
        data = data if isinstance(data, Mapping) else {"train": data}
        losses = {name: self._loss(name, list(data)) for name in data}
        examples = {
            name: _with_guide(Examples.from_dataset(dataset), losses[name].guide)
            for name, dataset in data.items()
        }
        chunks = {loss.chunk_size for loss in losses.values() if loss.chunk_size is not None}
        recipe = self.args.recipe(
            sum(len(found) for found in examples.values()), min(chunks, default=None)
        )
        sources = [Source(examples[name], losses[name].objective(), name) for name in data]
        # `fit` opens the run's folder with the class of its model, and with jsbert's options.
        kind: Any = CrossEncoder if isinstance(self.model, CrossEncoder) else SentenceTransformer
        attention = self.model.config.encoder.compute.attn_implementation
        trained = fit(
            kind.from_parts(
                self.model.parts, device=self.model.devices, attn_implementation=attention
            ),
            sources,
            self.args.output_dir,
            recipe,
            evaluator=None if self.args.eval_strategy == "no" else self.evaluator,
            show_progress_bar=not self.args.disable_tqdm,
        )
        self.model.params = trained.params
        return self._output()

    def evaluate(self) -> Any:
        """Return what the evaluator finds for the model.

        Raises:
            ValueError: without an evaluator.
        """
        if self.evaluator is None:
            raise ValueError("the trainer has no evaluator; give one")
        return self.evaluator(self.model)

    def save_model(self, output_dir: str | os.PathLike | None = None) -> None:
        """Write the model as a folder; by default `args.output_dir`, which has it after `train`."""
        self.model.save_pretrained(self.args.output_dir if output_dir is None else output_dir)

    def _default_loss(self) -> Loss:
        if not isinstance(self.model, CrossEncoder):
            return CoSENTLoss(self.model)
        one = self.model.num_labels == 1
        return BinaryCrossEntropyLoss(self.model) if one else CrossEntropyLoss(self.model)

    def _loss(self, name: str, names: Sequence[str]) -> Loss:
        loss = self.loss
        if isinstance(loss, Mapping):
            if name not in loss:
                raise ValueError(f"no loss for the data set {name!r}; give one for each of {names}")
            loss = loss[name]
        if not isinstance(loss, Loss) and callable(loss):
            loss = loss(self.model)
        if not isinstance(loss, Loss):
            raise ValueError(
                f"the loss is {type(loss).__name__}; give one of "
                "jsbert.sentence_transformers.losses"
            )
        return loss

    def _output(self) -> TrainOutput:
        logged = read_metrics(pathlib.Path(self.args.output_dir) / METRICS)
        last = next(entry for entry in reversed(logged) if "loss" in entry)
        return TrainOutput(last["step"], last["loss"], last)


class CrossEncoderTrainer(SentenceTransformerTrainer):
    """The same for a cross-encoder."""


def _with_guide(examples: Examples, guide: Any) -> Examples:
    """Return the examples with the guide's vectors of all their texts as labels, (N, T, E)."""
    if guide is None:
        return examples
    vectors = [guide.encode(list(column), show_progress_bar=False) for column in examples.texts]
    labels = np.stack(vectors, axis=1)
    return dataclasses.replace(examples, labels=labels, label_name="guide", label_names=None)
