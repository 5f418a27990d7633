"""Read examples from tsv, csv, jsonl and parquet files, row by row, with errors that name file,
line and column."""

import collections
import csv
import gzip
import io
import json
import os
import pathlib
import zlib
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jsbert.data.examples import Examples
from jsbert.data.labels import as_labels, choose_columns
from jsbert.lines import Malformed, csv_rows, is_text


def read_examples(
    path: str | os.PathLike,
    *,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    label_names: Sequence[str] | None = None,
    label_range: tuple[float, float] | None = None,
    skip_bad_rows: bool = False,
) -> Examples:
    """Read the examples of a file.

    A .tsv file has tabs and no quoting; a .csv file has commas and the quoting of RFC 4180. Both
    begin with a header line. A .jsonl file has one object on each line; the keys of the first
    object name the columns. These files are UTF-8, plain or .gz. A .parquet file needs pyarrow
    (`pip install 'jsbert[data]'`). Blank lines are skipped. An empty string is a text.

    Args:
        path: the file.
        columns: the columns of texts; by default all except the label, in order.
        label: the column of labels; by default the column named label, labels, score or scores, if
            there is one.
        label_names: the class names in the order of their integers 0, 1, ...; by default sorted.
            The labels are classes if none of them is a number.
        label_range: (low, high) of the scores; they are scaled to 0 to 1. A score outside of the
            range is malformed.
        skip_bad_rows: whether to leave out malformed rows and count them in `num_bad_rows`, in
            place of an error. A broken gzip is always an error, because then rows are missing. If a
            .csv row has a quote out of place, or a quote that is not closed within
            `jsbert.lines.LARGEST_FIELD` characters, only the first line of the row is left out.

    Raises:
        ValueError: if a row is malformed: a wrong number of fields, a missing key, broken json,
            broken UTF-8, a text that is not a string, or a label that is empty, not a number, not a
            known class or outside of the range. The message names file, line and column. Also if
            there are no rows, if the kind of file is unknown, or if a column does not exist.
        OSError: if the file cannot be read.
    """
    path = pathlib.Path(path)
    needs_label = label_names is not None or label_range is not None
    rows, unit = _rows(path)
    # Read the rows. The first row that is well formed names the columns. `places` holds the line or
    # row number of each row, for messages about labels.
    names: tuple[str, ...] = ()
    label_name: str | None = None
    texts: list[list[str]] = []
    labels: list[Any] = []
    places, num_bad = array("q"), 0
    for place, row in rows:
        if not names and not isinstance(row, Malformed):
            try:
                names, label_name = choose_columns(
                    tuple(row), columns, label, needs_label=needs_label
                )
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            texts = [[] for _ in names]
        problem = row if isinstance(row, Malformed) else _problem(row, names, label_name)
        if problem is not None and not skip_bad_rows:
            raise _error(path, unit, place, *problem)
        if isinstance(row, Malformed) or problem is not None:
            num_bad += 1
            continue
        for column, name in zip(texts, names, strict=True):
            column.append(row[name])
        labels.append(row[label_name] if label_name else None)
        places.append(place)
    # Convert the labels of all rows at once, because only the whole column shows whether they are
    # numbers or classes. Then leave out the rows whose label is malformed.
    converted = None
    if label_name and places:
        converted = as_labels(labels, label_name, label_names=label_names, label_range=label_range)
        if converted.problems and not skip_bad_rows:
            first = min(converted.problems)
            raise _error(path, unit, places[first], converted.problems[first], label_name)
        num_bad += len(converted.problems)
        kept = np.setdiff1d(np.arange(len(places)), list(converted.problems))
        if converted.problems:
            texts = [[column[index] for index in kept] for column in texts]
        converted = converted._replace(array=converted.array[kept])
    if not texts or not texts[0]:
        raise ValueError(
            f"{path} holds no rows"
            + (f" that are well formed; {num_bad} are not" if num_bad else "")
        )
    if converted is None:
        return Examples(names, tuple(texts), num_bad_rows=num_bad)
    return Examples(names, tuple(texts), converted.array, label_name, converted.names, num_bad)


