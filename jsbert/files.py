"""Write files and folders completely, or not at all."""

import contextlib
import glob
import hashlib
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator


@contextlib.contextmanager
def staged_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield an empty temporary file next to `path`. At the end the temporary file is renamed to
    `path`; if anything fails, it is removed.

    Raises:
        OSError: if the folder does not exist or cannot be written, or if `path` is not a regular
            file.
    """
    path = path.expanduser().resolve()  # if `path` is a link, replace its target, not the link
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
    """Yield a new temporary folder. At the end it is renamed to `path`; if anything fails, it is
    removed.

    If `path` exists, the files of the temporary folder replace those of the same name. A data file
    ("model.onnx.data") moves before the file that refers to it ("model.onnx").

    Raises:
        OSError: if `path` is a file, or cannot be written.
    """
    target = pathlib.Path(path).expanduser().resolve()
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file; give a folder to write to")
    is_new = not target.exists()
    # An existing target may be a mount point: only a folder inside of it is on the same disk.
    around = target.parent if is_new else target
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
    """Write a file in UTF-8, completely or not at all."""
    with staged_file(path) as staging:
        staging.write_text(text, encoding="utf8")


def check_space(folder: pathlib.Path, num_bytes: int) -> None:
    """Raise OSError unless the disk of `folder` has `num_bytes` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OSError(
            f"{folder}: {num_bytes:,} bytes are needed and {free:,} are free; make room or write "
            "elsewhere"
        )


def sync(path: pathlib.Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # folders cannot be opened there
        return
    number = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sha256(path: pathlib.Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def leftovers(path: pathlib.Path) -> list[pathlib.Path]:
    """The temporary files or folders for `path` that a killed process has left."""
    stem, suffix = glob.escape(path.stem), glob.escape(path.suffix)
    return list(path.parent.glob(f".{stem}.{'[0-9a-f]' * 8}{suffix}"))


def _staging(path, folder):
    return folder / f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}"


def _move(source, target):
    """Move the files of one folder into another. Names in descending order: "model.onnx.data"
    before "model.onnx"."""
    files = sorted(
        (path.relative_to(source) for path in source.rglob("*") if path.is_file()), reverse=True
    )
    # Check all that can be checked before the first file is replaced.
    for file in files:
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
