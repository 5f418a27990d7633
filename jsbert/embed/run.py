"""`embed_corpus`: a corpus in, a folder of vectors out."""

from __future__ import annotations

import contextlib
import os
import pathlib
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from jsbert.corpus.embeddings import Embeddings, open_embeddings
from jsbert.corpus.folder import FORMATS, Format, Run, claimed
from jsbert.corpus.rows import Reader, plan_shards
from jsbert.corpus.sources import TEXT, find_sources
from jsbert.embed.engines import Computed, in_processes, in_this_process, on_ray
from jsbert.embed.opening import Encoder, opening
from jsbert.embed.worker import PRECISIONS, Job, Precision
from jsbert.engine.truncations import OnTruncate
from jsbert.files import check_space
from jsbert.inputs import check_choice, check_positive
from jsbert.quantization import Ranges, checked_ranges
from jsbert.version import VERSION

if TYPE_CHECKING:
    from tqdm.auto import tqdm

Engine = Literal["local", "ray"]
ENGINES: tuple[str, ...] = get_args(Engine)

SHARD_ROWS = 32_768
"""Rows of a shard: the texts that the engine of a model sorts and batches together."""


def embed_corpus(
    inputs: str | os.PathLike | Sequence[str | os.PathLike],
    folder: str | os.PathLike,
    model: str | os.PathLike | Encoder | None = None,
    *,
    column: str = "text",
    id_column: str | None = None,
    keep_text: bool = False,
    shard_rows: int = SHARD_ROWS,
    format: Format = "parquet",
    skip_bad_rows: bool = False,
    precision: Precision = "float32",
    ranges: Ranges | None = None,
    truncate_dim: int | None = None,
    normalize_embeddings: bool = False,
    prompt: str | None = None,
    prompt_name: str | None = None,
    batch_size: int | None = None,
    on_truncate: OnTruncate = "warn",
    model_options: Mapping[str, Any] | None = None,
    engine: Engine = "local",
    workers: int | None = None,
    ray_options: Mapping[str, Any] | None = None,
    verify: bool = False,
    show_progress_bar: bool = False,
) -> Embeddings:
    """Write the vectors of a corpus into a folder, and return the folder opened.

    The corpus is cut into shards. A shard depends on its rows, the model and the options alone, and
    its files are whole or not there. A run that was stopped goes on where it was when it is called
    again, with any engine; the files are the same in the end. A run that is finished only opens.

    The memory in use is that of three shards: one is read, one computed, one written.

    Args:
        inputs: files, patterns such as "part-*.parquet", or addresses of fsspec such as
            "s3://bucket/part-*.jsonl.gz". The endings .parquet, .jsonl, .csv and .tsv are tables;
            each line of any other file is a text. All but .parquet may be packed (.gz).
        folder: the folder to write. All workers must see it under this name.
        model: a name or folder, which each worker opens; None is the default model; or an open
            model.
        column: the column of texts in tables.
        id_column: the column of ids: whole numbers or strings, all of the kind of the first. None
            gives each row its number in the corpus, from 0. Ids are not compared with each other.
        keep_text: write the texts too.
        shard_rows: rows of a shard.
        format: "parquet", or "npy" for vectors in files that can be mapped into memory, with a
            parquet file of ids and texts beside each.
        skip_bad_rows: leave out rows that cannot be used, such as broken json or a missing text,
            and count them. An empty text can be used. Broken gzip, csv quoting and parquet always
            raise.
        precision: "float32", "float16", or codes; see `jsbert.quantization`.
        ranges: for "int8" and "uint8": the lowest and the highest value of each dimension, (2, D).
        truncate_dim, normalize_embeddings, prompt, prompt_name, batch_size: as in
            `SentenceTransformer.encode_document`, which computes the vectors.
        on_truncate: as there; "warn" warns of the first shard with such texts.
        model_options: options of the constructor, such as {"device": "gpu", "dtype": "bfloat16"}.
        engine: "local" computes in this process, on all devices of the model; "ray" in the actors
            of a Ray cluster.
        workers: for "local": more than one computes in that many processes on the CPU, which are
            spawned: a script needs `if __name__ == "__main__":`. For "ray": the number of actors;
            by default one for each GPU, else one for each node.
        ray_options: Ray's options of an actor, such as {"num_gpus": 1}.
        verify: compare the checksums of all shards that are there, and compute wrong ones again.
            Without it only their sizes are compared.
        show_progress_bar: show rows done, rows and tokens for each second, and the time left.

    Raises:
        OSError: if a file cannot be read, the folder cannot be written or lacks room, or another
            run is in it. What is done stays done.
        ValueError: if a row cannot be used (the message names its file and line), or an option does
            not exist; or if the folder holds a run of another model, of other inputs or options
            (the message says what differs).
        ImportError: if a library is missing; the message says how to install it.
    """
    check_choice("format", format, FORMATS)
    check_choice("precision", precision, PRECISIONS)
    check_choice("engine", engine, ENGINES)
    check_choice("on_truncate", on_truncate, ("warn", "error", "ignore"))
    check_positive("shard_rows", shard_rows, or_none=False)
    check_positive("workers", workers)
    if (precision in ("int8", "uint8")) != (ranges is not None):
        raise ValueError(
            "precision 'int8' and 'uint8' need ranges, and others take none: see "
            "jsbert.quantization.calibration_ranges"
        )
    if ranges is not None:
        ranges = checked_ranges(ranges, np.shape(ranges)[-1], precision)  # type: ignore[arg-type]
    sources = find_sources(inputs)
    if id_column is not None and any(source.kind == TEXT for source in sources):
        raise ValueError(f"id_column is {id_column!r}, and a file of lines has no columns")
    opens = opening(model, model_options)
    how = {
        "precision": precision,
        "truncate_dim": truncate_dim,
        "normalize_embeddings": normalize_embeddings,
        "prompt": prompt,
        "prompt_name": prompt_name,
        "batch_size": batch_size,
    }
    description = {
        "model": opens.described(),
        "inputs": [source._asdict() for source in sources],
        "column": column,
        "id_column": id_column,
        "keep_text": keep_text,
        "shard_rows": int(shard_rows),
        "format": format,
        "encode": how | {"ranges": None if ranges is None else np.asarray(ranges).tolist()},
    }
    columns = [column] if id_column is None else [id_column, column]
    notes = {"jsbert": VERSION, "model_name": opens.name or "the default model"}
    folder = pathlib.Path(folder).expanduser()

    def plan():
        return plan_shards(sources, int(shard_rows), columns)

    with claimed(folder, description, notes, plan, checksums=verify) as run:
        for problem in run.problems:
            warnings.warn(f"{problem}; the shard is computed again", stacklevel=2)
        if run.missing:
            kind = "float32" if precision == "float16" else precision
            reader = Reader(sources, columns, skip_bad_rows=skip_bad_rows)
            with contextlib.closing(reader):
                id_type = reader.id_type(run.shards)
            job = Job(
                folder=folder.absolute(),
                sources=sources,
                columns=columns,
                id_type=id_type,
                keep_text=keep_text,
                format=format,
                skip_bad_rows=skip_bad_rows,
                opening=opens,
                precision=precision,
                options=how | {"precision": kind, "ranges": ranges, "on_truncate": on_truncate},
            )
            _compute(run, job, engine, workers, ray_options, show_progress_bar)
        run.finish()
    return open_embeddings(folder)


