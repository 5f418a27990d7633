"""The corpus that the page of a server shows at its start."""

import os
import pathlib
from typing import NamedTuple

from jsbert.lines import csv_rows, read_lines, without_end

MAX_TEXTS = 50_000
"""The most texts that the page takes: it keeps all vectors in the browser."""

COLUMNS = ("text", "sentence", "document", "passage", "body", "content", "title")
"""The columns that are taken for texts, the first that a file has."""


class Corpus(NamedTuple):
    """Texts with the name of their file."""

    name: str
    texts: list[str]


def read_corpus(path: str | os.PathLike) -> Corpus:
    """Read a text file with a text in each line, or a csv or tsv file with a header. Blank lines
    are left out. In a table the column of `COLUMNS` counts, else the first.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if the file is broken, has no text or more than `MAX_TEXTS`.
    """
    name = pathlib.Path(path).name
    lines = (line for _, line in read_lines(path))
    kind = next((end for end in (".csv", ".tsv") if name.removesuffix(".gz").endswith(end)), None)
    if kind is None:
        texts = [line.strip() for line in lines]
    else:
        if kind == ".csv":
            rows = [row for _, row in csv_rows(lines)]
        else:
            rows = [without_end(line).split("\t") for line in lines]
        header = [cell.strip().lower() for cell in rows[0]] if rows else []
        column = next((header.index(name) for name in COLUMNS if name in header), 0)
        texts = [row[column].strip() for row in rows[1:] if len(row) > column]
    texts = [text for text in texts if text]
    if not 0 < len(texts) <= MAX_TEXTS:
        raise ValueError(f"{path} has {len(texts):,} texts; the page takes 1 to {MAX_TEXTS:,}")
    return Corpus(name, texts)
