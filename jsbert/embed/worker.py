"""What one worker does for a shard: read its rows, compute the vectors, write the files."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Num

from jsbert.corpus.folder import Format, Shard, write_shard
from jsbert.corpus.readers import Piece
from jsbert.corpus.rows import Reader, Rows
from jsbert.corpus.sources import Source
from jsbert.embed.opening import Opened, Opening

if TYPE_CHECKING:
    from tqdm.auto import tqdm

Precision = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
"""How the vectors are stored: as `jsbert.quantization.Precision`, or in halves."""

PRECISIONS: tuple[str, ...] = get_args(Precision)


@dataclasses.dataclass(frozen=True)
class Job:
    """What all workers of a run are told. It can be pickled.

    Attributes:
        folder: where the shards go.
        sources: the files of the corpus.
        columns: the column of texts; before it the column of ids, if there is one.
        id_type: int or str.
        keep_text: whether the shards hold the texts.
        format: of the shards.
        skip_bad_rows: leave rows out that cannot be used.
        opening: how to open the model.
        precision: of the stored vectors.
        options: of `encode_document`.
    """

    folder: pathlib.Path
    sources: tuple[Source, ...]
    columns: Sequence[str]
    id_type: type
    keep_text: bool
    format: Format
    skip_bad_rows: bool
    opening: Opening | Opened
    precision: Precision
    options: Mapping[str, Any]


class Worker:
    """Computes shards one at a time, each by itself: its vectors do not depend on which worker
    computes it, nor on what was computed before."""

    def __init__(self, job: Job):
        self._job, self._model = job, job.opening.open()
        self._reader = Reader(job.sources, job.columns, skip_bad_rows=job.skip_bad_rows)
        self._on_truncate = job.options["on_truncate"]

    def compute(self, number: int, pieces: Sequence[Piece]) -> tuple[Shard, int]:
        """Write a shard. Return it, and the number of tokens.

        Raises:
            OSError: if a file cannot be read or written.
            ValueError: if a row cannot be used, or an option of the model does not exist.
        """
        rows = self.read(pieces)
        vectors, num_tokens = self.encode(rows)
        return self.write(number, rows, vectors), num_tokens

    def read(self, pieces: Sequence[Piece]) -> Rows:
        """Return the rows of a shard."""
        return self._reader.read(pieces, self._job.id_type)

    def encode(
        self, rows: Rows, progress: "tqdm | bool" = False
    ) -> tuple[Num[np.ndarray, "rows width"], int]:
        """Return the vectors of rows, and the number of tokens. Equal texts are computed once."""
        engine = getattr(self._model, "engine", None)
        before = getattr(engine, "num_tokens", 0)
        texts = list(dict.fromkeys(rows.texts))
        options = dict(self._job.options, on_truncate=self._on_truncate)
        vectors = self._model.encode_document(texts, show_progress_bar=progress, **options)
        if self._on_truncate == "warn" and texts:
            self._on_truncate = "ignore"  # one warning, not one for each shard
        if self._job.precision == "float16":
            vectors = vectors.astype(np.float16)
        if len(texts) < len(rows.texts):
            places = {text: place for place, text in enumerate(texts)}
            vectors = vectors[[places[text] for text in rows.texts]]
            if not isinstance(progress, bool):
                progress.update(len(rows.texts) - len(texts))
        return vectors, getattr(engine, "num_tokens", 0) - before

    def write(self, number: int, rows: Rows, vectors: Num[np.ndarray, "rows width"]) -> Shard:
        """Write the files of a shard."""
        job = self._job
        files = write_shard(
            job.folder,
            number,
            rows.ids,
            vectors,
            rows.texts if job.keep_text else None,
            id_type=job.id_type,
            format=job.format,
        )
        width = self._model.get_embedding_dimension()
        dim = min(width, job.options.get("truncate_dim") or width)
        return Shard(number, len(rows.ids), rows.num_bad, rows.first_bad, dim, files)

    def close(self) -> None:
        """Close the file of the corpus that was read last."""
        self._reader.close()
