"""A data set: columns of texts, and one label for each row."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jsbert.data.labels import as_labels, choose_columns


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """N examples of T texts, and their labels. Make them with `read_examples`, `from_columns` or
    `from_dataset`.

    Attributes:
        names: the names of the T columns of texts.
        texts: the T columns, sequences of N strings. The columns of a `datasets.Dataset` stay on
            disk.
        labels: int32 or float32, (N,), or (N, ...) for lists of numbers; a column of lists in a
            `datasets.Dataset` stays on disk. None if there are no labels.
        label_name: the name of the label column.
        label_names: the class names in the order of their integers, if the labels are class names.
        num_bad_rows: the number of malformed rows that were left out.
    """

    names: tuple[str, ...]
    texts: tuple[Sequence[str], ...]
    labels: Any = None
    label_name: str | None = None
    label_names: tuple[str, ...] | None = None
    num_bad_rows: int = 0

    def __len__(self) -> int:
        return len(self.texts[0])

    def rows(
        self, indices: Sequence[int] | np.ndarray
    ) -> tuple[list[list[str]], np.ndarray | None]:
        """Return (T lists of the B texts at `indices`, the B labels or None).

        Raises:
            TypeError, ValueError: if a text or a label on disk cannot be used; the message names
                column and row.

        >>> examples = Examples.from_columns({"a": ["x", "y"], "b": ["p", "q"], "score": [0.5, 1]})
        >>> examples.rows([1])
        ([['y'], ['q']], array([1.], dtype=float32))
        """
        indices = np.asarray(indices, np.int64)
        texts = [
            _take(column, indices, name)
            for name, column in zip(self.names, self.texts, strict=True)
        ]
        if self.labels is None or isinstance(self.labels, np.ndarray):
            return texts, None if self.labels is None else self.labels[indices]
        name = self.label_name or "label"
        labels = _checked(as_labels(self.labels[indices], name), name, indices)
        return texts, labels.array

    @classmethod
    def from_columns(
        cls,
        data: Mapping[str, Sequence | np.ndarray],
        *,
        columns: Sequence[str] | None = None,
        label: str | None = None,
        label_names: Sequence[str] | None = None,
        label_range: tuple[float, float] | None = None,
    ) -> "Examples":
        """Make examples from columns in memory. The options are those of `read_examples`.

        Raises:
            TypeError: if a text is not a string; the message names column and row.
            ValueError: if the columns have unequal lengths, or a label cannot be used.
        """
        needs_label = label_names is not None or label_range is not None
        texts, label = choose_columns(tuple(data), columns, label, needs_label=needs_label)
        lengths = {name: len(data[name]) for name in (*texts, *([label] if label else []))}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"columns of unequal length: {', '.join(f'{k!r} {n}' for k, n in lengths.items())}"
            )
        lists = tuple(list(data[name]) for name in texts)
        for name, column in zip(texts, lists, strict=True):
            _check_strings(column, name, range(len(column)))
        if label is None:
            return cls(texts, lists)
        labels = as_labels(data[label], label, label_names=label_names, label_range=label_range)
        _checked(labels, label, range(len(data[label])))
        return cls(texts, lists, labels.array, label, labels.names)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        *,
        columns: Sequence[str] | None = None,
        label: str | None = None,
        label_names: Sequence[str] | None = None,
        label_range: tuple[float, float] | None = None,
    ) -> "Examples":
        """Make examples from a `datasets.Dataset`. The options are those of `read_examples`.

        Texts, and labels that are lists, are read from the data set when `rows` needs them. Labels
        with one number or name for each row are read at once.

        Raises:
            TypeError: if it is another kind of data set, or a column of texts does not hold
                strings.
            ValueError: if a label cannot be used; the message names column and row.
        """
        if (
            not hasattr(dataset, "with_format")
            or not hasattr(dataset, "num_rows")
            or isinstance(dataset, dict)
        ):
            hint = (
                f"; choose one of its splits {', '.join(map(repr, dataset))}"
                if isinstance(dataset, dict)
                else ""
            )
            raise TypeError(
                f"the data set is {type(dataset).__name__}; a datasets.Dataset is needed{hint}"
            )
        # Without a format the columns give Python strings and numbers.
        dataset = dataset.with_format(None)
        needs_label = label_names is not None or label_range is not None
        texts, label = choose_columns(dataset.column_names, columns, label, needs_label=needs_label)
        for name in texts:
            kind = getattr(dataset.features[name], "dtype", type(dataset.features[name]).__name__)
            if "string" not in str(kind):
                raise TypeError(
                    f"column {name!r} holds {kind}, not strings; choose the texts with "
                    "columns=[...]"
                )
        made = cls(texts, tuple(dataset[name] for name in texts))
        if label is None:
            return made
        feature, values = dataset.features[label], dataset[label]
        # Labels that are lists (Sequence, Array2D, ...) stay on disk.
        if not hasattr(feature, "dtype") or hasattr(feature, "shape"):
            if label_names is not None or label_range is not None:
                raise ValueError(
                    f"column {label!r} holds lists; label_names and label_range are for single "
                    "labels"
                )
            return dataclasses.replace(made, labels=values, label_name=label)
        values = values[:]
        # A ClassLabel: its integers become names. -1 means "not labelled", and becomes None.
        if hasattr(feature, "names"):
            label_names = feature.names if label_names is None else label_names
            values = [
                feature.names[value] if value is not None and value >= 0 else None
                for value in values
            ]
        labels = as_labels(values, label, label_names=label_names, label_range=label_range)
        _checked(labels, label, range(len(values)))
        return dataclasses.replace(
            made, labels=labels.array, label_name=label, label_names=labels.names
        )


def _take(column, indices, name):
    """The texts of a column at `indices`. Texts on disk are checked here, at their first use."""
    if isinstance(column, list):
        return [column[index] for index in indices]
    texts = list(column[indices])
    _check_strings(texts, name, indices)
    return texts


def _check_strings(texts, name, rows):
    """Raise TypeError for the first text that is not a string; `rows` are the texts' rows."""
    for row, text in zip(rows, texts, strict=True):
        if not isinstance(text, str):
            raise TypeError(
                f"row {row}, column {name!r}: {text!r:.40} is not a string; mend the row or leave "
                "it out"
            )


def _checked(labels, name, rows):
    """Return `labels`. Raise ValueError for the first label that could not be converted; `rows` are
    the labels' rows."""
    for place, problem in sorted(labels.problems.items()):
        raise ValueError(
            f"row {rows[place]}, column {name!r}: {problem}; mend the row or leave it out"
        )
    return labels
