"""The peer's trainers over `jsbert.train.fit`."""

import dataclasses
import operator
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jsbert.cross_encoder import CrossEncoder
from jsbert.data import Examples
from jsbert.evaluate import SequentialEvaluator
from jsbert.sentence_transformer import SentenceTransformer
from jsbert.sentence_transformers.callbacks import Callbacks, TrainerState, checked
from jsbert.sentence_transformers.cross_encoder.losses import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
)
from jsbert.sentence_transformers.losses import CoSENTLoss, Loss
from jsbert.sentence_transformers.missing import refuse
from jsbert.sentence_transformers.readers import InputExample
from jsbert.sentence_transformers.training_args import SentenceTransformerTrainingArguments
from jsbert.train import HeldOutLoss, Source, fit
from jsbert.train.folder import METRICS
from jsbert.train.record import read_metrics

Losses = Loss | Mapping[str, Loss] | Callable[[Any], Loss]
"""One loss; one for each data set; or a function of the model that makes one."""

_OWN = "use jsbert.train.make_step in a loop of your own"
WAYS = {
    "data_collator": _OWN,
    "processing_class": "the model has its tokenizer",
    "model_init": "give the model",
    "compute_metrics": "give an evaluator",
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

    Attributes:
        state: how far the run is, as callbacks see it.
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
                A list of `InputExample` is taken, too.
            loss: of `losses`; a dict has one for each data set. By default CoSENTLoss, and for a
                cross-encoder the cross-entropy.
            eval_dataset: examples of the same form as `train_dataset`; their loss is computed as
                `args.eval_strategy` says. Not for a loss with params of its own (SoftmaxLoss).
            evaluator: one or several, called as `args.eval_strategy` says. The state is the best by
                `args.metric_for_best_model`; by default the evaluator's primary metric, that of
                several being their last, or without an evaluator the loss of `eval_dataset`.
            callbacks: objects or classes of transformers' form; see `callbacks.EVENTS`.
            The other arguments are refused.

        Raises:
            ValueError: for an argument that jsbert does not have, no data, or losses that do not
                fit the data sets.
        """
        refuse(
            type(self).__name__,
            {
                "data_collator": data_collator,
                "processing_class": processing_class,
                "model_init": model_init,
                "compute_metrics": compute_metrics,
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
        self.eval_dataset = eval_dataset
        self.callbacks: list[Any] = []
        self.state = TrainerState()
        for callback in callbacks or ():
            self.add_callback(callback)

    def add_callback(self, callback: Any) -> None:
        """Add a callback: an object, or a class.

        Raises:
            ValueError: if it has a method that would never be called.
        """
        self.callbacks.append(checked(callback))

    def remove_callback(self, callback: Any) -> None:
        """Remove a callback, or all callbacks of a class."""
        kind = callback if isinstance(callback, type) else ()
        kept = (own for own in self.callbacks if own is not callback)
        self.callbacks = [own for own in kept if not isinstance(own, kind)]

    def train(self, resume_from_checkpoint: str | os.PathLike | bool | None = None) -> TrainOutput:
        """Train the model. Return the number of updates and the last loss.

        Args:
            resume_from_checkpoint: True or None: an interrupted run in `args.output_dir` goes on.
                Nothing else is supported.

        Raises:
            ValueError, OSError: as `jsbert.train.fit`.
        """
        if resume_from_checkpoint not in (None, True):
            raise ValueError(
                f"resume_from_checkpoint={resume_from_checkpoint!r} is not supported; a run that "
                f"was interrupted goes on from output_dir, {self.args.output_dir!r}. Give another "
                "output_dir to begin again"
            )
        args = self.args
        losses, sources = self._sources(self.train_dataset)
        chunks = {loss.chunk_size for loss in losses if loss.chunk_size is not None}
        num_examples = sum(len(source.examples) for source in sources)
        recipe = args.recipe(num_examples, min(chunks, default=None))
        scores = None if args.eval_strategy == "no" else self._scores()
        self.state = TrainerState(
            max_steps=args.total_updates(num_examples), num_train_epochs=recipe.epochs
        )
        if args.metric_for_best_model is None and self.evaluator is None:
            args.metric_for_best_model = "loss"
        args.greater_is_better = scores is None or scores.greater_is_better
        better = operator.gt if args.greater_is_better else operator.lt
        callbacks = Callbacks(self.callbacks, args, self.model, self.state, better)
        callbacks.call("on_train_begin")
        # `fit` opens the run's folder with the class of its model, and with jsbert's options.
        kind: Any = CrossEncoder if isinstance(self.model, CrossEncoder) else SentenceTransformer
        attention = self.model.config.encoder.compute.attn_implementation
        trained = fit(
            kind.from_parts(
                self.model.parts, device=self.model.devices, attn_implementation=attention
            ),
            sources,
            args.output_dir,
            recipe,
            evaluator=scores,
            on_log=callbacks,
            show_progress_bar=not args.disable_tqdm,
        )
        self.model.params = trained.params
        callbacks.call("on_train_end")
        return self._output()

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: Sequence[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Return the loss of the held-out examples and what the evaluator finds for the model.

        Args:
            eval_dataset: in place of the trainer's.
            ignore_keys: has no effect.
            metric_key_prefix: stands before each key, with "_".

        Raises:
            ValueError: without an evaluator and examples.
        """
        return self._scores(eval_dataset, metric_key_prefix)(self.model)

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

    def _sources(self, data: Any) -> tuple[list[Loss], list[Source]]:
        """Return the losses and the sources of a data set, or of a dict of them."""
        data = data if isinstance(data, Mapping) else {"train": data}
        losses = {name: self._loss(name, list(data)) for name in data}
        sources = [
            Source(
                _with_guide(_examples(dataset), losses[name].guide),
                losses[name].objective(),
                name,
            )
            for name, dataset in data.items()
        ]
        return list(losses.values()), sources

    def _scores(self, eval_dataset: Any = None, prefix: str = "eval") -> "_Scores":
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        held_out = None
        if data is not None:
            batch_size = self.args.per_device_eval_batch_size
            held_out = HeldOutLoss(self._sources(data)[1], batch_size=batch_size)
        if held_out is None and self.evaluator is None:
            raise ValueError("the trainer has no evaluator and no eval_dataset; give one of them")
        return _Scores(held_out, self.evaluator, prefix, self.args)

    def _output(self) -> TrainOutput:
        logged = read_metrics(pathlib.Path(self.args.output_dir) / METRICS)
        last = next(entry for entry in reversed(logged) if "loss" in entry)
        return TrainOutput(last["step"], last["loss"], last)


class CrossEncoderTrainer(SentenceTransformerTrainer):
    """The same for a cross-encoder."""


class _Scores:
    """The held-out loss and the evaluator as one evaluator of `fit`, with a prefix on each key.

    Attributes:
        primary_metric: the key of the metric that decides which state is the best.
        greater_is_better: whether a larger value of it is better.
    """

    def __init__(
        self,
        held_out: HeldOutLoss | None,
        evaluator: Callable | None,
        prefix: str,
        args: SentenceTransformerTrainingArguments,
    ):
        self._held_out, self._evaluator, self._prefix = held_out, evaluator, prefix
        wanted = args.metric_for_best_model
        if wanted is None and evaluator is None:
            wanted = "loss"
        self._wanted = None if wanted is None else wanted.removeprefix(f"{prefix}_")
        if args.greater_is_better is not None:
            self.greater_is_better = bool(args.greater_is_better)
        elif self._wanted is None:
            self.greater_is_better = getattr(evaluator, "greater_is_better", True)
        else:
            self.greater_is_better = not self._wanted.endswith("loss")
        # The record of a run names what scores it.
        self.__qualname__ = " and ".join(
            type(part).__name__ for part in (held_out, evaluator) if part is not None
        )

    def __call__(self, model: Any) -> dict[str, float]:
        found = {} if self._held_out is None else self._held_out(model)
        primary = self._wanted
        if self._evaluator is not None:
            scores = self._evaluator(model)
            scores = scores if isinstance(scores, dict) else {"evaluator": float(scores)}
            found |= scores
            if primary is None:
                primary = getattr(self._evaluator, "primary_metric", None) or next(iter(scores))
        if primary not in found:
            raise ValueError(
                f"metric_for_best_model is {primary!r}; the metrics are {', '.join(found)}"
            )
        self.primary_metric = f"{self._prefix}_{primary}"
        return {f"{self._prefix}_{name}": value for name, value in found.items()}


def _examples(data: Any) -> Examples:
    """Return the examples of a `datasets.Dataset`, or of a list of `InputExample`."""
    if not isinstance(data, (list, tuple)) or not all(isinstance(x, InputExample) for x in data):
        return Examples.from_dataset(data)
    texts = zip(*(example.texts for example in data), strict=True)
    columns: dict[str, Any] = {f"text{i}": list(column) for i, column in enumerate(texts)}
    return Examples.from_columns(columns | {"label": [example.label for example in data]})


def _with_guide(examples: Examples, guide: Any) -> Examples:
    """Return the examples with the guide's vectors of all their texts as labels, (N, T, E)."""
    if guide is None:
        return examples
    vectors = [guide.encode(list(column), show_progress_bar=False) for column in examples.texts]
    labels = np.stack(vectors, axis=1)
    return dataclasses.replace(examples, labels=labels, label_name="guide", label_names=None)
