"""Read the rows of one file of a corpus from any row on: files of lines, and parquet."""

import contextlib
import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, Protocol

from jsbert.corpus.sources import TEXT, Source
from jsbert.lazy import import_pyarrow
from jsbert.lines import Malformed, csv_rows, require_columns, without_end

BATCH = 4096
"""Rows of parquet that are unpacked together: few beside those of a shard."""

Values = tuple[Any, ...] | Malformed
"""The values of the chosen columns of a row, or what is wrong with the row."""


class Piece(NamedTuple):
    """Rows of one file that follow each other.

    Attributes:
        source: the number of the file.
        number: the number of the first row in the corpus, from 0.
        rows: how many rows.
        offset: the byte at which the first row begins, in the unpacked file; 0 in parquet.
        place: the first row's line, from 1; in parquet its row, from 1.
    """

    source: int
    number: int
    rows: int
    offset: int
    place: int


class OpenRows(Protocol):
    """The rows of an open file; use in a `with` block."""

    def __enter__(self) -> "OpenRows": ...
    def __exit__(self, *error: object) -> None: ...

    def starts(self, room: int, step: int) -> tuple[list[tuple[int, int, int]], int]:
        """Return (row, offset, place) of row 0, row `room` and every `step` rows after that, and
        the number of rows. With `room` 0, every `step` rows from row 0."""
        ...

    def read(self, piece: Piece) -> Iterator[tuple[int, Values]]:
        """Yield (place, values) of the rows of a piece."""
        ...


def open_rows(source: Source, columns: Sequence[str]) -> OpenRows:
    """Open a file for its columns; a text file has no names, and its one value is the line.

    Raises:
        OSError, ValueError, ImportError: if the file cannot be read, or has no such column.
    """
    return (_Parquet if source.kind == ".parquet" else _Lines)(source, columns)


class _Lines:
    """The rows of a file of lines."""

    def __init__(self, source: Source, columns: Sequence[str]):
        self._source, self._columns = source, columns
        self._file: BinaryIO = source.open()
        self._places: list[int] = []  # of the columns among the fields of csv and tsv
        # (offset, line) of the first row, and of what follows the line that was read last.
        self._begin = self._next = (0, 1)
        try:
            if source.kind in (".csv", ".tsv"):
                self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def starts(self, room: int, step: int) -> tuple[list[tuple[int, int, int]], int]:
        found, count, wanted = [], 0, 0
        for offset, place, _ in self._records(*self._begin):
            if count == wanted:
                found.append((count, offset, place))
                wanted = room if not count and room else count + step
            count += 1
        return found, count

    def read(self, piece: Piece) -> Iterator[tuple[int, Values]]:
        records = self._records(piece.offset, piece.place)
        for _ in range(piece.rows):
            found = next(records, None)
            if found is None:
                raise _fewer(self._source)
            yield found[1], self._values(found[2])

    def _records(self, offset: int, line: int) -> Iterator[tuple[int, int, Any]]:
        """Yield (offset, line, record) of the rows from a place. A record is a line, or the fields
        of csv."""
        if self._source.kind == ".csv":
            return self._csv_records(offset, line)
        lines = self._decoded(offset, line)
        if self._source.kind == TEXT:
            return lines
        if self._source.kind == ".tsv":  # a row of tabs alone has fields: they are empty
            return (found for found in lines if without_end(found[2]))
        return (found for found in lines if found[2].strip())

    def _csv_records(self, offset, line):
        begin = offset, line
        lines = (text for _, _, text in self._decoded(offset, line))
        try:
            for _, fields in csv_rows(lines):
                if fields:
                    yield *begin, fields
                begin = self._next
        except csv.Error as error:
            raise ValueError(
                f"{self._source.name}, line {begin[1]}: malformed csv ({error}); where the next "
                "row begins cannot be known: mend the file"
            ) from None

    def _decoded(self, offset: int, line: int) -> Iterator[tuple[int, int, str]]:
        """Yield (offset, number, text) of the lines from a place. Bytes that are not UTF-8 become
        lone surrogates, so that a message can name their row."""
        self._next = offset, line
        try:
            self._file.seek(offset)
            for found in self._file:
                self._next = offset + len(found), line + 1
                if line == 1:
                    found = found.removeprefix(b"\xef\xbb\xbf")
                yield offset, line, found.decode("utf8", "surrogateescape")
                offset, line = self._next
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{self._source.name}, after line {self._next[1] - 1}: broken gzip ({error}); "
                "fetch or write the file again"
            ) from None

    def _read_header(self):
        _, _, header = next(self._records(0, 1), (0, 1, ""))
        header = header if isinstance(header, list) else without_end(header).split("\t")
        self._begin, self._width = self._next, len(header)
        require_columns(self._columns, header, f"{self._source.name}, line 1")
        self._places = [header.index(column) for column in self._columns]

    def _values(self, record: Any) -> Values:
        kind = self._source.kind
        if kind == TEXT:
            return (without_end(record),)
        if kind == ".jsonl":
            return self._object(record)
        fields = record if kind == ".csv" else without_end(record).split("\t")
        if len(fields) != self._width:
            return Malformed(f"{len(fields)} fields, where the header has {self._width}")
        return tuple(fields[place] for place in self._places)

    def _object(self, line: str) -> Values:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            return Malformed(f"broken json: {error!s:.200}")
        if not isinstance(row, dict):
            return Malformed(f"a json object is needed, not {line.strip()!a:.40}")
        for column in self._columns:
            if column not in row:
                return Malformed("is missing", column)
        return tuple(row[column] for column in self._columns)


