"""What the options of `jsbert train` name: data sets with their objectives."""

import json
from collections.abc import Sequence
from typing import Any

from jsbert.cli.evaluators import parted, read_told, unique_name
from jsbert.train import BI_ENCODER, CROSS_ENCODER, OBJECTIVES, Source, objective

SCORED = ("cosine", "cosent", "angle", "binary-cross-entropy", "mse")
"""The objectives whose labels are scores; a label range is for these."""

CLASSIFIED = ("softmax", "cross-entropy")
"""The objectives whose labels are classes."""


def make_sources(
    data: Sequence[str],
    default: str | None,
    settings: Sequence[str],
    *,
    cross_encoder: bool,
    label_range: str | None = None,
    **reading: Any,
) -> list[Source]:
    """The sources of a run.

    Args:
        data: files for `read_examples`, or OBJECTIVE:FILE.
        default: the objective of the files that name none.
        settings: NAME=VALUE, options of the objectives; values as json, or else as they are.
        cross_encoder: whether the model is one.
        label_range: "LOW,HIGH" of the scores, for the objectives that take any.
        **reading: of `read_examples`.

    Raises:
        OSError, ValueError: for what does not exist, or does not fit together.
    """
    span, options, sources = _span(label_range), _options(settings), []
    for entry in data:
        kind, path = parted(entry, OBJECTIVES, "objective", default)
        allowed = CROSS_ENCODER if cross_encoder else BI_ENCODER
        if kind not in allowed:
            raise ValueError(
                f"the objective {kind!r} is not for a {'cross' if cross_encoder else 'bi'}-encoder; "
                f"choose one of {', '.join(allowed)}"
            )
        examples = read_told(path, label_range=span if kind in SCORED else None, **reading)
        own = {"num_labels": _num_classes(examples, path)} if kind in CLASSIFIED else {}
        sources.append(
            Source(examples, objective(kind, **own | options), unique_name(path, [one.name for one in sources]))
        )
    return sources


def _num_classes(examples, path):
    if examples.labels is None or not len(examples):
        raise ValueError(f"{path}: the objective needs labels, and there are none; name their column with --label")
    return len(examples.label_names) if examples.label_names else int(max(examples.labels)) + 1


def _options(settings):
    options = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise ValueError(f"--objective-option {setting!r}: give NAME=VALUE, such as scale=20")
        try:
            options[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            options[name.replace("-", "_")] = value
    return options


def _span(label_range):
    if label_range is None:
        return None
    try:
        low, high = map(float, label_range.split(","))
    except ValueError:
        raise ValueError(f"--label-range {label_range!r}: give two numbers, such as 0,5") from None
    return low, high
