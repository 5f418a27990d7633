"""Json files of model folders: read strictly, written alike."""

import json
import os
import pathlib
from typing import Any


def has_file(file: pathlib.Path) -> bool:
    """Whether a file is there.

    Raises:
        OSError: if something else is there, such as a folder; it would be read as if it were absent.
    """
    if not file.is_file() and os.path.lexists(file):
        what = "a folder" if file.is_dir() else "a link to nothing, or no regular file"
        raise OSError(f"{file} is {what}; a model's folder has a file of that name, or none: take it away")
    return file.is_file()


def parse_json(content: str | bytes, kind: type = dict, *, where: str | os.PathLike) -> Any:
    """The value of json text.

    Raises:
        ValueError: if it is no json, or its top is not of `kind`; the message names `where`.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: broken json: {error}") from None
    if not isinstance(value, kind):
        raise ValueError(f"{where}: holds a {type(value).__name__} at its top, not a {kind.__name__}")
    return value


def read_json(file: pathlib.Path, kind: type = dict) -> Any:
    """The content of a json file.

    Raises:
        OSError: if it is not there, or no file.
        ValueError: as `parse_json`.
    """
    return parse_json(file.read_bytes(), kind, where=file)


def read_json_if_there(file: pathlib.Path) -> dict[str, Any]:
    """The content of a json file; {} without the file.

    Raises:
        OSError, ValueError: as `read_json`.
    """
    return read_json(file) if has_file(file) else {}


def write_json(file: pathlib.Path, values: Any) -> None:
    """Write a json file, in a folder that is made if there is none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf8")
