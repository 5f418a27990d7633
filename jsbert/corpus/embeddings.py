"""Read a folder of embedded texts: block by block, or the rows at some places."""

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Num

from jsbert.corpus.folder import problem, read_manifest
from jsbert.lazy import import_pyarrow
from jsbert.quantization import Ranges


class Block(NamedTuple):
    """Neighbouring rows of a corpus.

    Attributes:
        first: the place of the first row among all rows that have a vector.
        ids: their ids.
        vectors: their vectors or codes.
        texts: their texts; None if the folder has none or they were not asked for.
    """

    first: int
    ids: Sequence[int] | Sequence[str]
    vectors: Num[np.ndarray, "rows width"]
    texts: Sequence[str] | None


class Embeddings:
    """The vectors of a corpus in a folder that `jsbert embed` wrote. Nothing is read before it is
    asked for.

    Attributes:
        folder: the folder.
        manifest: what manifest.json says, without the shards.
        shards: the shards.
        dim: the dimensions of a vector before it was coded.
        precision: how the vectors are stored.
        ranges: of "int8" and "uint8", (2, D) float32; else None.
        has_texts: whether the texts are there.
    """

    def __init__(self, folder: str | os.PathLike):
        """Open a folder. Raises as `open_embeddings`."""
        self.folder = pathlib.Path(folder).expanduser()
        self.manifest, self.shards = read_manifest(self.folder)
        for shard in self.shards:
            if wrong := problem(self.folder, shard, checksums=False):
                raise ValueError(_mend(wrong))
        options: dict[str, Any] = self.manifest["encode"]
        self.dim: int = self.manifest["dim"]
        self.precision: str = options["precision"]
        ranges = options["ranges"]
        self.ranges: Ranges | None = None if ranges is None else np.float32(ranges)  # type: ignore[assignment]
        self.has_texts: bool = self.manifest["keep_text"]
        # The place of each shard's first row; and of the end.
        self._firsts = np.cumsum([0, *(shard.rows for shard in self.shards)])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __repr__(self) -> str:
        return (
            f"Embeddings({len(self):,} rows x {self.dim} {self.precision} in {len(self.shards)} "
            f"shards of {self.folder})"
        )

    def verify(self) -> list[str]:
        """Read all files, and return what is wrong with them; [] if their checksums are right."""
        found = (problem(self.folder, shard, checksums=True) for shard in self.shards)
        return [wrong for wrong in found if wrong]

    def blocks(self, *, texts: bool = False) -> Iterator[Block]:
        """Yield all rows in their order, in blocks of at most `corpus.folder.GROUP` rows. One block
        is in memory at a time.

        Args:
            texts: read the texts too.

        Raises:
            ValueError: if there are no texts, or a file is broken.
        """
        self._check_texts(texts)
        names = ["id", *(["text"] if texts else [])]
        for number, shard in enumerate(self.shards):
            first, vectors = int(self._firsts[number]), self._mapped(number)
            columns = names if vectors is not None else [*names, "embedding"]
            with self._table(number) as table:
                for group in range(table.num_row_groups):
                    rows = table.read_row_group(group, columns=columns)
                    end = first + len(rows)
                    if vectors is None:
                        found = _as_vectors(rows["embedding"])
                    else:
                        found = vectors[first - self._firsts[number] : end - self._firsts[number]]
                    if len(rows):
                        ids = rows["id"].to_pylist()
                        yield Block(first, ids, found, rows["text"].to_pylist() if texts else None)
                    first = end
            if first != self._firsts[number] + shard.rows:
                path = self.folder / _file(shard, ".parquet")
                raise ValueError(_mend(f"{path} has not {shard.rows:,} rows"))

    def ids(self, places: Int[np.ndarray, "..."]) -> list[Any]:
        """Return the ids at places among all rows, as a list, or lists for several axes."""
        return self._at(places, "id")

    def texts(self, places: Int[np.ndarray, "..."]) -> list[Any]:
        """Return the texts at places. Raises ValueError if the folder has none."""
        self._check_texts(True)
        return self._at(places, "text")

    def _at(self, places, name):
        places = np.asarray(places)
        wanted, back = np.unique(places, return_inverse=True)
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < len(self):
            raise IndexError(f"places are from 0 to {len(self) - 1}; given {wanted[[0, -1]]}")
        found = np.empty(len(wanted), object)
        of_shard = np.searchsorted(self._firsts, wanted, side="right") - 1
        for number in np.unique(of_shard):
            chosen = np.flatnonzero(of_shard == number)
            rows = wanted[chosen] - self._firsts[number]
            with self._table(number) as table:
                sizes = [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
                ends = np.cumsum(sizes)
                groups = np.searchsorted(ends, rows, side="right")
                for group in np.unique(groups):
                    inside = groups == group
                    column = table.read_row_group(int(group), columns=[name])[name]
                    first = ends[group] - sizes[group]
                    found[chosen[inside]] = column.take(rows[inside] - first).to_pylist()
        return found[back.reshape(places.shape)].tolist()

    def _table(self, number: int) -> Any:
        arrow, parquet = import_pyarrow()
        path = self.folder / _file(self.shards[number], ".parquet")
        try:
            return parquet.ParquetFile(path)
        except arrow.ArrowException as error:
            raise ValueError(_mend(f"{path}: not readable as parquet ({error})")) from None

    def _mapped(self, number: int) -> np.ndarray | None:
        """The vectors of a shard as a memory map; None if they are in the parquet file."""
        if self.manifest["format"] != "npy":
            return None
        path = self.folder / _file(self.shards[number], ".npy")
        return np.load(path, mmap_mode="r" if self.shards[number].rows else None)

    def _check_texts(self, texts: bool) -> None:
        if texts and not self.has_texts:
            raise ValueError(
                f"{self.folder} has no texts; embed with keep_text=True (--keep-text), or look the "
                "ids up in the corpus"
            )


def open_embeddings(folder: str | os.PathLike) -> Embeddings:
    """Open the folder that `jsbert embed` wrote.

    Raises:
        FileNotFoundError: if the folder is not finished, or is none of `jsbert embed`.
        ValueError: if a file is missing or has another size than when it was written.
    """
    return Embeddings(folder)


def _file(shard, ending):
    return next(name for name in shard.files if name.endswith(ending))


def _as_vectors(column):
    """The vectors (N, W) of a column of lists; no copy if the column has one chunk."""
    lists = column.combine_chunks()
    if hasattr(lists, "chunks"):
        lists = lists.chunk(0)
    numbers = lists.flatten().to_numpy(zero_copy_only=False)
    return numbers.reshape(len(lists), column.type.list_size)


def _mend(wrong):
    return f"{wrong}; run `jsbert embed` again with the same inputs and options to compute it again"
