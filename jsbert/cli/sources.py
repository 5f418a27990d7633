"""Read the data sets that the options of `jsbert train` name, with their objectives."""

import json
from collections.abc import Sequence
from typing import Any

from jsbert.cli.evaluators import parted, read_examples_warning, unique_name
from jsbert.data import Examples
from jsbert.train import OBJECTIVES, Source, objective
from jsbert.train.objectives import check_model, names_for
from jsbert.train.spec import LABELS, Model


def make_sources(
    data: Sequence[str],
    default: str | None,
    settings: Sequence[str],
    *,
    cross_encoder: bool,
    label_range: str | None = None,
    **reading: Any,
) -> list[Source]:
    """Return the sources of a run.

    Args:
        data: files for `read_examples`, or OBJECTIVE:FILE.
        default: the objective of the files that name none.
        settings: options of the objectives, NAME=VALUE. A value that is not json is a string.
        cross_encoder: whether the model is a cross-encoder.
        label_range: "LOW,HIGH" of the scores, for the files whose objectives take numbers.
        **reading: options of `read_examples`.

    Raises:
        OSError, ValueError: if something does not exist or does not fit together, such as a label
            range without an objective that takes numbers.
    """
    span, options = _span(label_range), _options(settings)
    sources: list[Source] = []
    model: Model = "cross-encoder" if cross_encoder else "bi-encoder"
    entries = [parted(entry, tuple(OBJECTIVES), "objective", default) for entry in data]
    for kind, path in entries:
        check_model(kind, model, path)
    if span is not None:
        _check_takes_numbers([kind for kind, _ in entries], model)
    # Read each file, and make its objective.
    for kind, path in entries:
        row = OBJECTIVES[kind]
        examples = read_examples_warning(
            path, label_range=span if row.labels == "number" else None, **reading
        )
        own = {"num_labels": _num_classes(examples, path)} if row.counts_classes else {}
        sources.append(
            Source(
                examples,
                objective(kind, **own | options),
                unique_name(path, [one.name for one in sources]),
            )
        )
    return sources


def numeric(model: Model) -> tuple[str, ...]:
    """Return the names of the objectives for this kind of model whose labels are numbers.
    `--label-range` is for these objectives."""
    return tuple(kind for kind in names_for(model) if OBJECTIVES[kind].labels == "number")


def _check_takes_numbers(kinds: Sequence[str], model: Model) -> None:
    """Raise ValueError unless one of the objectives `kinds` takes numbers."""
    if not set(kinds) & set(numeric(model)):
        takes = {kind: LABELS[OBJECTIVES[kind].labels] for kind in kinds}
        found = "; ".join(f"{kind} takes {labels}" for kind, labels in takes.items())
        raise ValueError(
            f"--label-range is for labels that are numbers: {found}. Leave --label-range out, or "
            f"choose one of {', '.join(numeric(model))}"
        )


def _num_classes(examples: Examples, path: str) -> int:
    """Return the number of classes among the labels of `examples`."""
    if examples.labels is None or not len(examples):
        raise ValueError(
            f"{path}: the objective needs labels, and there are none; name their column with "
            "--label"
        )
    return len(examples.label_names) if examples.label_names else int(max(examples.labels)) + 1


def _options(settings: Sequence[str]) -> dict[str, Any]:
    """Read settings NAME=VALUE."""
    options: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise ValueError(f"--objective-option {setting!r}: give NAME=VALUE, such as scale=20")
        try:
            options[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            options[name.replace("-", "_")] = value
    return options


def _span(label_range: str | None) -> tuple[float, float] | None:
    """Read "LOW,HIGH"."""
    if label_range is None:
        return None
    try:
        low, high = map(float, label_range.split(","))
    except ValueError:
        raise ValueError(f"--label-range {label_range!r}: give two numbers, such as 0,5") from None
    return low, high
