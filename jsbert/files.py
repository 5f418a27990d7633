"""Files and folders that are complete, or not there."""

import contextlib
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator


@contextlib.contextmanager
def staged_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty file beside `path` to write into, moved to `path` at the end, and removed if
    anything fails.

    Raises:
        OSError: if there is no such folder, it cannot be written to, or `path` is no regular file.
    """
    path = path.expanduser().resolve()  # through a link to the file that is meant
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a regular file; give the name of a file to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"no folder {str(path.parent)!r} to write {path.name} to; make it first"
        )
    staging = _staging(path, path.parent)
    try:
        staging.touch()
    except OSError as error:
        raise OSError(f"{path.parent} cannot be written to: {error.strerror}") from None
    try:
        yield staging
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A new folder to write into, removed if anything fails. At the end it becomes `path`; or, if
    that is there, its files move there over those of the same names, what a file names
    ("model.onnx.data") before it.

    Raises:
        OSError: if `path` is a file, or cannot be written to.
    """
    target = pathlib.Path(path).expanduser().resolve()
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file; give a folder to write to")
    is_new = not target.exists()
    around = (
        target.parent if is_new else target
    )  # on the target's own disk, though a disk of its own is mounted there
    staging = _staging(target, around)
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise OSError(f"{around} cannot be written to: {error.strerror}") from None
    try:
        yield staging
        if is_new:
            staging.rename(target)
        else:
            _move(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Write a file in UTF-8, whole or not at all."""
    with staged_file(path) as staging:
        staging.write_text(text, encoding="utf8")


def leftovers(path: pathlib.Path) -> list[pathlib.Path]:
    """What a killed process left beside `path`, which it was to become."""
    return list(path.parent.glob(f".{path.stem}.{'[0-9a-f]' * 8}{path.suffix}"))


def _staging(path, folder):
    return folder / f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}"


def _move(source, target):
    files = sorted(
        (path.relative_to(source) for path in source.rglob("*") if path.is_file()), reverse=True
    )
    for file in files:  # all that can be known to fail fails before the first file is replaced
        if (target / file).is_dir():
            raise IsADirectoryError(
                f"{target / file} is a folder; a file has to go there, so move it away"
            )
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        if not os.access((target / file).parent, os.W_OK):
            raise PermissionError(
                f"{(target / file).parent} cannot be written to; files have to go there"
            )
    for file in files:
        (source / file).replace(target / file)
