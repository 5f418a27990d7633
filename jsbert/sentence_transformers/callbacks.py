"""Callbacks of transformers' form, called as a run of `jsbert.train.fit` goes on."""

import dataclasses
from collections.abc import Sequence
from typing import Any

EVENTS = ("on_init_end", "on_train_begin", "on_log", "on_evaluate", "on_train_end")
"""The methods that are called. A callback with another method is refused, because that method would
never be called."""


@dataclasses.dataclass
class TrainerState:
    """How far a run is, under transformers' names.

    Attributes:
        epoch: passes over the data so far.
        global_step: updates so far.
        max_steps: updates of the whole run.
        num_train_epochs: passes over the data of the whole run.
        log_history: the lines that were logged so far.
        best_metric: the best value of the metric that decides.
        best_global_step: the update of this value.
    """

    epoch: float = 0.0
    global_step: int = 0
    max_steps: int = 0
    num_train_epochs: int = 0
    log_history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_metric: float | None = None
    best_global_step: int | None = None
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True


@dataclasses.dataclass
class TrainerControl:
    """What a callback may ask for: `should_training_stop` ends the run. The other attributes are
    there and change nothing."""

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False


def checked(callback: Any) -> Any:
    """Return a callback; a class is called.

    Raises:
        ValueError: for a callback with a method that would never be called.
    """
    callback = callback() if isinstance(callback, type) else callback
    for cls in type(callback).__mro__:
        own = [name for name in vars(cls) if name.startswith("on_") and name not in EVENTS]
        is_base = cls.__name__ == "TrainerCallback" and cls.__module__.startswith("transformers.")
        if own and not is_base:
            raise ValueError(
                f"the callback {type(callback).__name__} has {own[0]}, which is not called; "
                f"called are {', '.join(EVENTS)}"
            )
    return callback


class Callbacks:
    """The callbacks of a run, and the state that they see.

    `__call__` is what `fit` takes as `on_log`: it gets each line of metrics.jsonl.

    Attributes:
        state: how far the run is.
        control: what the callbacks asked for.
    """

    def __init__(
        self, callbacks: Sequence[Any], args: Any, model: Any, state: TrainerState, is_better: Any
    ):
        """Begin with a state of no updates.

        Args:
            callbacks: objects with some of the methods `EVENTS`.
            args: the training arguments, for the callbacks.
            model: the model, for the callbacks.
            state: has the number of updates and epochs of the whole run.
            is_better: `(value, best) -> bool` for the metric that decides.
        """
        self._callbacks, self._args, self._model = callbacks, args, model
        self._is_better = is_better
        self.state, self.control = state, TrainerControl()

    def call(self, event: str, **values: Any) -> None:
        """Call the method `event` of each callback that has one."""
        for callback in self._callbacks:
            method = getattr(callback, event, None)
            if method is not None:
                values = {"model": self._model, "processing_class": self._model.tokenizer} | values
                found = method(self._args, self.state, self.control, **values)
                self.control = self.control if found is None else found

    def __call__(self, line: dict[str, Any]) -> bool:
        """Take a line of metrics.jsonl. Return whether the run is to end."""
        if not line["step"]:  # the scores before the first update
            return False
        state = self.state
        state.global_step = line["step"]
        state.epoch = state.num_train_epochs * line["step"] / max(1, state.max_steps)
        scores = line.get("scores")
        logs = {"epoch": state.epoch} | (
            {name: line[name] for name in ("loss", "grad_norm", "learning_rate")}
            if scores is None
            else scores
        )
        state.log_history.append(logs | {"step": line["step"]})
        self.call("on_log", logs=logs)
        if scores is not None:
            self.call("on_evaluate", metrics=logs)
            if state.best_metric is None or self._is_better(line["score"], state.best_metric):
                state.best_metric, state.best_global_step = line["score"], line["step"]
        return self.control.should_training_stop
