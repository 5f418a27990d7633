"""The peer's training arguments, in the terms of `jsbert.train.Recipe`."""

import dataclasses
import enum
import math
import os
from collections.abc import Mapping
from typing import Any

from jsbert.sentence_transformers.missing import refuse
from jsbert.train import Recipe


class BatchSamplers(enum.StrEnum):
    """How batches are drawn from one data set."""

    BATCH_SAMPLER = "batch_sampler"
    NO_DUPLICATES = "no_duplicates"
    NO_DUPLICATES_HASHED = "no_duplicates_hashed"
    GROUP_BY_LABEL = "group_by_label"


class MultiDatasetBatchSamplers(enum.StrEnum):
    """How several data sets take turns."""

    ROUND_ROBIN = "round_robin"
    PROPORTIONAL = "proportional"


WITHOUT_EFFECT = frozenset(
    {"run_name", "save_strategy", "save_total_limit", "logging_strategy", "logging_first_step",
     "dataloader_num_workers", "dataloader_pin_memory", "do_train"}
)  # fmt: skip
"""Arguments that are taken and change nothing: none of them changes the trained model."""

WAYS = {
    "fp16": "use bf16=True",
    "prompts": "put the prompts in front of the texts",
    "optim": "AdamW is used",
    "use_cpu": "open the model with device='cpu'",
    "data_seed": "seed decides",
    "report_to": "losses are in metrics.jsonl and training.png of output_dir",
    "push_to_hub": "call model.push_to_hub after the training",
    "dataloader_drop_last": "the last batch of an epoch is used",
    "router_mapping": "models with routes are not trained",
    "learning_rate_mapping": "use Recipe(frozen=...) of jsbert.train to leave params alone",
}
"""For some arguments that jsbert does not have, what to do."""


@dataclasses.dataclass
class _Arguments:
    output_dir: str | os.PathLike = "trainer_output"
    per_device_train_batch_size: int = 8
    num_train_epochs: float | int = 3.0
    max_steps: int = -1
    learning_rate: float = 5e-5
    lr_scheduler_type: str = "linear"
    _: dataclasses.KW_ONLY
    warmup_steps: float | int = 0
    warmup_ratio: float | int | None = None
    weight_decay: float | int = 0.0
    gradient_accumulation_steps: int = 1
    max_grad_norm: float | int = 1.0
    bf16: bool = False
    gradient_checkpointing: bool = False
    logging_steps: int = 500
    eval_strategy: str = "no"
    eval_steps: int | None = None
    per_device_eval_batch_size: int = 8
    metric_for_best_model: str | None = None
    greater_is_better: bool | None = None
    save_steps: int = 500
    seed: int = 42
    disable_tqdm: bool = False
    load_best_model_at_end: bool = False
    batch_sampler: str = BatchSamplers.BATCH_SAMPLER
    multi_dataset_batch_sampler: str = MultiDatasetBatchSamplers.PROPORTIONAL


class SentenceTransformerTrainingArguments(_Arguments):
    """The arguments of a run under the peer's names, with the peer's defaults.

    Attributes:
        output_dir: the folder of the run: model, metrics, picture, and checkpoints meanwhile. The
            same call goes on after an interruption.
        num_train_epochs: also a fraction.
        max_steps: updates; overrides the epochs if it is positive.
        warmup_steps: updates of the warm-up; below 1, their share. `warmup_ratio` overrides it.
        bf16: matrix products in bfloat16.
        gradient_checkpointing: compute each layer again in the backward pass.
        eval_strategy: "no", "epoch" or "steps": when the model is scored.
        load_best_model_at_end: whether the run ends with the best state, or with the last.
        metric_for_best_model: the metric that decides, with or without "eval_" before it.
        greater_is_better: whether a larger value of this metric is better; by default unless its
            name ends with "loss".
        The other attributes have the names of the peer.
    """

    def __init__(self, *arguments: Any, **options: Any):
        """Check the arguments: those of the attributes, the first six also by position.

        Raises:
            ValueError: for an argument that jsbert does not have; the message names it.
        """
        known = {field.name for field in dataclasses.fields(_Arguments)}
        others = {name: options.pop(name) for name in set(options) - known}
        refuse("the arguments", _asked(others), {name: WAYS.get(name, _WAY) for name in others})
        super().__init__(*arguments, **options)
        vars(self).update(others)  # a script may read them again
        if self.eval_strategy not in ("no", "epoch", "steps"):
            raise ValueError(
                f"eval_strategy={self.eval_strategy!r}; choose 'no', 'epoch' or 'steps'"
            )
        self.output_dir = os.fspath(self.output_dir)
        self.batch_sampler = BatchSamplers(self.batch_sampler)
        self.multi_dataset_batch_sampler = MultiDatasetBatchSamplers(
            self.multi_dataset_batch_sampler
        )

    def recipe(self, num_examples: int, chunk_size: int | None = None) -> Recipe:
        """Return the recipe for a data set of `num_examples`.

        Raises:
            ValueError: for a value out of range.
        """
        updates, total = self._updates(num_examples), self.total_updates(num_examples)
        epochs = max(1, math.ceil(total / updates))
        schedule = str(getattr(self.lr_scheduler_type, "value", self.lr_scheduler_type))
        schedule = schedule.replace("constant_with_warmup", "constant")
        warmup = self.warmup_steps if self.warmup_ratio is None else self.warmup_ratio
        share = warmup if warmup < 1 else warmup / total
        return Recipe(
            epochs=epochs,
            batch_size=self.per_device_train_batch_size,
            learning_rate=self.learning_rate,
            warmup=min(1.0, share),
            schedule=schedule,
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm or None,
            accumulate=self.gradient_accumulation_steps,
            chunk_size=chunk_size,
            dtype="bfloat16" if self.bf16 else "float32",
            remat=self.gradient_checkpointing,
            seed=self.seed,
            mix=self.multi_dataset_batch_sampler.replace("_", "-"),
            no_duplicates=self.batch_sampler.startswith(BatchSamplers.NO_DUPLICATES),
            group_by_label=self.batch_sampler == BatchSamplers.GROUP_BY_LABEL,
            max_steps=None if self.max_steps <= 0 and total == epochs * updates else total,
            eval_steps=(self.eval_steps or self.logging_steps)
            if self.eval_strategy == "steps"
            else None,
            keep_best=self.load_best_model_at_end,
            checkpoint_steps=self.save_steps,
            log_steps=self.logging_steps,
        )

    def total_updates(self, num_examples: int) -> int:
        """Return the updates of a whole run on a data set of `num_examples`."""
        if self.max_steps > 0:
            return self.max_steps
        return max(1, math.ceil(self.num_train_epochs * self._updates(num_examples)))

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments by name."""
        return dataclasses.asdict(self)

    def _updates(self, num_examples: int) -> int:
        """The updates of an epoch."""
        batches = math.ceil(num_examples / self.per_device_train_batch_size)
        return max(1, batches // self.gradient_accumulation_steps)


class CrossEncoderTrainingArguments(SentenceTransformerTrainingArguments):
    """The same for a cross-encoder."""


_WAY = "see jsbert.train.Recipe for what can be chosen"


def _asked(others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that would change something."""
    return {
        name: value
        for name, value in others.items()
        if name not in WITHOUT_EFFECT
        and value not in ("none", [], ["none"])
        and not (name == "optim" and value in ("adamw_torch", "adamw_torch_fused"))
    }
