"""`jsbert encode`: encode texts and write their vectors to a file."""

import itertools
import pathlib
from typing import Annotated

import typer

from jsbert.cli import options
from jsbert.cli.inputs import read_texts


def encode(
    input: Annotated[
        str,
        typer.Argument(help="A text file, one text a line; a table, with --column; '-' for stdin."),
    ],
    output: Annotated[
        pathlib.Path,
        typer.Option("--output", "-o", help="The file to write: .npy, or .parquet with the texts."),
    ],
    model: options.Model = None,
    column: Annotated[
        str | None, typer.Option(help="The column of a csv, tsv, jsonl or parquet file.")
    ] = None,
    batch_size: options.BatchSize = None,
    normalize: options.Normalize = False,
    prompt: options.Prompt = None,
    prompt_name: Annotated[
        str | None, typer.Option(help="The name of one of the model's prompts.")
    ] = None,
    truncate_dim: options.TruncateDim = None,
    pooling: options.Pooling = None,
    precision: options.Precision = "float32",
    calibration: options.Calibration = None,
    dtype: options.Dtype = "float32",
    device: options.Device = None,
    on_truncate: options.OnTruncate = "warn",
) -> None:
    """Write the vectors of texts to a .npy or .parquet file.

    Row i of the result belongs to line i of the input; empty lines count. The command reads a file
    to the end once before it opens the model, so that a malformed row or a full disk is reported at
    once. Texts and vectors are streamed. The result is written to a temporary file and renamed when
    it is complete: an interrupted run leaves no result.
    """
    import numpy as np

    from jsbert.cli.models import open_bi_encoder
    from jsbert.cli.output import WRITERS, write_vectors
    from jsbert.files import check_space, staged_file
    from jsbert.quantization import calibration_ranges, code_dtype, code_width

    if output.suffix not in WRITERS:
        raise typer.BadParameter(
            f"{output.name!r} must end in {' or '.join(WRITERS)}", param_hint="'--output'"
        )
    if (precision in ("int8", "uint8")) != (calibration is not None):
        raise typer.BadParameter(
            "--precision int8 and uint8 need it, others take none", param_hint="'--calibration'"
        )
    with staged_file(output) as staging:
        # Read the inputs once, open the model, and check that the disk has room for the result.
        ranges = (
            None if calibration is None else calibration_ranges(np.load(calibration, mmap_mode="r"))
        )
        num_texts, num_bytes = _measure(input, column)
        opened = open_bi_encoder(
            model, device=device, pooling=pooling, dtype=dtype, truncate_dim=truncate_dim
        )
        width, kind = code_width(opened.get_embedding_dimension(), precision), code_dtype(precision)
        text_bytes = num_bytes if output.suffix == ".parquet" else 0
        check_space(staging.parent, kind.itemsize * width * (num_texts or 0) + text_bytes)
        # Stream: `texts` feeds the model, and `kept` gives each text again next to its vector.
        texts, kept = itertools.tee(read_texts(input, column))
        vectors = opened.encode_iter(
            options.with_progress(texts, num_texts, "text"),
            prompt=prompt,
            prompt_name=prompt_name,
            batch_size=batch_size,
            normalize_embeddings=normalize,
            precision=precision,
            ranges=ranges,
            on_truncate=on_truncate,
        )
        write_vectors(staging, width, kind, zip(kept, vectors, strict=True))


def _measure(input: str, column: str | None) -> tuple[int | None, int]:
    """Read a file to the end and return (number of texts, number of bytes of the texts). Return
    (None, 0) for an input that can be read only once, such as stdin."""
    if not pathlib.Path(input).is_file():
        return None, 0
    num_texts = num_bytes = 0
    for text in read_texts(input, column):
        num_texts, num_bytes = num_texts + 1, num_bytes + len(text.encode("utf8", "replace"))
    return num_texts, num_bytes