def _compute(
    run: Run,
    job: Job,
    engine: Engine,
    workers: int | None,
    ray_options: Mapping[str, Any] | None,
    shown: bool,
) -> None:
    """Compute the shards of a run that are missing."""
    from tqdm.auto import tqdm

    rows = [sum(piece.rows for piece in pieces) for pieces in run.shards]
    todo = [(number, run.shards[number]) for number in run.missing]
    before = sum(rows) - sum(rows[number] for number, _ in todo)
    num_tokens, begin = 0, time.perf_counter()
    is_checked = False
    with tqdm(
        total=sum(rows), initial=before, desc="embed", unit="text", disable=not shown
    ) as progress:
        for shard, num_new in _computed(job, todo, engine, workers, ray_options, progress):
            run.add(shard)
            num_tokens += num_new
            if num_tokens:
                rate = num_tokens / (time.perf_counter() - begin)
                progress.set_postfix_str(f"{rate:,.0f} tokens/s")
            if engine != "local" or (workers or 1) > 1:
                progress.update(rows[shard.number])
            if not is_checked:  # the first shard says how large the others will be
                is_checked, num_left = True, len(run.missing)
                num_bytes = sum(size for size, _ in shard.files.values())
                check_space(run.folder, num_bytes * num_left * 9 // 10)


def _computed(
    job: Job,
    todo: list[tuple[int, Any]],
    engine: Engine,
    workers: int | None,
    ray_options: Mapping[str, Any] | None,
    progress: tqdm,
) -> Computed:
    if engine == "ray":
        return on_ray(job, todo, workers, ray_options)
    if workers is None or workers == 1:
        return in_this_process(job, todo, progress)
    return in_processes(job, todo, workers)
