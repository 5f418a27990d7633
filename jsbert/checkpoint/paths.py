"""Paths that a model folder's files name."""

import os
import pathlib
from typing import Any


def inside(folder: pathlib.Path, relative: Any, *, where: os.PathLike) -> pathlib.Path:
    """`folder / relative`, for a path that the file `where` names.

    Raises:
        ValueError: if the path leaves the folder, or is no string.
    """
    path = pathlib.PurePosixPath(relative) if isinstance(relative, str) else None
    if path is None or path.is_absolute() or ".." in path.parts or "\\" in relative or ":" in relative:
        raise ValueError(f"{where}: the path {relative!r} leads out of the model's folder; refused")
    return folder / path
