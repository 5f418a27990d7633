"""`fit`: train a model, score it and write checkpoints; after a kill, go on from the last
checkpoint."""

import collections
import contextlib
import os
import pathlib
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from tqdm.auto import tqdm

from jsbert.cross_encoder import CrossEncoder
from jsbert.engine import use_compilation_cache
from jsbert.files import write_text
from jsbert.sentence_transformer import SentenceTransformer
from jsbert.train import folder
from jsbert.train.batches import Source
from jsbert.train.checkpoints import Checkpoints
from jsbert.train.prefetch import prefetched
from jsbert.train.recipe import Recipe, learning_rate
from jsbert.train.record import Record, draw, read_metrics, training_card
from jsbert.train.run import Run

Model = TypeVar("Model", SentenceTransformer, CrossEncoder)
Evaluator = Callable[[Any], dict[str, float]]
OnLog = Callable[[dict[str, Any]], bool | None]

UPDATES_IN_FLIGHT = 2
"""The number of updates that the device is given before the host reads the measures of the first
of these updates."""


def fit(
    model: Model,
    sources: Source | Sequence[Source],
    out: str | os.PathLike,
    recipe: Recipe | None = None,
    *,
    evaluator: Evaluator | None = None,
    on_log: OnLog | None = None,
    show_progress_bar: bool | None = None,
) -> Model:
    """Train a model and return the trained model. The given model does not change.

    `out` becomes the model's folder, with `recipe.json`, `metrics.jsonl`, `training.png` and a
    model card. During the run `out` holds checkpoints. After a kill or an interrupt, the same call
    goes on from the last checkpoint. The final weights are the same to the bit as without the kill
    (on one machine, with the same versions and number of threads). After the run is finished, the
    same call opens the folder.

    Args:
        model: the model to start from, float32. Its devices share each batch; the run uses its
            attn_implementation.
        sources: data sets with their objectives.
        out: a new or empty folder, or the folder of the same run.
        recipe: the options; by default the paper's.
        evaluator: scores the model during the run: an object of `jsbert.evaluate`, or any function
            of the model. `fit` returns the state with the best score by
            `evaluator.primary_metric`, or by the first score. The state before the first update is
            scored and never returned. Without an evaluator, or with `recipe.keep_best` False, `fit`
            returns the last state.
        on_log: called with each new line of metrics.jsonl, a dict. If it returns true, the run ends
            there as if all updates were made.
        show_progress_bar: show updates done, loss, tokens a second and the time left.

    Raises:
        ValueError: if the examples do not fit their objective, if the model's routes have encoders
            of their own, or if `out` holds something else.
        OSError: if `out` cannot be written. What can be checked before the first update is checked
            there.
        FloatingPointError: if the loss or the gradient is not finite; the batch is kept in `out`.
    """
    recipe = recipe or Recipe()
    sources = [sources] if isinstance(sources, Source) else list(sources)
    out = pathlib.Path(out).expanduser()
    run = Run(model, sources, recipe, evaluator)
    if folder.claim(out, run.description, run.disk_bytes(), comparable=run.comparable):
        _train(run, out, evaluator, on_log, show_progress_bar)
    return type(model)(
        out,
        device=model.devices,
        attn_implementation=model.config.encoder.compute.attn_implementation,
    )


