"""Read texts from files and stdin as a stream: each text is yielded before the next is read."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jsbert.lazy import import_pyarrow
from jsbert.lines import csv_rows, read_lines, read_objects, require_columns, without_end

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
"""The file endings of the tables that can be read. All except .parquet can be followed by .gz."""


Rows = Iterator[tuple[str, tuple[Any, ...]]]
"""Rows of a table: the row's place in the file, for messages, and the values of the columns."""


def read_texts(path: str, column: str | None = None) -> Iterator[str]:
    """Yield the texts of a file: the lines of a text file, or a column of a table. The file may be
    compressed (.gz). '-' is stdin.

    Lines end only at a line feed, with or without a carriage return before it. Empty lines count. A
    byte order mark is left out.

    Raises:
        OSError: if the file does not exist or cannot be read.
        ValueError: if a table comes without a column, or a column without a table. Also, during the
            iteration, for bytes that are not UTF-8, malformed rows and broken gzip; the message
            names the line.
    """
    if column is not None:
        return (text for (text,) in read_columns(path, [column]))
    if _kind(path) is not None:
        raise ValueError(f"{path} is a table; name one of its columns with --column")
    return (without_end(line) for _, line in read_lines(path))


def read_queries(queries: Sequence[str]) -> list[str]:
    """Return the queries given as arguments. If there are none, or only '-', read them from stdin,
    one on each line."""
    return list(queries) if queries and list(queries) != ["-"] else list(read_texts("-"))


def read_columns(path: str, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the texts of these columns of a table, one tuple for each row.

    csv (with double quotes, RFC 4180) and tsv (without quoting) name their columns in the first
    line. jsonl has one object on each line. Blank lines are skipped.

    Raises:
        OSError: if the file does not exist or cannot be read.
        ValueError: for another kind of file, a missing column, a malformed row, or a value that is
            no text; the message names the file, the line and the column.
    """
    kind = _kind(path)
    if kind is None:
        raise ValueError(
            f"columns can be read from files that end in {', '.join(TABLES)}; given {path!r}"
        )
    for place, row in READERS[kind](path, columns):
        for column, value in zip(columns, row, strict=True):
            if not isinstance(value, str):
                raise ValueError(f"{path}, {place}, column {column!r}: {value!r:.40} is no text")
        yield row


def _tsv_rows(path: str, columns: Sequence[str]) -> Rows:
    lines = ((number, without_end(line)) for number, line in read_lines(path))
    return _chosen(path, columns, ((number, line.split("\t")) for number, line in lines if line))


def _csv_rows(path: str, columns: Sequence[str]) -> Rows:
    read: list[int] = []  # the number of the last line read, for messages

    def lines() -> Iterator[str]:
        for number, line in read_lines(path):
            read[:] = [number]
            yield line

    try:
        yield from _chosen(
            path, columns, ((number, row) for number, row in csv_rows(lines()) if row)
        )
    except csv.Error as error:
        raise ValueError(f"{path}, line {read[0]}: malformed csv ({error})") from None


def _chosen(path: str, columns: Sequence[str], rows: Iterator[tuple[int, Sequence[str]]]) -> Rows:
    """Yield the chosen columns of rows of which the first names the columns."""
    header: Sequence[str]
    _, header = next(rows, (1, []))
    require_columns(columns, header, f"{path}, line 1")
    places = [header.index(column) for column in columns]
    for number, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {number}: {len(row)} fields, but line 1 names {len(header)} columns"
            )
        yield f"line {number}", tuple(row[place] for place in places)


def _jsonl_rows(path: str, columns: Sequence[str]) -> Rows:
    for number, row in read_objects(path):
        require_columns(columns, row, f"{path}, line {number}")
        yield f"line {number}", tuple(row[column] for column in columns)


def _parquet_rows(path: str, columns: Sequence[str]) -> Rows:
    pyarrow, parquet = import_pyarrow()
    number = 0
    try:
        with open(path, "rb") as opened, parquet.ParquetFile(opened) as file:
            require_columns(columns, file.schema_arrow.names, path)
            for batch in file.iter_batches(columns=list(columns)):
                values = [batch.column(column).to_pylist() for column in columns]
                for row in zip(*values, strict=True):
                    number += 1
                    yield f"row {number}", row
    except pyarrow.ArrowException as error:
        raise ValueError(
            f"{path}, after row {number}: not a readable parquet file ({error})"
        ) from None


READERS: Mapping[str, Callable[[str, Sequence[str]], Rows]] = {
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
    ".jsonl": _jsonl_rows,
    ".parquet": _parquet_rows,
}
"""The function that reads the columns of each kind of table."""


def _kind(path: str) -> str | None:
    """Return the ending in `TABLES` that the path has, or None."""
    return next((kind for kind in TABLES if path.removesuffix(".gz").endswith(kind)), None)
