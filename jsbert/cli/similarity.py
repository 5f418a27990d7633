"""`jsbert similarity`: print how similar two texts are, or the texts of each pair of a file."""

import itertools
import json
from typing import Annotated

import typer

from jsbert.cli import options
from jsbert.cli.inputs import read_columns

ROWS = 8192
"""The number of pairs compared together."""


def similarity(
    texts: Annotated[list[str] | None, typer.Argument(help="Two texts.")] = None,
    pairs: Annotated[
        str | None, typer.Option(help="A csv, tsv, jsonl or parquet file of pairs instead.")
    ] = None,
    columns: Annotated[
        str, typer.Option(help="The pairs' two columns, separated by a comma.")
    ] = "sentence1,sentence2",
    model: options.Model = None,
    similarity_fn: options.SimilarityFn = None,
    batch_size: options.BatchSize = None,
    pooling: options.Pooling = None,
    dtype: options.Dtype = "float32",
    device: options.Device = None,
    on_truncate: options.OnTruncate = "warn",
    as_json: options.Json = False,
) -> None:
    """Print the similarity of two texts, or of each pair of a file, one line for each pair in the
    file's order."""
    import numpy as np

    from jsbert.cli.models import open_bi_encoder

    texts = texts or []
    if (pairs is None) == (not texts) or (texts and len(texts) != 2):
        raise typer.BadParameter(
            f"give two texts, or --pairs FILE; given {len(texts)} texts", param_hint="TEXTS"
        )
    names = options.split(columns)
    if len(names) != 2:
        raise typer.BadParameter(f"{columns!r} must name two columns", param_hint="'--columns'")
    rows = iter([tuple(texts)]) if pairs is None else read_columns(pairs, names)
    # Read a row now, so that a file that cannot be read is reported before the model is opened.
    first = list(itertools.islice(rows, 1))
    opened = open_bi_encoder(
        model, device=device, pooling=pooling, dtype=dtype, similarity_fn_name=similarity_fn
    )
    rows, kept = itertools.tee(itertools.chain(first, rows))
    vectors = opened.encode_iter(
        (text for pair in options.with_progress(rows, None, "pair") for text in pair),
        batch_size=batch_size,
        on_truncate=on_truncate,
    )
    # `vectors` yields both vectors of a pair in turn, so one step of zip takes a pair.
    scored = zip(kept, vectors, vectors, strict=True)
    while chunk := list(itertools.islice(scored, ROWS)):
        u, v = (np.stack([row[tower] for row in chunk]) for tower in (1, 2))
        scores = np.asarray(opened.similarity_pairwise(u, v)).tolist()
        for (pair, _, _), score in zip(chunk, scores, strict=True):
            entry = dict(zip(names, pair, strict=True)) | {"score": score}
            print(json.dumps(entry, ensure_ascii=False) if as_json else f"{score:.6f}")
