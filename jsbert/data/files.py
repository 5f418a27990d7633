"""Examples from files: tsv, csv, jsonl and parquet, read row by row, with errors that name the
place."""

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
from typing import Any, NamedTuple

import numpy as np

from jsbert.data.examples import Examples
from jsbert.data.labels import as_labels, choose_columns
from jsbert.lines import csv_rows


class Malformed(NamedTuple):
    """Stands for a row that cannot be used."""

    problem: str
    column: str | None = None


def read_examples(
    path: str | os.PathLike,
    *,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    label_names: Sequence[str] | None = None,
    label_range: tuple[float, float] | None = None,
    skip_bad_rows: bool = False,
) -> Examples:
    """The examples in a file.

    .tsv has tabs and no quoting, .csv commas and RFC 4180's quoting, both a header line; .jsonl an
    object a line, whose columns are the keys of the first; each in UTF-8, plain or .gz. .parquet
    needs pyarrow (`pip install 'jsbert[data]'`). Blank lines are passed over. An empty text is a
    text.

    Args:
        path: the file.
        columns: the columns of texts; by default all but the label, in order.
        label: the column of labels; by default the one named label, labels, score or scores, if
            there is one.
        label_names: the class names in the order of their integers 0, 1, ...; by default sorted. A
            label column is of classes if none of its entries is a number.
        label_range: (low, high) of the scores, which become 0 to 1; what lies outside is malformed.
        skip_bad_rows: whether malformed rows are counted in `num_bad_rows` and left out, not an
            error. A broken gzip is an error in any case, for then rows are missing. A .csv's row
            with a quote out of place, or one that nothing closes within
            `jsbert.lines.LARGEST_FIELD` characters, ends with its first line.

    Raises:
        ValueError: for a malformed row (wrong number of fields, missing key, broken json, broken
            UTF-8, a text that is not a string, a label that is empty, not a number, no known class
            or outside of the range): the message names file, line and column. Also for no rows at
            all, an unknown kind of file, and columns not there.
        OSError: if the file cannot be read.
    """
    path = pathlib.Path(path)
    needs_label = label_names is not None or label_range is not None
    rows, unit = _rows(path)
    names: tuple[str, ...] = ()  # known with the first row that is well formed
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
        if not isinstance(row, Malformed) and problem is None:
            for column, name in zip(texts, names, strict=True):
                column.append(row[name])
            labels.append(row[label_name] if label_name else None)
            places.append(place)
        elif problem is None or skip_bad_rows:
            num_bad += 1
        else:
            raise _error(path, unit, place, *problem)
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
    """((place, row or what is wrong with it), what a place is called)."""
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
    place = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            # What is not UTF-8 becomes lone surrogates, so that its row and column can be named.
            # csv sees the line ends itself, for a quoted field may hold some; elsewhere \n alone
            # ends a line, so a text may hold \r.
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
            again.extendleft(
                reversed(row[1:])
            )  # a quote that nothing closes takes none of the rows behind it along


def _lines(again, stream, row):
    """The lines to be read `again`, then the stream's, each noted in `row`."""
    while line := again.popleft() if again else next(stream, ""):
        row.append(line)
        yield line


def _table(rows, path):
    place, names = next(rows, (1, []))
    if (
        isinstance(names, Malformed)
        or len(set(names)) < len(names)
        or not all(map(_is_text, names))
    ):
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
    for name in names:
        if name not in row:
            return Malformed("is missing", name)
        if not isinstance(row[name], str):
            return Malformed(f"{row[name]!r:.40} is not a string", name)
        if not _is_text(row[name]):
            return Malformed("is not UTF-8", name)
    if label_name is not None and label_name not in row:
        return Malformed("is missing", label_name)
    if (
        label_name is not None
        and isinstance(row[label_name], str)
        and not _is_text(row[label_name])
    ):
        return Malformed("is not UTF-8", label_name)
    return None


def _is_text(text):
    try:
        return text.isascii() or bool(text.encode("utf8"))
    except UnicodeEncodeError:
        return False


def _error(path, unit, place, problem, column=None):
    at = f"{path}, {unit} {place}" + (f", column {column!r}" if column else "")
    return ValueError(
        f"{at}: {problem}; mend the row, or leave such rows out with skip_bad_rows=True"
    )
