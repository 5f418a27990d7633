"""The folder of a run: `claim` it before the run, and write the recipe and models into it."""

import errno
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from jsbert.checkpoint import write_tree
from jsbert.files import leftovers, staged_file, write_text

RECIPE = "recipe.json"
CHECKPOINTS = "checkpoints"
BEST = "best"
OBJECTIVES = "objectives.safetensors"
ADAPTER = "adapter"
METRICS = "metrics.jsonl"
PICTURE = "training.png"
CARD = "README.md"


def claim(
    out: pathlib.Path,
    description: dict[str, Any],
    needed_bytes: int,
    *,
    comparable: Callable[[dict[str, Any]], dict[str, Any]],
) -> bool:
    """Make `out` the folder of the run that `description` describes. Return whether there is work
    left: False if the run is finished.

    `comparable` normalises a description before two descriptions are compared, also a description
    of an earlier version.

    Raises:
        ValueError: if `out` belongs to another run, or holds other files.
        OSError: if `out` is a file or cannot be written, or if the disk lacks room for
            `needed_bytes`.
    """
    # Read the recipe of an earlier run. Files that a killed run left half-written do not count.
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; give a folder to train into")
    files = (RECIPE, BEST, OBJECTIVES, METRICS, PICTURE, CARD)
    left_behind = {path for file in files for path in leftovers(out / file)}
    earlier = read_recipe(out)
    if earlier is None and out.is_dir() and set(out.iterdir()) - left_behind:
        raise ValueError(
            f"{out} holds things that are no run's of jsbert; give a new or empty folder to train "
            "into"
        )
    # An earlier run that is finished, or has a checkpoint, must be the same run. An unfinished run
    # without a checkpoint is replaced.
    is_finished = goes_on = False
    if earlier is not None:
        is_finished = earlier["finished"]
        goes_on = not is_finished and any((out / CHECKPOINTS).glob("[0-9]*"))
    if earlier is not None and (is_finished or goes_on):
        differing = _differences(comparable(earlier["run"]), comparable(description))
        if differing:
            raise ValueError(
                f"{out} holds another run, which differs in {', '.join(differing)}; give a new "
                "folder, or remove that one"
            )
    for path in left_behind:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not goes_on:
        for left in (CHECKPOINTS, BEST):
            shutil.rmtree(out / left, ignore_errors=True)
    if is_finished:
        return False
    # Check that the folder can be written and that the disk has room. Files of the run itself count
    # as free, because the run replaces them.
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out) as probe:
        probe.write(b"?")
    free = shutil.disk_usage(out).free + sum(
        file.stat().st_size for file in out.rglob("*") if file.is_file()
    )
    if free < needed_bytes:
        raise OSError(
            errno.ENOSPC,
            f"training into {out} needs about {needed_bytes / 1e6:,.0f} MB for checkpoints and "
            "models; "
            f"{free / 1e6:,.0f} MB are free",
        )
    write_recipe(out, description, finished=False)
    return True


def read_recipe(out: pathlib.Path) -> dict[str, Any] | None:
    """Read recipe.json: {"run": ..., "finished": ..., ...}. Return None if the file does not exist.

    Raises:
        ValueError: if jsbert did not write the file.
    """
    file = out / RECIPE
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf8"))
        return {"run": dict(content["run"]), "finished": bool(content["finished"])} | content
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{file} is no recipe of jsbert's; give another folder") from None


def write_recipe(out: pathlib.Path, description: dict[str, Any], **more: Any) -> None:
    """Write recipe.json."""
    write_text(
        out / RECIPE, json.dumps({"run": description, **more}, indent=2, ensure_ascii=False) + "\n"
    )


def save_model(model: Any, objectives: dict[str, Any], folder: pathlib.Path) -> None:
    """Write a model's folder. The params of the objectives, such as a classifier, go into a file of
    their own."""
    model.save_pretrained(folder, create_model_card=False)
    if objectives:
        with staged_file(folder / OBJECTIVES) as unfinished:
            write_tree(unfinished, objectives)


def _differences(earlier, now, prefix=""):
    """The dotted keys at which two nested dicts differ, with both values unless they are lists."""
    found = []
    for key in sorted(set(earlier) | set(now)):
        a, b = earlier.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(
                f"{prefix}{key} ({a} there, {b} now)"
                if not isinstance(a, list)
                else f"{prefix}{key}"
            )
    return found
