"""The recipe: every option that a run depends on, and the optimizer that follows from it."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import optax

from jsbert.inputs import check_choice, check_positive


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The options of a run. The defaults are those of the paper, as far as the paper names them.

    Attributes:
        epochs: the number of passes over the data.
        batch_size: the number of examples of a batch.
        learning_rate: the largest learning rate, at the end of the warm-up.
        warmup: the share of the updates over which the learning rate rises from 0.
        schedule: the learning rate after the warm-up: "linear", a decay to 0, or "constant".
        weight_decay: AdamW's weight decay; for matrices only, not for biases and LayerNorm.
        max_grad_norm: the largest norm of the gradient; longer gradients are scaled down to it.
            None: gradients are not scaled.
        accumulate: the number of batches whose gradients are averaged for one update. In-batch
            negatives come from one batch.
        chunk_size: the number of examples computed at a time within a batch; None: all. The
            gradient is that of the whole batch, in the memory of a chunk, at the cost of one more
            forward pass.
        dtype: the dtype of the matrix products, "float32" or "bfloat16"; params and optimizer are
            float32.
        remat: whether to compute each layer again in the backward pass, to save memory.
        packing: whether to put several texts in a row, so that there is little padding. The
            gradient is the same, in half the time. With chunks, accumulation or several devices,
            rows are padded anyway.
        frozen: regular expressions. A param is frozen if one of them is found in its path, such as
            "encoder/layers/0/output/kernel".
        lora_rank: the rank of low-rank matrices; None: there are none. With a rank, only the
            matrices are trained in the encoder, and what is behind the encoder (Dense modules, a
            classifier) is trained whole; see `train.lora`. The run's folder then also has the
            matrices as a PEFT adapter, in `adapter`.
        lora_alpha: the kernels are W + lora_alpha / lora_rank * A B.
        lora_targets: regular expressions as for `frozen`: the kernels that get matrices; None: all.
        dropout: None: the model's own rates; False: no dropout.
        seed: determines the order of the data, the dropout and new params.
        mix: how several data sets take turns: "proportional" or "round-robin" (until the shortest
            is used up).
        no_duplicates: whether no text may be twice in a batch; None: true for objectives with
            in-batch negatives.
        group_by_label: the examples of a class come in pairs, and the classes are spread over the
            epoch; None: where a text's class says which texts are its positives, such as for
            batch-hard-triplet. The batch size must be even, at least 4. Not with `no_duplicates`.
        max_steps: stop after this number of updates; the schedule ends there.
        eval_steps: the number of updates between evaluations; None: evaluate at the end of each
            epoch.
        keep_best: whether a run with an evaluator ends with the best state; False: with the last.
        checkpoint_steps: the number of updates between checkpoints.
        log_steps: the number of updates between lines of metrics.jsonl.
        num_workers: the number of threads that read and tokenise ahead.
    """

    epochs: int = 1
    batch_size: int = 16
    learning_rate: float = 2e-5
    warmup: float = 0.1
    schedule: str = "linear"
    weight_decay: float = 0.01
    max_grad_norm: float | None = 1.0
    accumulate: int = 1
    chunk_size: int | None = None
    dtype: str = "float32"
    remat: bool = False
    packing: bool = True
    frozen: tuple[str, ...] = ()
    lora_rank: int | None = None
    lora_alpha: float = 16.0
    lora_targets: tuple[str, ...] | None = None
    dropout: bool | None = None
    seed: int = 0
    mix: str = "proportional"
    no_duplicates: bool | None = None
    group_by_label: bool | None = None
    max_steps: int | None = None
    eval_steps: int | None = None
    keep_best: bool = True
    checkpoint_steps: int = 500
    log_steps: int = 10
    num_workers: int = 1

    def __post_init__(self):
        for name in (
            "epochs",
            "batch_size",
            "accumulate",
            "checkpoint_steps",
            "log_steps",
            "num_workers",
        ):
            check_positive(name, getattr(self, name), or_none=False)
        for name in ("chunk_size", "max_steps", "eval_steps", "lora_rank"):
            check_positive(name, getattr(self, name))
        if self.dropout not in (None, False) or (
            isinstance(self.dropout, (int, float)) and self.dropout is not False
        ):
            raise ValueError(
                f"dropout is {self.dropout!r}; give None for the model's own rates, or False for "
                "none"
            )
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed is {self.seed!r}; it must be an integer, 0 or more")
        if self.no_duplicates and self.group_by_label:
            raise ValueError("no_duplicates and group_by_label are both True; give one of them")
        check_choice("schedule", self.schedule, ("linear", "constant"))
        check_choice("mix", self.mix, ("proportional", "round-robin"))
        check_choice("dtype", self.dtype, ("float32", "bfloat16"))
        _check_number("learning_rate", self.learning_rate, above=0)
        _check_number("weight_decay", self.weight_decay)
        _check_number("lora_alpha", self.lora_alpha, above=0)
        _check_number("warmup", self.warmup, most=1)
        if self.max_grad_norm is not None:
            _check_number("max_grad_norm", self.max_grad_norm, above=0)
        for name in ("frozen", "lora_targets"):
            patterns = getattr(self, name)
            if name == "lora_targets" and patterns is None:
                continue
            if isinstance(patterns, str) or not all(
                isinstance(pattern, str) for pattern in patterns
            ):
                raise ValueError(f"{name} is {patterns!r}; give a sequence of patterns")
            object.__setattr__(self, name, tuple(patterns))
        if self.lora_targets is not None and self.lora_rank is None:
            raise ValueError(
                f"lora_targets is {self.lora_targets!r}, without a lora_rank; give one"
            )

    def to_json(self) -> dict[str, Any]:
        """The options as json: lists in place of tuples."""
        values = dataclasses.asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }


def learning_rate(recipe: Recipe, num_steps: int) -> Callable[[Any], Any]:
    """Return the function from update 0, 1, ... to learning rate: a linear warm-up, then the
    schedule, as transformers' get_scheduler."""
    warmup = min(math.ceil(recipe.warmup * num_steps), num_steps)
    end = recipe.learning_rate if recipe.schedule == "constant" else 0.0
    rest = optax.linear_schedule(recipe.learning_rate, end, max(1, num_steps - warmup))
    if not warmup:
        return rest
    return optax.join_schedules(
        [optax.linear_schedule(0.0, recipe.learning_rate, warmup), rest], [warmup]
    )


def make_optimizer(recipe: Recipe, num_steps: int) -> optax.GradientTransformation:
    """AdamW, with the gradient's norm clipped first."""
    adamw = optax.adamw(
        learning_rate(recipe, num_steps), weight_decay=recipe.weight_decay, mask=_is_matrix
    )
    clip = [] if recipe.max_grad_norm is None else [optax.clip_by_global_norm(recipe.max_grad_norm)]
    return optax.chain(*clip, adamw)


MATRICES = ("kernel", "embedding", "lora_A", "lora_B")
"""The names of params to which weight decay applies."""


def _is_matrix(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in MATRICES, params)


def _check_number(name, value, *, above=None, most=None):
    """Raise ValueError unless `value` is a number of at least 0, or above 0 if `above` is given,
    and at most `most`."""
    low = "above 0" if above is not None else "0 or more"
    is_number = (
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    )
    if (
        not is_number
        or value < 0
        or (above is not None and value <= above)
        or (most is not None and value > most)
    ):
        raise ValueError(
            f"{name} is {value!r}; it must be a number, "
            f"{low}{'' if most is None else f', at most {most}'}"
        )
