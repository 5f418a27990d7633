"""Cut the rows of a corpus into shards, and read the rows of a shard.

A row is a line of a text file, a line of jsonl that is not blank, a line of tsv that is not empty,
a record of csv, or a row of parquet. Rows that cannot be used count too: where a shard begins
depends on the files alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jsbert.corpus.readers import OpenRows, Piece, Values, open_rows
from jsbert.corpus.sources import Source
from jsbert.lines import Malformed, is_text

INT64 = 2**63


class Rows(NamedTuple):
    """The rows of a shard that can be used, and the number of those that cannot. `first_bad` says
    what is wrong with the first of these."""

    ids: list[int] | list[str]
    texts: list[str]
    num_bad: int = 0
    first_bad: str | None = None


def plan_shards(
    sources: Sequence[Source], shard_rows: int, columns: Sequence[str]
) -> list[list[Piece]]:
    """Cut a corpus into shards of `shard_rows` rows; the last may have fewer. A shard may begin in
    one file and end in another.

    Files of lines are read once, to find where the rows begin; of parquet only the footer is read.

    Args:
        sources: the files.
        shard_rows: rows of a shard, at least 1.
        columns: the columns that every table must have.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if a table has no such column, if quoting, gzip or parquet are broken, or if
            there are no rows.
    """
    shards: list[list[Piece]] = []
    number, room = 0, 0
    for index, source in enumerate(sources):
        with open_rows(source, columns) as rows:
            starts, count = rows.starts(room, shard_rows)
        ends = [*(row for row, _, _ in starts[1:]), count]
        for (row, offset, place), end in zip(starts, ends, strict=False):  # an empty file: no start
            if not room:
                shards.append([])
                room = shard_rows
            shards[-1].append(Piece(index, number + row, end - row, offset, place))
            room -= end - row
        number += count
    if not shards:
        raise ValueError(f"no rows in {', '.join(source.name for source in sources):.200}")
    return shards


class Reader:
    """Reads the rows of shards. The last file stays open, so that shards in their order read each
    file once, even if it is packed."""

    def __init__(
        self, sources: Sequence[Source], columns: Sequence[str], *, skip_bad_rows: bool = False
    ):
        """Take the files, and the column of texts or the columns of ids and texts. Without ids, a
        row's id is its number in the corpus. With `skip_bad_rows`, rows that cannot be used are
        counted."""
        self._sources, self._columns, self._skip_bad = sources, columns, skip_bad_rows
        self._open: tuple[int, OpenRows] | None = None

    def read(self, pieces: Sequence[Piece], id_type: type | None = None) -> Rows:
        """Return the rows of a shard. `id_type` is int or str; other ids are bad.

        Raises:
            OSError: if a file cannot be read.
            ValueError: if a file is broken, or if a row cannot be used and is not to be left out.
        """
        ids: list[Any] = []
        texts: list[str] = []
        num_bad, first_bad = 0, None
        for piece in pieces:
            source, rows = self._sources[piece.source], self._rows(piece.source)
            for number, (place, row) in enumerate(rows.read(piece), piece.number):
                problem = self._problem(row, id_type)
                if problem is None:
                    values: tuple = row
                    ids.append(number if len(values) == 1 else values[0])
                    texts.append(values[-1])
                    continue
                unit = "row" if source.kind == ".parquet" else "line"
                at = f", column {problem.column!r}" if problem.column else ""
                message = f"{source.name}, {unit} {place}{at}: {problem.problem}"
                if not self._skip_bad:
                    raise ValueError(f"{message}; leave such rows out with --skip-bad")
                num_bad, first_bad = num_bad + 1, first_bad or message
        return Rows(ids, texts, num_bad, first_bad)

    def id_type(self, shards: Sequence[Sequence[Piece]]) -> type:
        """Return int if the first row that has an id has a whole number, else str.

        Raises:
            ValueError: as `read`; and if no row of the first shard has an id.
        """
        if len(self._columns) == 1:
            return int
        for piece in shards[0]:
            for _, values in self._rows(piece.source).read(piece):
                if not isinstance(values, Malformed) and _is_id(values[0], type(values[0])):
                    return type(values[0])
        raise ValueError(
            f"column {self._columns[0]!r}: no row of the first shard has a whole number or a "
            "string as its id; name another column, or none"
        )

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            self._open[1].__exit__()
            self._open = None

    def _rows(self, index: int) -> OpenRows:
        if self._open is None or self._open[0] != index:
            self.close()
            self._open = index, open_rows(self._sources[index], self._columns)
        return self._open[1]

    def _problem(self, values: Values, id_type: type | None) -> Malformed | None:
        if isinstance(values, Malformed):
            return values
        if not isinstance(values[-1], str):
            return Malformed(f"{values[-1]!r:.40} is no text", self._columns[-1])
        for column, value in zip(self._columns, values, strict=True):
            if isinstance(value, str) and not is_text(value):
                return Malformed("is not UTF-8", column)
        if len(values) == 2 and not _is_id(values[0], id_type):
            wanted = "whole number of 64 bits" if id_type is int else "string"
            return Malformed(
                f"the id {values[0]!r:.40} is no {wanted}, as the first", self._columns[0]
            )
        return None


def _is_id(value, id_type):
    if id_type is int:
        return type(value) is int and -INT64 <= value < INT64
    return id_type is str and isinstance(value, str)
