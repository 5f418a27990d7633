"""Reading json and paths that a model folder's files name."""

import json
import os
import pathlib
from typing import Any


def read_json(file: pathlib.Path, kind: type = dict) -> Any:
    """The content of a json file.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no json, or its top is not of `kind`.
    """
    try:
        content = json.loads(file.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{file}: broken json: {error}") from None
    if not isinstance(content, kind):
        raise ValueError(f"{file}: holds a {type(content).__name__} at its top, not a {kind.__name__}")
    return content


def read_json_if_there(file: pathlib.Path) -> dict[str, Any]:
    """The content of a json file; {} without the file."""
    return read_json(file) if file.is_file() else {}


def inside(folder: pathlib.Path, relative: Any, *, where: os.PathLike) -> pathlib.Path:
    """`folder / relative`, for a path that the file `where` names.

    Raises:
        ValueError: if the path leaves the folder, or is no string.
    """
    path = pathlib.PurePosixPath(relative) if isinstance(relative, str) else None
    if path is None or path.is_absolute() or ".." in path.parts or "\\" in relative or ":" in relative:
        raise ValueError(f"{where}: the path {relative!r} leads out of the model's folder; refused")
    return folder / path
