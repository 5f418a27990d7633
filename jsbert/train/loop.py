"""The run: batches through steps, scores and checkpoints now and then, and from the last checkpoint
after a kill."""

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

UPDATES_IN_FLIGHT = 2
"""Updates handed to the device before the host reads the measures of the first of them."""


def fit(
    model: Model,
    sources: Source | Sequence[Source],
    out: str | os.PathLike,
    recipe: Recipe | None = None,
    *,
    evaluator: Evaluator | None = None,
    show_progress_bar: bool | None = None,
) -> Model:
    """The trained model; the one given stays as it is.

    `out` becomes the model's folder, with `recipe.json`, `metrics.jsonl`, `training.png` and a
    model card. While the run lasts it holds checkpoints: killed or interrupted, the same call goes
    on from the last, to the same weights to the bit (on one machine, with the same versions and
    number of threads). Called again when all is done, it opens the folder.

    Args:
        model: where to start from, float32; its devices share each batch, and its
            attn_implementation is the run's.
        sources: data sets with their objectives.
        out: a folder, new or of the same run.
        recipe: the options; by default the paper's.
        evaluator: scores the model at times, from `jsbert.evaluate` or any function; the best state
            is returned, by `evaluator.primary_metric`, or the first number. Without one, the last
            state is.
        show_progress_bar: show updates done, loss, tokens a second and the time left.

    Raises:
        ValueError: for examples that do not fit their objective, a model whose routes have encoders
            of their own, or an `out` that holds something else.
        OSError: if `out` cannot be written; before the first update, as far as it can be known
            then.
        FloatingPointError: if the loss or the gradient is no longer finite; the batch is kept in
            `out`.
    """
    recipe = recipe or Recipe()
    sources = [sources] if isinstance(sources, Source) else list(sources)
    out = pathlib.Path(out).expanduser()
    run = Run(model, sources, recipe, evaluator)
    if folder.claim(out, run.description, run.disk_bytes(), comparable=run.comparable):
        _train(run, out, evaluator, show_progress_bar)
    return type(model)(
        out,
        device=model.devices,
        attn_implementation=model.config.encoder.compute.attn_implementation,
    )


def _train(run, out, evaluator, show_progress_bar):
    recipe, updates = run.recipe, run.updates
    use_compilation_cache()
    with contextlib.ExitStack() as stack:
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
        is_stopping = stack.enter_context(_stop_signals())
        batches = prefetched(updates, run.collate, start=begin, num_threads=recipe.num_workers)
        stack.callback(batches.close)
        pending: collections.deque = collections.deque()

        def settle(behind=0):
            """Reads the measures of all updates but the last `behind`; until then they may be still
            computing."""
            while len(pending) > behind:
                step, batch, measures = pending.popleft()
                loss, norm = float(measures["loss"]), float(measures["grad_norm"])
                if not np.isfinite([loss, norm]).all():
                    raise FloatingPointError(_keep_batch(run, out, step, batch, loss, norm))
                source = run.sources[updates[step - 1].source].name
                progress.set_postfix(record.add(step, source, batch, loss, norm), refresh=False)

        def evaluate(step):
            if evaluator is None:
                return
            scores, metric, score = _score(evaluator, run.load_into_model(state)[0])
            record.add_scores(step, metric, scores)
            if step and _is_better(evaluator, score, notes["best"]):
                run.save(state, out / folder.BEST)
                notes["best"] = {"step": step, "metric": metric, "score": score}

        if begin == 0:
            evaluate(0)
        for step, batch in enumerate(batches, begin + 1):
            update = updates[step - 1]
            state, measures = run.steps[update.source, update.accumulate](
                state, run.to_devices(batch.arrays), None if recipe.dropout is False else run.key
            )
            pending.append((step, batch, measures))
            settle(UPDATES_IN_FLIGHT)
            progress.update()
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
    """The folder as it stays: the best model or the last, picture, card; and no checkpoints."""
    if notes["best"] is None:
        run.save(state, out / folder.BEST)
    shutil.copytree(out / folder.BEST, out, dirs_exist_ok=True)
    entries = read_metrics(out / folder.METRICS)
    draw(entries, out / folder.PICTURE)
    card = training_card(run.description, entries, notes["best"], is_cross_encoder=run.pairs)
    write_text(out / folder.CARD, card)
    folder.write_recipe(out, run.description, finished=True, best=notes["best"])
    shutil.rmtree(out / folder.CHECKPOINTS)
    shutil.rmtree(out / folder.BEST, ignore_errors=True)


def _score(evaluator, model):
    """(all scores, the name of the one that counts, that one)."""
    found = evaluator(model)
    scores = {
        name: float(value)
        for name, value in (found.items() if isinstance(found, dict) else [("score", found)])
    }
    metric = getattr(evaluator, "primary_metric", None) or next(iter(scores))
    return scores, metric, scores[metric]


def _is_better(evaluator, score, best):
    if best is None or np.isnan(best["score"]) or np.isnan(score):
        return best is None or not np.isnan(score)
    return (
        score > best["score"]
        if getattr(evaluator, "greater_is_better", True)
        else score < best["score"]
    )


def _keep_batch(run, out, step, batch, loss, norm):
    """Writes the batch of a loss that is not finite; returns the message."""
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
    """Ctrl-C and SIGTERM (what a machine about to be taken away sends) end the run after the update
    in work, with a checkpoint; a second Ctrl-C at once. Yields a function that says whether one
    came."""
    came = []
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # only there can signals be caught
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