def _rows(path) -> tuple[Iterator[tuple[int, dict[str, Any] | Malformed]], str]:
    """Return an iterator of (place, row or `Malformed`), and the name of a place: "line" or
    "row"."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet" and path.suffix != ".gz":
        return _parquet_rows(path), "row"
    if kind not in ("tsv", "csv", "jsonl"):
        raise ValueError(
            f"{path}: unknown kind of file; supported: .tsv, .csv, .jsonl, each also .gz, and "
            ".parquet"
        )
    return _text_rows(path, kind), "line"


def _text_rows(path, kind):
    """Yield (line number, row or `Malformed`) of a tsv, csv or jsonl file."""
    place = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            # Bytes that are not UTF-8 become lone surrogates, so that a message can name their row
            # and column. The csv reader gets the line ends unchanged, because a quoted field may
            # hold them. In other files only \n ends a line, so that a text may hold \r.
            newline = "" if kind == "csv" else "\n"
            stream = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline=newline)
            rows = (
                _jsonl(stream)
                if kind == "jsonl"
                else _table(_csv(stream) if kind == "csv" else _tsv(stream), path)
            )
            for place, row in rows:
                yield place, row
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}: broken gzip after line {place} ({error}); fetch or write the file again"
        ) from error


def _tsv(stream):
    for place, line in enumerate(stream, 1):
        line = line.removesuffix("\n").removesuffix("\r")
        if line:
            yield place, line.split("\t")


def _csv(stream):
    """Yield (number of the row's first line, fields or `Malformed`) of a csv file."""
    place, again = 1, collections.deque()
    while True:
        row = []
        try:
            for _, fields in csv_rows(_lines(again, stream, row)):
                if fields:
                    yield place, fields
                place += len(row)
                row.clear()
            return
        except csv.Error as error:
            yield place, Malformed(f"broken quoting, or too long a field: {error}")
            place += 1
            # Read the lines after the first again: a quote that is not closed costs one line only.
            again.extendleft(reversed(row[1:]))


def _lines(again, stream, row):
    """Yield the lines of `again`, then the lines of the stream. Append each of them to `row`."""
    while line := again.popleft() if again else next(stream, ""):
        row.append(line)
        yield line


def _table(rows, path):
    """Yield (line number, row as a dict or `Malformed`). The first of `rows` is the header."""
    place, names = next(rows, (1, []))
    if isinstance(names, Malformed) or len(set(names)) < len(names) or not all(map(is_text, names)):
        what = names.problem if isinstance(names, Malformed) else f"the columns are {names!a:.200}"
        raise ValueError(
            f"{path}, line {place}: {what}; the header must name different columns, in UTF-8"
        )
    for place, fields in rows:
        if isinstance(fields, Malformed):
            yield place, fields
        elif len(fields) != len(names):
            at = names[len(fields)] if len(fields) < len(names) else f"number {len(names) + 1}"
            yield place, Malformed(f"{len(fields)} fields, where the header has {len(names)}", at)
        else:
            yield place, dict(zip(names, fields, strict=True))


def _jsonl(stream):
    for place, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield place, Malformed(f"broken json: {error!s:.200}")
            continue
        yield (
            place,
            row
            if isinstance(row, dict)
            else Malformed(f"a json object is needed, not {line.strip()!a:.40}"),
        )


def _parquet_rows(path):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("reading parquet needs pyarrow: pip install 'jsbert[data]'") from error
    place = 0
    with path.open("rb") as file:
        try:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches():
                for row in _arrow_rows(batch):
                    place += 1
                    yield place, row
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{path}: broken parquet after row {place} ({error})") from error


def _arrow_rows(batch):
    """The rows of a batch as dicts. Broken UTF-8 makes only its own row `Malformed`."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        return [_arrow_row(batch.slice(index, 1)) for index in range(len(batch))]


def _arrow_row(row):
    values = {}
    for name in row.schema.names:
        try:
            values[name] = row.column(name)[0].as_py()
        except UnicodeDecodeError:
            return Malformed("is not UTF-8", name)
    return values


def _problem(row, names, label_name):
    """What is wrong with a row, or None. Labels are converted, and checked, later."""
    for name in names:
        if name not in row:
            return Malformed("is missing", name)
        if not isinstance(row[name], str):
            return Malformed(f"{row[name]!r:.40} is not a string", name)
        if not is_text(row[name]):
            return Malformed("is not UTF-8", name)
    if label_name is not None and label_name not in row:
        return Malformed("is missing", label_name)
    if label_name is not None and isinstance(row[label_name], str) and not is_text(row[label_name]):
        return Malformed("is not UTF-8", label_name)
    return None


def _error(path, unit, place, problem, column=None):
    at = f"{path}, {unit} {place}" + (f", column {column!r}" if column else "")
    return ValueError(
        f"{at}: {problem}; mend the row, or leave such rows out with skip_bad_rows=True"
    )
