"""Texts from files and stdin, streamed: a text is given out before the next is read."""

import csv
from collections.abc import Iterator, Sequence

from jsbert.lines import csv_rows, read_lines, read_objects, without_end

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
"""The endings of the tables that can be read; all but .parquet also with .gz behind."""


def read_texts(path: str, column: str | None = None) -> Iterator[str]:
    """The texts of a file: its lines, or a column of a table; each may be compressed (.gz). '-' is
    stdin.

    Lines end at a line feed, with or without a carriage return before it, and nowhere else; empty
    ones count. A byte order mark is left out.

    Raises:
        OSError: for a file that is not there or cannot be read.
        ValueError: for a table without a column, and a column without a table; and as the texts
            come, for what is not UTF-8, malformed rows and broken gzip, the line named.
    """
    if column is not None:
        return (text for (text,) in read_columns(path, [column]))
    if _kind(path) is not None:
        raise ValueError(f"{path} is a table; name one of its columns with --column")
    return (without_end(line) for _, line in read_lines(path))


def read_queries(queries: Sequence[str]) -> list[str]:
    """The queries given as arguments; those on stdin, one a line, if there are none or '-'
    alone."""
    return list(queries) if queries and list(queries) != ["-"] else list(read_texts("-"))


def read_columns(path: str, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yields the texts of these columns of a table, a tuple a row.

    csv with double quotes (RFC 4180) and tsv without quoting have their columns' names in the first
    line; jsonl has an object a line. Blank lines are passed over.

    Raises:
        OSError: for a file that is not there or cannot be read.
        ValueError: for another kind of file, a column that is not there, malformed rows and values
            that are no texts; file, line and column are named.
    """
    kind = _kind(path)
    if kind is None:
        raise ValueError(
            f"columns can be read from files that end in {', '.join(TABLES)}; given {path!r}"
        )
    read = {".csv": _csv_rows, ".tsv": _tsv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}[
        kind
    ]
    for place, row in read(path, columns):
        for column, value in zip(columns, row, strict=True):
            if not isinstance(value, str):
                raise ValueError(f"{path}, {place}, column {column!r}: {value!r:.40} is no text")
        yield row


def import_pyarrow():
    """(pyarrow, pyarrow.parquet); ImportError naming the extra without them."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError("parquet files need pyarrow: pip install 'jsbert[cli]'") from None
    return pyarrow, pyarrow.parquet


def _tsv_rows(path, columns):
    lines = ((number, without_end(line)) for number, line in read_lines(path))
    return _chosen(path, columns, ((number, line.split("\t")) for number, line in lines if line))


def _csv_rows(path, columns):
    read = []

    def lines():
        for number, line in read_lines(path):
            read[:] = [number]
            yield line

    try:
        yield from _chosen(
            path, columns, ((number, row) for number, row in csv_rows(lines()) if row)
        )
    except csv.Error as error:
        raise ValueError(f"{path}, line {read[0]}: malformed csv ({error})") from None


def _chosen(path, columns, rows):
    _, header = next(rows, (1, []))
    _require(columns, header, f"{path}, line 1")
    places = [header.index(column) for column in columns]
    for number, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {number}: {len(row)} fields, but line 1 names {len(header)} columns"
            )
        yield f"line {number}", tuple(row[place] for place in places)


def _jsonl_rows(path, columns):
    for number, row in read_objects(path):
        _require(columns, row, f"{path}, line {number}")
        yield f"line {number}", tuple(row[column] for column in columns)


def _parquet_rows(path, columns):
    pyarrow, parquet = import_pyarrow()
    number = 0
    try:
        with open(path, "rb") as opened, parquet.ParquetFile(opened) as file:
            _require(columns, file.schema_arrow.names, path)
            for batch in file.iter_batches(columns=list(columns)):
                values = [batch.column(column).to_pylist() for column in columns]
                for row in zip(*values, strict=True):
                    number += 1
                    yield f"row {number}", row
    except pyarrow.ArrowException as error:
        raise ValueError(
            f"{path}, after row {number}: not a readable parquet file ({error})"
        ) from None


def _kind(path):
    return next((kind for kind in TABLES if path.removesuffix(".gz").endswith(kind)), None)


def _require(columns, names, where):
    missing = [column for column in columns if column not in names]
    if missing:
        raise ValueError(
            f"{where}: no column {', '.join(map(repr, missing))}; there are "
            f"{', '.join(names) or 'none'}"
        )
