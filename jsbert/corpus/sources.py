"""Find the files of a corpus, and open them: files on disk, patterns, and addresses of fsspec."""

import glob
import gzip
import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple, cast

from jsbert.lines import is_text

TABLES = (".parquet", ".jsonl", ".csv", ".tsv")
"""The endings of tables. All except .parquet may be followed by .gz, and so may a text file."""

TEXT = ".txt"
"""The kind of all other files: each line is a text."""

NOT_LINES = (
    ".json", ".ndjson", ".arrow", ".feather", ".avro", ".orc", ".zip", ".zst", ".bz2", ".xz",
)  # fmt: skip
"""Endings of other tables and archives. Their lines are no texts."""

BUFFER = 2**20
"""Bytes that are asked of a distant file at least."""


class Source(NamedTuple):
    """A file of a corpus.

    Attributes:
        name: the path, or the address with its protocol, such as "s3://bucket/a.parquet".
        size: bytes.
        modified: what the file system says about the last change; a file that is written again has
            another value.
    """

    name: str
    size: int
    modified: str

    @property
    def kind(self) -> str:
        """One of `TABLES`, or `TEXT`."""
        plain = self.name.removesuffix(".gz")
        kind = next((ending for ending in TABLES if plain.endswith(ending)), TEXT)
        return TEXT if kind == ".parquet" and plain != self.name else kind

    def open(self) -> BinaryIO:
        """Open the file. What ends in .gz is unpacked: there, going back begins at the front.

        Raises:
            OSError: if the file cannot be opened.
        """
        is_packed = self.name.endswith(".gz")
        if not is_address(self.name):
            file = (gzip.open if is_packed else open)(self.name, "rb")
        else:
            system, path = _file_system(self.name)
            # The files of fsspec look for the ends of lines in Python, which takes long.
            file = io.BufferedReader(system.open(path, "rb"), BUFFER)
            file = gzip.GzipFile(fileobj=file) if is_packed else file
        return cast(BinaryIO, file)


def find_sources(inputs: str | os.PathLike | Sequence[str | os.PathLike]) -> tuple[Source, ...]:
    """Return the files that names, patterns and addresses stand for, in their order. The files of a
    pattern are sorted by name.

    Raises:
        FileNotFoundError: if a file does not exist, or a pattern fits none.
        OSError: if a name is that of a folder, or a file cannot be reached.
        ValueError: if there are no inputs, a file is named twice, or its ending is that of a table
            or archive that is not supported.
        ImportError: if an address needs fsspec, and it is not installed.
    """
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    found: dict[str, Source] = {}
    for name in [os.fspath(one) for one in inputs]:
        for source in _at_address(name) if is_address(name) else _on_disk(name):
            if source.name in found:
                raise ValueError(
                    f"{source.name} is named twice; its rows would be there twice: name it once"
                )
            _check_name(source.name)
            found[source.name] = source
    if not found:
        raise ValueError("no inputs; give files, patterns such as 'part-*.parquet', or addresses")
    return tuple(found.values())


def _check_name(name):
    plain = name.removesuffix(".gz")
    ending = next((one for one in NOT_LINES if plain.endswith(one)), None)
    if ending is not None:
        raise ValueError(
            f"{name}: {ending} is not supported; supported: {', '.join(TABLES)}, and files of "
            "lines. If each line is a json object, name the file .jsonl"
        )
    if not is_text(name):  # the notes of a run are json in UTF-8
        raise ValueError(f"{name!a}: the name is not UTF-8; rename the file")


def is_address(name: str) -> bool:
    """Whether a name is an address for fsspec, such as "s3://bucket/a.jsonl"."""
    return "://" in name


def _on_disk(name):
    if name == "-":
        raise ValueError("stdin cannot be read again after a stop; write the texts to a file")
    path = pathlib.Path(name).expanduser()
    names = [str(path)]
    if glob.has_magic(name) and not path.exists():
        names = sorted(glob.glob(str(path), recursive=True))
        if not names:
            raise FileNotFoundError(f"no file fits {name!r}")
    for one in names:
        if os.path.isdir(one):
            raise IsADirectoryError(f"{one} is a folder; name its files, such as {one}/*.parquet")
        state = os.stat(one)
        if not os.path.isfile(one):
            raise OSError(
                f"{one} is no regular file, so it cannot be read again after a stop; write the "
                "texts to a file"
            )
        yield Source(one, state.st_size, str(state.st_mtime_ns))


def _at_address(name):
    system, path = _file_system(name)
    paths = [path]
    if glob.has_magic(path) and not system.exists(path):
        paths = sorted(system.glob(path))
    if not paths or not system.exists(paths[0]):
        raise FileNotFoundError(f"no file fits {name!r}")
    for one in paths:
        facts = system.info(one)
        if facts["type"] == "directory":
            raise IsADirectoryError(f"{name} is a folder; name its files, such as {name}/*.parquet")
        changed = ("ETag", "etag", "blob_id", "mtime", "LastModified", "last_modified", "created")
        modified = next((str(facts[key]) for key in changed if facts.get(key) is not None), "")
        yield Source(system.unstrip_protocol(one), int(facts["size"] or 0), modified)


def _file_system(name: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    try:
        import fsspec
    except ImportError:
        raise ImportError(f"{name} needs fsspec: pip install fsspec") from None
    try:
        return fsspec.core.url_to_fs(name)
    except ImportError as error:  # such as s3fs for s3://
        raise ImportError(f"{name}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{name}: {error}; give a path or an address of fsspec") from None