def _train(run, out, evaluator, on_log, show_progress_bar):
    """Make all updates of the run that its last checkpoint does not have yet, and write the
    results into `out`."""
    recipe, updates = run.recipe, run.updates
    use_compilation_cache()
    with contextlib.ExitStack() as stack:
        # Begin where the last checkpoint ends: at update 0 without a checkpoint.
        checkpoints = Checkpoints(out / folder.CHECKPOINTS)
        stack.callback(checkpoints.close)
        state, notes = checkpoints.restore(run.first_state())
        notes = {"best": None} | notes
        begin = int(state.step)
        record = Record(
            out / folder.METRICS,
            begin,
            log_steps=recipe.log_steps,
            num_updates=len(updates),
            learning_rate=learning_rate(recipe, len(updates)),
            on_log=on_log,
        )
        stack.callback(record.close)
        progress = stack.enter_context(
            tqdm(
                total=len(updates),
                initial=begin,
                desc="train",
                unit="update",
                disable=not show_progress_bar,
            )
        )
        # Threads collate the next batches while the device computes.
        is_stopping = stack.enter_context(_stop_signals())
        batches = prefetched(updates, run.collate, start=begin, num_threads=recipe.num_workers)
        stack.callback(batches.close)
        pending: collections.deque = collections.deque()

        def settle(behind=0):
            """Record the measures of all updates except the last `behind`. Reading a measure waits
            for its update."""
            while len(pending) > behind:
                step, batch, measures = pending.popleft()
                loss, norm = float(measures["loss"]), float(measures["grad_norm"])
                if not np.isfinite([loss, norm]).all():
                    raise FloatingPointError(_keep_batch(run, out, step, batch, loss, norm))
                source = run.sources[updates[step - 1].source].name
                progress.set_postfix(record.add(step, source, batch, loss, norm), refresh=False)

        def evaluate(step):
            """Score the current state, and save it if its score is the best so far. The state
            before the first update is scored and not saved."""
            if evaluator is None:
                return
            scores, metric, score = _score(evaluator, run.load_into_model(state)[0])
            record.add_scores(step, metric, scores)
            if step and recipe.keep_best and _is_better(evaluator, score, notes["best"]):
                run.save(state, out / folder.BEST)
                notes["best"] = {"step": step, "metric": metric, "score": score}

        if begin == 0:
            evaluate(0)
        for step, batch in enumerate(batches, begin + 1):
            # Start the update on the device. The host waits only for the update
            # `UPDATES_IN_FLIGHT` before it, so that the device always has work.
            update = updates[step - 1]
            state, measures = run.steps[update.source, update.accumulate](
                state, run.to_devices(batch.arrays), None if recipe.dropout is False else run.key
            )
            pending.append((step, batch, measures))
            settle(UPDATES_IN_FLIGHT)
            progress.update()
            # Score, and write a checkpoint, if it is time. First record all updates: a loss that is
            # not finite must end the run before a score or a checkpoint of it is written.
            is_last_of_epoch = step == len(updates) or updates[step].epoch > update.epoch
            if (
                is_last_of_epoch
                if recipe.eval_steps is None
                else step % recipe.eval_steps == 0 or step == len(updates)
            ):
                settle()
                evaluate(step)
            stopping = is_stopping()
            if step % recipe.checkpoint_steps == 0 or step == len(updates) or stopping:
                settle()
                checkpoints.save(state, notes)
            if record.is_ended:
                settle()
                record.write_losses(step)
                break
            # After a signal the checkpoint is written: end the run.
            if stopping and step < len(updates):
                raise KeyboardInterrupt(
                    f"stopped after update {step} of {len(updates)}; the same call goes on from "
                    "there"
                )
        if record.num_truncated:
            warnings.warn(
                f"{record.num_truncated} of {record.num_texts} texts are longer than "
                f"{run.model.max_seq_length} tokens "
                "and were cut there; raise max_seq_length to keep all of them",
                stacklevel=3,
            )
    _write_results(run, out, state, notes)


def _write_results(run, out, state, notes):
    """Write the best model, or else the last, with picture and card into `out`; remove the
    checkpoints."""
    if notes["best"] is None:
        run.save(state, out / folder.BEST)
    shutil.copytree(out / folder.BEST, out, dirs_exist_ok=True)
    entries = read_metrics(out / folder.METRICS)
    draw(entries, out / folder.PICTURE)
    card = training_card(run.description, entries, notes["best"], is_cross_encoder=run.pairs)
    write_text(out / folder.CARD, card)
    # The recipe says that the run is finished: after this line no later call needs the checkpoints.
    folder.write_recipe(out, run.description, finished=True, best=notes["best"])
    shutil.rmtree(out / folder.CHECKPOINTS)
    shutil.rmtree(out / folder.BEST, ignore_errors=True)


def _score(evaluator, model):
    """Score the model: (all scores, the primary metric's name, the primary metric's score)."""
    found = evaluator(model)
    scores = {
        name: float(value)
        for name, value in (found.items() if isinstance(found, dict) else [("score", found)])
    }
    metric = getattr(evaluator, "primary_metric", None) or next(iter(scores))
    return scores, metric, scores[metric]


def _is_better(evaluator, score, best):
    """Whether a score is better than the best so far. Any number is better than NaN."""
    if best is None or np.isnan(best["score"]) or np.isnan(score):
        return best is None or not np.isnan(score)
    return (
        score > best["score"]
        if getattr(evaluator, "greater_is_better", True)
        else score < best["score"]
    )


def _keep_batch(run, out, step, batch, loss, norm):
    """Write the batch whose loss or gradient is not finite to a file. Return the error message."""
    update = run.updates[step - 1]
    file = out / f"not-finite-{step}.npz"
    np.savez(file, indices=update.indices, **batch.arrays)
    source = run.sources[update.source].name
    return (
        f"update {step}: the loss is {loss}, the gradient's norm {norm}. The batch is kept in "
        f"{file} (examples of "
        f"{source!r} in 'indices'); the last checkpoint is from before. A lower learning_rate may "
        "help"
    )


@contextlib.contextmanager
def _stop_signals():
    """Catch Ctrl-C and SIGTERM, which a machine receives before it is shut down. Yield a function
    that says whether a signal came: the run then ends after the current update, with a checkpoint.
    A second signal raises KeyboardInterrupt at once."""
    came = []
    # Only the main thread can catch signals.
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number, frame):
        if came:
            raise KeyboardInterrupt
        came.append(number)

    earlier = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