class _Parquet:
    """The rows of a parquet file. A row group is read as a stream, and the stream is kept, because
    the next piece mostly begins where the last one ended."""

    def __init__(self, source: Source, columns: Sequence[str]):
        self._arrow, parquet = import_pyarrow()
        self._source, self._columns = source, list(columns)
        self._file = source.open()
        try:
            with self._checked():
                self._table = parquet.ParquetFile(self._file)
            require_columns(columns, self._table.schema_arrow.names, source.name)
        except BaseException:
            self._file.close()
            raise
        # The next row, and the stream that yields it.
        self._next = -1
        self._stream: Iterator[Values] = iter(())

    def __enter__(self) -> "_Parquet":
        return self

    def __exit__(self, *error: object) -> None:
        self._table.close()
        self._file.close()

    def starts(self, room: int, step: int) -> tuple[list[tuple[int, int, int]], int]:
        count = self._table.metadata.num_rows
        rows = [0, *range(room or step, count, step)] if count else []
        return [(row, 0, row + 1) for row in rows], count

    def read(self, piece: Piece) -> Iterator[tuple[int, Values]]:
        if self._next != piece.place - 1:
            self._next = piece.place - 1
            self._stream = self._rows_from(self._next)
        for _ in range(piece.rows):
            values = next(self._stream, None)
            if values is None:
                raise _fewer(self._source)
            self._next += 1
            yield self._next, values

    def _rows_from(self, row: int) -> Iterator[Values]:
        groups, meta = 0, self._table.metadata
        while groups < meta.num_row_groups and row >= meta.row_group(groups).num_rows:
            row -= meta.row_group(groups).num_rows
            groups += 1
        rest = list(range(groups, meta.num_row_groups))
        with self._checked():
            batches = self._table.iter_batches(BATCH, row_groups=rest, columns=self._columns)
            for batch in batches:
                skipped = min(row, len(batch))
                row -= skipped
                columns = [batch.column(name).slice(skipped) for name in self._columns]
                yield from zip(*map(_as_list, columns), strict=True)

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except self._arrow.ArrowException as error:
            raise ValueError(f"{self._source.name}: not readable as parquet ({error})") from None


def _as_list(column):
    """The values of a column; of strings that are not UTF-8, such with lone surrogates."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        values = (value.as_buffer() if value.is_valid else None for value in column)
        return [
            None if value is None else value.to_pybytes().decode("utf8", "surrogateescape")
            for value in values
        ]


def _fewer(source):
    return ValueError(
        f"{source.name} has fewer rows than when the run began; embed it into a new folder"
    )
