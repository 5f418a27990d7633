"""Files that are complete, or not there."""

import contextlib
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator


@contextlib.contextmanager
def staged_into(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A new folder inside `folder`, which is made if it is not there, to write into; its files are moved to `folder` at
    the end, over those of the same names, what a file names ("model.onnx.data") before it. If anything fails, nothing
    is left.

    Raises:
        OSError: if `folder` is a file or cannot be written to.
    """
    folder = pathlib.Path(folder).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give a folder to write to")
    is_new = not folder.exists()
    staging = folder / f".{uuid.uuid4().hex[:8]}"
    try:
        staging.mkdir(parents=True)
        yield staging
        files = sorted(staging.iterdir(), reverse=True)
        for file in files:
            if (folder / file.name).is_dir():
                raise IsADirectoryError(f"{folder / file.name} is a folder; move it away, or write elsewhere")
        for file in files:
            file.replace(folder / file.name)
        is_new = False
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
