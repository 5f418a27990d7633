"""Read files of lines: text, jsonl and csv, plain or .gz, with errors that name file and line."""

import contextlib
import csv
import gzip
import json
import os
import sys
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

LARGEST_FIELD = 1_000_000
"""The largest number of characters of a csv field. Without it, a quote that is not closed would be
found only at the end of the file."""


class Malformed(NamedTuple):
    """A row that cannot be used: the problem, and the column if one column has it."""

    problem: str
    column: str | None = None


def read_lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of a UTF-8 file, from 1; each line keeps its end. "-" is stdin.

    Lines end at a line feed and nowhere else. A byte order mark is left out.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if a line is not UTF-8, or the gzip is broken.
    """
    name, number = ("stdin" if path == "-" else str(path)), 0
    try:
        with _opened(str(path)) as file:
            for number, line in enumerate(file, 1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name}, line {number}: not UTF-8 ({error.reason} at byte {error.start})"
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{name}, after line {number}: broken gzip ({error})") from None


def read_objects(path: str | os.PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a jsonl file. Blank lines are skipped.

    Raises:
        OSError, ValueError: as `read_lines`. ValueError also if a line is broken json, or json that
            is not an object.
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: broken json ({error})") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: {line.strip():.40} is no json object")
        yield number, row


def without_end(line: str) -> str:
    """The line without its line feed, and without a carriage return before the line feed."""
    return line.removesuffix("\n").removesuffix("\r")


def is_text(text: str) -> bool:
    """Whether a string was UTF-8: it has no lone surrogates."""
    try:
        return text.isascii() or bool(text.encode("utf8"))
    except UnicodeEncodeError:
        return False


def csv_rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of the row's last line, fields) of csv with the quoting of RFC 4180. A blank
    line has no fields.

    A field may have `LARGEST_FIELD` characters. The limit of the csv module holds for the whole
    process, so that it is changed only while a row is read.

    Raises:
        csv.Error: if a quote is out of place, or a field is too long.
    """
    reader = csv.reader(lines, strict=True)
    while True:
        before = csv.field_size_limit(LARGEST_FIELD)
        try:
            row = next(reader, None)
        finally:
            csv.field_size_limit(before)
        if row is None:
            return
        yield reader.line_num, row


def require_columns(columns: Sequence[str], names: Collection[str], where: str) -> None:
    """Raise ValueError if a column is not among `names`."""
    missing = [column for column in columns if column not in names]
    if missing:
        raise ValueError(
            f"{where}: no column {', '.join(map(repr, missing))}; there are "
            f"{', '.join(names) or 'none'}"
        )


def _opened(path):
    if path == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")
