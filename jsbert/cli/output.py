"""Write result files: folders are checked beforehand, and vectors are written as they come."""

import contextlib
import itertools
import os
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Num

from jsbert.lazy import import_pyarrow

ROWS = 8192
"""The number of rows written together."""


def check_new(path: pathlib.Path) -> None:
    """Raise FileExistsError if `path` is a file, or a folder that is not empty."""
    path = path.expanduser()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} is there already; give a new or empty folder")


def prepare_folder(path: pathlib.Path) -> None:
    """Make the folder if it does not exist. Raise OSError if no files can be written to it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{uuid.uuid4().hex[:8]}"
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise NotADirectoryError(f"{path} is a file; give a folder") from None
    except OSError as error:
        raise OSError(f"{path} cannot be written to: {error.strerror}") from None


def write_vectors(
    path: pathlib.Path,
    dim: int,
    dtype: np.dtype,
    rows: Iterator[tuple[str, Num[np.ndarray, " dim"]]],
) -> None:
    """Write texts and their vectors as they come, with the writer for the file's ending."""
    with contextlib.closing(WRITERS[path.suffix](path, dim, dtype)) as writer:
        while chunk := list(itertools.islice(rows, ROWS)):
            writer.write([text for text, _ in chunk], np.stack([vector for _, vector in chunk]))


class NpyWriter:
    """A .npy file of vectors (N, D), written row by row without knowing N."""

    def __init__(self, path: pathlib.Path, dim: int, dtype: np.dtype):
        self._file, self._dim, self._rows = path.open("wb"), dim, 0
        self._dtype = dtype.newbyteorder("<")
        self._write_header()

    def write(self, texts: Sequence[str], vectors: Num[np.ndarray, "rows dim"]) -> None:
        """Add rows. The texts are not written."""
        self._file.write(np.ascontiguousarray(vectors, self._dtype).data)
        self._rows += len(vectors)

    def close(self) -> None:
        """Write the number of rows into the header and close the file."""
        try:
            self._file.seek(0)
            self._write_header()
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def _write_header(self) -> None:
        # NumPy pads the header, so that the number of rows can grow in place.
        shape = (self._rows, self._dim)
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)


class ParquetWriter:
    """A .parquet file with the columns `text` and `embedding`, a list of D numbers."""

    def __init__(self, path: pathlib.Path, dim: int, dtype: np.dtype):
        self._arrow, parquet = import_pyarrow()
        vector = self._arrow.list_(self._arrow.from_numpy_dtype(dtype), dim)
        self._schema = self._arrow.schema([("text", self._arrow.string()), ("embedding", vector)])
        self._writer = parquet.ParquetWriter(path, self._schema)

    def write(self, texts: Sequence[str], vectors: Num[np.ndarray, "rows dim"]) -> None:
        """Add rows."""
        flat = self._arrow.array(vectors.reshape(-1))
        embeddings = self._arrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        columns = [self._arrow.array(texts, self._arrow.string()), embeddings]
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))

    def close(self) -> None:
        """Write the footer and close the file."""
        self._writer.close()


WRITERS: Mapping[str, type[NpyWriter] | type[ParquetWriter]] = {
    ".npy": NpyWriter,
    ".parquet": ParquetWriter,
}
"""The writer for each file ending."""
