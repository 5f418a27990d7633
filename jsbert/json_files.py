"""The files of a model's folder: find them, read and write json, and check paths in json."""

import json
import os
import pathlib
from typing import Any


def has_file(file: pathlib.Path) -> bool:
    """Whether a file exists.

    Raises:
        OSError: if the path is not a file, or its folder is a file. To ignore such a path would
            change the model silently.
    """
    try:
        if file.is_file():
            return True
        os.lstat(file)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise NotADirectoryError(f"{file.parent} is a file; a folder is expected there") from None
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder; a file is expected there, or nothing")
    raise OSError(f"{file} is a link to nothing, or no regular file; a file is expected there")


def parse_json(content: bytes, kind: type = dict, *, where: str | os.PathLike) -> Any:
    """Return the value of json text in UTF-8.

    Raises:
        ValueError: if the text is not json, or its top value is not of `kind`; the message names
            `where`.
    """
    try:
        value = json.loads(content.decode())
    except RecursionError:
        raise ValueError(f"{where}: broken json: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{where}: broken json: {error}") from None
    if not isinstance(value, kind):
        given = type(value).__name__
        raise ValueError(f"{where}: holds a {given} at its top, not a {kind.__name__}")
    return value


def read_json(file: pathlib.Path, kind: type = dict) -> Any:
    """Read a json file.

    Raises:
        OSError: if the file does not exist, or is not a file.
        ValueError: as `parse_json`.
    """
    return parse_json(file.read_bytes(), kind, where=file)


def read_json_if_there(file: pathlib.Path) -> dict[str, Any]:
    """Read a json file. Return {} if the file does not exist.

    Raises:
        OSError, ValueError: as `read_json`.
    """
    return read_json(file) if has_file(file) else {}


def write_json(file: pathlib.Path, values: Any) -> None:
    """Write a json file. The folder is created if it does not exist."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=2, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf8")


def inside(folder: pathlib.Path, relative: Any, *, where: os.PathLike) -> pathlib.Path:
    """Return `folder / relative`, for a path that the file `where` names.

    Raises:
        ValueError: if the path leaves the folder, or is not a string.
    """
    # A printable string has no zeros and no lone surrogates.
    if isinstance(relative, str) and relative.isprintable() and not set("\\:") & set(relative):
        path = pathlib.PurePosixPath(relative)
        if not path.is_absolute() and ".." not in path.parts:
            return folder / path
    raise ValueError(f"{where}: the path {relative!r} leads out of the model's folder; refused")
