"""The record of a run: metrics.jsonl, training.png, and the model card."""

import importlib.util
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jsbert.checkpoint.card import model_card
from jsbert.files import staged_file, write_text
from jsbert.train.batches import Collated


class Record:
    """Write metrics.jsonl: a line of json every `log_steps` updates for each source that had an
    update, and a line for each evaluation.

    If a run goes on from `step`, the lines of later steps are dropped, and `seconds` begin at 0
    again.

    Attributes:
        num_texts: the number of texts counted so far.
        num_truncated: the number of truncated texts among them.
        is_ended: whether `on_log` asked for the end of the run.
    """

    def __init__(
        self,
        file: pathlib.Path,
        step: int,
        *,
        log_steps: int,
        num_updates: int,
        learning_rate: Callable[[int], Any],
        on_log: Callable[[dict[str, Any]], bool | None] | None = None,
    ):
        kept = [entry for entry in read_metrics(file) if step and entry["step"] <= step]
        write_text(file, "".join(map(_line, kept)))
        self._file = file.open("a", encoding="utf8")
        self._log_steps, self._num_updates, self._learning_rate = (
            log_steps,
            num_updates,
            learning_rate,
        )
        self._losses: dict[str, list[tuple[float, float]]] = {}
        self._began = time.perf_counter()
        self._num_tokens, self._since = 0, self._began
        self.num_texts = self.num_truncated = 0
        self._on_log, self.is_ended = on_log, False

    def add(
        self, step: int, source: str, batch: Collated, loss: float, grad_norm: float
    ) -> dict[str, float]:
        """Count an update. Return the values that a progress bar shows."""
        self._losses.setdefault(source, []).append((loss, grad_norm))
        self._num_tokens += batch.num_tokens
        self.num_texts += batch.num_texts
        self.num_truncated += batch.num_truncated
        rate = self._num_tokens / max(1e-9, time.perf_counter() - self._since)
        if step % self._log_steps == 0 or step == self._num_updates:
            self.write_losses(step)
        return {"loss": round(loss, 4), "tokens/s": round(rate)}

    def write_losses(self, step: int) -> None:
        """Write a line for each source that had an update since its last line."""
        rate = self._num_tokens / max(1e-9, time.perf_counter() - self._since)
        losses, self._losses = self._losses, {}
        for name, measures in losses.items():
            mean_loss, mean_norm = np.mean(measures, axis=0)
            self._write(
                step=step,
                source=name,
                loss=float(mean_loss),
                grad_norm=float(mean_norm),
                learning_rate=float(self._learning_rate(step - 1)),
                tokens_per_second=round(rate, 1),
                seconds=round(time.perf_counter() - self._began, 6),
            )
        self._num_tokens, self._since = 0, time.perf_counter()

    def add_scores(self, step: int, metric: str, scores: dict[str, float]) -> None:
        """Write the line of an evaluation. The time of the evaluation does not count for tokens a
        second."""
        self._write(step=step, metric=metric, score=scores[metric], scores=scores)
        self._num_tokens, self._since = 0, time.perf_counter()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, **values):
        self._file.write(_line(values))
        self._file.flush()
        if self._on_log is not None and self._on_log(values):
            self.is_ended = True


def read_metrics(file: pathlib.Path) -> list[dict[str, Any]]:
    """Read the lines of metrics.jsonl. The last line is left out if a kill has cut it off."""
    if not file.is_file():
        return []
    entries = []
    for line in file.read_text(encoding="utf8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def draw(entries: list[dict[str, Any]], file: pathlib.Path) -> bool:
    """Draw loss and score over the updates into a png file. Return False, without a file, if
    matplotlib is not installed; the extra `train` has it."""
    if importlib.util.find_spec("matplotlib") is None:
        return False
    import matplotlib.figure

    losses, scores = ([entry for entry in entries if name in entry] for name in ("loss", "score"))
    panels = 2 if scores else 1
    figure = matplotlib.figure.Figure(figsize=(4.5 * panels, 3.6), layout="constrained")
    left, *right = figure.subplots(1, panels, squeeze=False)[0]
    # The losses of each source, and their running mean over a twentieth of the points.
    for source in dict.fromkeys(entry["source"] for entry in losses):
        own = [entry for entry in losses if entry["source"] == source]
        steps, values = np.array([[entry["step"], entry["loss"]] for entry in own], float).T
        line = left.plot(steps, values, alpha=0.3, linewidth=1)[0]
        width = max(1, len(values) // 20)
        smooth = np.convolve(values, np.ones(width) / width, "valid")
        left.plot(
            steps[(width - 1) // 2 :][: len(smooth)], smooth, color=line.get_color(), label=source
        )
    left.set(xlabel="update", ylabel="loss", title="Loss (thin: as it came; thick: running mean)")
    if losses:
        left.legend()
    for axes in right:
        axes.plot(
            [entry["step"] for entry in scores], [entry["score"] for entry in scores], marker="o"
        )
        axes.set(xlabel="update", ylabel=scores[0]["metric"], title="Score")
    with staged_file(file) as unfinished:
        figure.savefig(unfinished, dpi=120, format="png")
    return True


def training_card(
    description: dict[str, Any],
    entries: list[dict[str, Any]],
    best: dict[str, Any] | None,
    *,
    is_cross_encoder: bool,
) -> str:
    """The model card of a trained model: how to call it, its data, recipe and scores."""
    data = [
        f"| {name} | {source['objective']} | {source['examples']:,} | `{source['digest'][:12]}` |"
        for name, source in description["data"].items()
    ]
    recipe = [f"| {name} | {value} |" for name, value in description["recipe"].items()]
    scores = [
        f"| {entry['step']:,} | {entry['metric']} | {entry['score']:.4f} |"
        for entry in entries
        if "score" in entry
    ]
    lines = [
        "",
        "## Data",
        "",
        "| name | objective | examples | sha256 begins |",
        "|---|---|---:|---|",
        *data,
        "",
        "## Recipe",
        "",
        "The same is in `recipe.json`.",
        "",
        "| option | value |",
        "|---|---|",
        *recipe,
        "",
        "## Scores",
        "",
        *(
            ["| update | metric | score |", "|---:|---|---:|", *scores]
            if scores
            else ["Not evaluated."]
        ),
        "",
        "![loss and score](training.png)",
        "",
    ]
    kept = f"after update {best['step']:,}, the best" if best else "the last"
    facts = {"updates": f"{description['updates']:,}", "state kept": kept}
    sections = "\n".join(lines)
    origin = " trained with jsbert"
    return model_card(facts, is_cross_encoder=is_cross_encoder, origin=origin, sections=sections)


def _line(entry):
    return json.dumps(entry, ensure_ascii=False) + "\n"
