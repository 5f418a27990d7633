"""Labels: choose their column, and convert numbers, lists of numbers and class names to arrays."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SCORE_COLUMNS = ("score", "scores")
LABEL_COLUMNS = ("label", "labels", *SCORE_COLUMNS)
"""The column names that sentence-transformers takes for labels."""


class Labels(NamedTuple):
    """Converted labels: the array; the class names, if the labels are classes; and {row: problem}
    for the values that could not be converted (their entries in the array mean nothing)."""

    array: np.ndarray
    names: tuple[str, ...] | None
    problems: dict[int, str]


def choose_columns(
    available: Sequence[str],
    columns: Sequence[str] | None = None,
    label: str | None = None,
    *,
    needs_label: bool = False,
) -> tuple[tuple[str, ...], str | None]:
    """Return (the columns of texts, the column of labels or None).

    The defaults follow sentence-transformers: the label is the column named label, labels, score or
    scores, and all other columns are texts, in order.

    Raises:
        ValueError: if a column does not exist, if there is no column of texts, if several columns
            may be the label, or if a label is needed and there is none.
    """
    columns = (columns,) if isinstance(columns, str) else columns
    missing = [
        name for name in (*(columns or ()), *([label] if label else [])) if name not in available
    ]
    if missing:
        raise ValueError(f"no column {missing[0]!r}; there are {_listed(available)}")
    if label is None:
        candidates = [
            name for name in available if name in LABEL_COLUMNS and name not in (columns or ())
        ]
        if len(candidates) > 1:
            raise ValueError(
                f"{' and '.join(map(repr, candidates))} may both be the label; choose with "
                "label=..."
            )
        label = candidates[0] if candidates else None
    if needs_label and label is None:
        raise ValueError(
            f"label_names or label_range, but no label among {_listed(available)}; choose with "
            "label=..."
        )
    texts = tuple(
        columns or (name for name in available if name not in LABEL_COLUMNS and name != label)
    )
    if not texts:
        raise ValueError(
            f"no column of texts among {_listed(available)}; choose with columns=[...]"
        )
    if label in texts:
        raise ValueError(f"column {label!r} cannot be both a text and the label")
    return texts, label


def as_labels(
    values: Sequence[Any] | np.ndarray,
    name: str,
    *,
    label_names: Sequence[str] | None = None,
    label_range: tuple[float, float] | None = None,
) -> Labels:
    """Return labels as an array: int32 (N,) for whole numbers and class names; float32 (N,) for
    other numbers, for scores, and for numbers scaled by `label_range`; float32 (N, ...) for lists
    of numbers of one length.

    Args:
        values: numbers, strings that spell numbers, lists of numbers, or class names.
        name: the name of the column; score and scores always hold numbers.
        label_names: the class names in the order of their integers; by default sorted. The values
            are class names if none of them is a number.
        label_range: (low, high); numbers are scaled so that low becomes 0 and high becomes 1.

    Raises:
        ValueError: if `label_names` or `label_range` cannot be used. Values that cannot be
            converted are returned as problems.

    >>> as_labels(["neutral", "entailment", "neutral"], "label")[:2]
    (array([1, 0, 1], dtype=int32), ('entailment', 'neutral'))
    >>> as_labels(["5", "2.5", "x"], "score", label_range=(0, 5)).problems
    {2: "'x' is not a number"}
    """
    if label_names is not None and label_range is not None:
        raise ValueError("label_names is for classes and label_range for scores; give one of them")
    if label_names is not None:
        return _classes(values, tuple(label_names))
    if _is_list(next((value for value in values if value is not None), None)):
        return _vectors(values, label_range)
    numbers = [_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if not known and label_range is None and name not in SCORE_COLUMNS:
        return _classes(
            values, tuple(sorted({value for value in values if isinstance(value, str) and value}))
        )
    problems = {
        place: "is empty" if values[place] in (None, "") else f"{values[place]!r} is not a number"
        for place, number in enumerate(numbers)
        if number is None
    }
    whole = all(isinstance(number, int) and abs(number) < 2**31 for number in known)
    if label_range is None:
        dtype = np.int32 if whole and name not in SCORE_COLUMNS else np.float32
        return Labels(np.array([number or 0 for number in numbers], dtype), None, problems)
    array, outside = _scaled(np.array([number or 0 for number in numbers], np.float64), label_range)
    return Labels(array, None, outside | problems)


def _classes(values, names):
    """The labels of class names: the index of each value in `names`."""
    if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"label_names is {list(names)!r}; it must be different strings")
    index = {name: place for place, name in enumerate(names)}
    problems = {}
    array = np.zeros(len(values), np.int32)
    for place, value in enumerate(values):
        found = index.get(value if isinstance(value, str) else str(value))
        if value is None or value == "":
            problems[place] = "is empty"
        elif found is None:
            allowed = _listed(names[:20]) + (", ..." if len(names) > 20 else "")
            problems[place] = (
                f"{value!r} is none of the classes {allowed}"
                if names
                else f"{value!r} names no class"
            )
        else:
            array[place] = found
    return Labels(array, names, problems)


def _vectors(values, label_range):
    """The labels of lists of numbers. The first list that can be converted gives the shape."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
        array = values.astype(np.float32)
        wrong = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
        problems = {int(place): "holds NaN or infinity" for place in np.flatnonzero(wrong)}
    else:
        vectors = [_vector(value) for value in values]
        shape = next((vector.shape for vector in vectors if vector is not None), (0,))
        problems = {
            place: f"needs finite numbers of shape {shape}, as the first row's"
            for place, vector in enumerate(vectors)
            if vector is None or vector.shape != shape
        }
        fill = np.zeros(shape, np.float32)
        array = np.stack(
            [fill if place in problems else vector for place, vector in enumerate(vectors)]
        )
    if label_range is None:
        return Labels(array, None, problems)
    array, outside = _scaled(array, label_range)
    return Labels(array, None, outside | problems)


def _scaled(array, label_range):
    """(`array` scaled to 0 to 1 as float32, {row: problem} of the rows outside of the range)."""
    low, high = label_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"label_range is {label_range!r}; give (lowest, highest), such as (0, 5)")
    outside = ((array < low) | (array > high)).reshape(len(array), -1).any(axis=1)
    problems = {
        int(place): f"{array[place]} is outside {low} to {high}"
        for place in np.flatnonzero(outside)
    }
    return ((array - low) / (high - low)).astype(np.float32), problems


def _number(value):
    """The int or float that `value` is or spells; None if it is no finite number."""
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str) or "_" in value:  # Python reads 1_000 as a number
        return None
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return number if math.isfinite(number := float(value)) else None
    except ValueError:
        return None


def _vector(value):
    """A list of finite numbers as a float32 array, or None."""
    try:
        vector = np.array(value, np.float32)
    except (TypeError, ValueError):
        return None
    return vector if vector.ndim and np.isfinite(vector).all() else None


def _is_list(value):
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _listed(names):
    return ", ".join(map(repr, names))
