"""What all evaluators share: the names of results, the csv file, and the encoding of each distinct
text once."""

import csv
import os
import pathlib
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jsbert.inputs import check_choice
from jsbert.similarity import SIMILARITIES


class Outcome(NamedTuple):
    """The result of an evaluation: the values by key, the key of the primary metric, and the values
    by column of the csv file."""

    metrics: dict[str, float]
    primary: str
    columns: dict[str, float]


class Evaluator:
    """A callable that scores a model. It returns a dict of numbers, and sets `primary_metric` to
    the key of the number that counts most.

    A subclass has `csv_file` and `_outcome(model)`. With a `name`, each key begins with the name
    and "_".

    Attributes:
        name: a part of keys and file names.
        write_csv: whether a call with `output_path` writes a csv file.
        primary_metric: the key of the primary metric in the last results; None before the first
            call.
        greater_is_better: whether a larger primary metric is better: true of all evaluators here.
    """

    name: str = ""
    write_csv: bool = True
    primary_metric: str | None = None
    greater_is_better = True

    def __call__(
        self,
        model: Any,
        output_path: str | os.PathLike | None = None,
        epoch: int = -1,
        steps: int = -1,
    ) -> dict[str, float]:
        """Score `model` and return the results. With `output_path`, append them as a row to a csv
        file in that folder.

        Args:
            model: a model of jsbert, or an object with the same methods.
            output_path: a folder; it is created if it does not exist.
            epoch, steps: the progress of a training, for the row; -1 after the training.
        """
        outcome = self._outcome(model)
        prefix = f"{self.name}_" if self.name else ""
        self.primary_metric = prefix + outcome.primary
        if output_path is not None and self.write_csv:
            row = {"epoch": epoch, "steps": steps} | {
                key: float(value) for key, value in outcome.columns.items()
            }
            _append_row(pathlib.Path(output_path) / self.csv_file, row)
        return {prefix + key: float(value) for key, value in outcome.metrics.items()}

    @property
    def csv_file(self) -> str:
        """The name of the csv file."""
        raise NotImplementedError

    def _outcome(self, model) -> Outcome:
        raise NotImplementedError

    @property
    def _encoding(self) -> dict[str, Any]:
        """The options that an evaluator with these fields gives to `encode`."""
        return {
            name: getattr(self, name)
            for name in ("batch_size", "show_progress_bar", "truncate_dim")
        }

    def _named(self, start: str, end: str = "_results.csv") -> str:
        return start + (f"_{self.name}" if self.name else "") + end


def embed(
    model: Any, texts: Sequence[str], *, how: str = "encode", **options: Any
) -> Float[np.ndarray, "texts dim"]:
    """Encode texts with the model's method `how`, or with `encode` if the model lacks `how`.

    Each distinct text is encoded once. Equal texts have equal vectors to the last bit, so that
    their similarities tie.
    """
    return _once(texts, lambda distinct: getattr(model, how, model.encode)(distinct, **options))


def embed_pairs(
    model: Any, first: Sequence[str], second: Sequence[str], **options: Any
) -> tuple[Float[np.ndarray, "pairs dim"], Float[np.ndarray, "pairs dim"]]:
    """Encode two columns of texts in one call. Return the vectors of each column."""
    embeddings = embed(model, [*first, *second], **options)
    return embeddings[: len(first)], embeddings[len(first) :]


def predict(
    model: Any, pairs: Iterable[Sequence[str]], **options: Any
) -> Float[np.ndarray, "pairs *labels"]:
    """Score pairs with a cross-encoder. Each distinct pair is scored once."""
    return _once(
        [tuple(pair) for pair in pairs], lambda distinct: model.predict(distinct, **options)
    )


def pairwise(name: str, a, b) -> Float[np.ndarray, " rows"]:
    """The similarity `name` of a[i] to b[i]."""
    return np.asarray(SIMILARITIES[name][1](a, b))


def similarity_names(names: Collection[str] | None, main: str | None = None) -> list[str]:
    """The checked names of similarities: `names`, or `main` if there are no names. An empty list
    means the similarity of the model.

    Raises:
        ValueError: if a name is unknown, or `main` is not among `names`.
    """
    names = [main] if not names and main else list(names or ())
    for name in names:
        check_choice("similarity_fn_names", name, tuple(SIMILARITIES))
    if main:
        check_choice("the main similarity", main, tuple(names))
    return names


def check_columns(**columns: Sequence) -> None:
    """Raise ValueError unless the columns have the same length, and at least one row."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        lengths_found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"{lengths_found}; give columns of one length, with at least one row")


def largest(values: Iterable[float]) -> float:
    """The largest of the values that are not NaN; NaN if there is none."""
    return max((value for value in values if not np.isnan(value)), default=float("nan"))


def _once(items: Sequence[Hashable], compute):
    """The results of `compute` for `items`; `compute` gets each distinct item once."""
    places = {item: place for place, item in enumerate(dict.fromkeys(items))}
    found = np.asarray(compute(list(places)))
    return found if len(places) == len(items) else found[[places[item] for item in items]]


def _append_row(path, row):
    """Append a row to a csv file; a new file gets a header. Raise ValueError if the file has other
    columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", newline="", encoding="utf8") as file:
        file.seek(0)
        header = next(csv.reader(file), None)
        if header not in (None, list(row)):
            raise ValueError(
                f"{path} has the columns {', '.join(header)}, this evaluation {', '.join(row)}; "
                "give another output_path, or the evaluator another name"
            )
        csv.writer(file).writerows([row.values()] if header else [row, row.values()])
