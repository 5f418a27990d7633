"""`jsbert embed`: write the vectors of a corpus of any size into a folder of shards."""

import json
import pathlib
from typing import Annotated, Literal

import typer

from jsbert.cli import options


def embed(
    output: Annotated[
        pathlib.Path, typer.Option("--output", "-o", help="The folder to write, or to go on with.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, patterns in quotes, or addresses such as s3://bucket/part-*.parquet: "
            ".parquet, .jsonl, .csv, .tsv, or lines of text; all but .parquet also .gz."
        ),
    ] = None,
    model: options.Model = None,
    column: Annotated[str, typer.Option(help="The column of texts in tables.")] = "text",
    id_column: Annotated[
        str | None,
        typer.Option(help="The column of ids in tables.", show_default="the rows' numbers"),
    ] = None,
    keep_text: Annotated[
        bool, typer.Option("--keep-text", help="Write the texts beside their vectors.")
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", "--skip-bad-rows", help="Count malformed rows instead of stopping."
        ),
    ] = False,
    shard_rows: Annotated[int, typer.Option(min=1, help="Rows of a shard.")] = 32_768,
    format: Annotated[
        Literal["parquet", "npy"],
        typer.Option(help="The files of the vectors; npy can be mapped into memory."),
    ] = "parquet",
    precision: Annotated[
        Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"],
        typer.Option(help="How each dimension is stored: a float, a byte (int8, uint8) or a bit."),
    ] = "float32",
    calibration: options.Calibration = None,
    truncate_dim: options.TruncateDim = None,
    normalize: options.Normalize = False,
    prompt: options.Prompt = None,
    prompt_name: Annotated[
        str | None,
        typer.Option(help="The name of one of the model's prompts.", show_default="document"),
    ] = None,
    pooling: options.Pooling = None,
    dtype: options.Dtype = "float32",
    device: options.Device = None,
    batch_size: options.BatchSize = None,
    on_truncate: options.OnTruncate = "warn",
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Who computes: this machine, or a Ray cluster (RAY_ADDRESS)."),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes on the CPU, or actors of Ray.",
            show_default="1; with ray one a GPU or node",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Compare the checksums of all shards that are there, and compute wrong ones "
            "again. Without INPUTS only compare.",
        ),
    ] = False,
) -> None:
    """Write the vectors of a corpus of any size into a folder of shards.

    A run that was stopped, however it was, goes on where it was when the same command is given
    again. The files are the same in the end, on any engine. A folder that is complete has a
    manifest.json with the options and with the checksum of each file.
    """
    if not inputs:
        if not verify:
            raise typer.BadParameter("give the files of the corpus", param_hint="'INPUTS'")
        _verify(output)
        return
    if (precision in ("int8", "uint8")) != (calibration is not None):
        raise typer.BadParameter(
            "--precision int8 and uint8 need it, others take none", param_hint="'--calibration'"
        )
    import numpy as np

    from jsbert.cli.models import find_model
    from jsbert.embed import embed_corpus
    from jsbert.quantization import calibration_ranges

    find_model(model)
    given = {"device": options.split(device), "pooling": options.split(pooling), "dtype": dtype}
    found = embed_corpus(
        inputs,
        output,
        model,
        column=column,
        id_column=id_column,
        keep_text=keep_text,
        skip_bad_rows=skip_bad,
        shard_rows=shard_rows,
        format=format,
        precision=precision,
        ranges=calibration_ranges(np.load(calibration, mmap_mode="r")) if calibration else None,
        truncate_dim=truncate_dim,
        normalize_embeddings=normalize,
        prompt=prompt,
        prompt_name=prompt_name,
        batch_size=batch_size,
        on_truncate=on_truncate,
        model_options=given,
        engine=engine,
        workers=workers,
        verify=verify,
        show_progress_bar=options.show_progress(),
    )
    counts = {"rows": len(found), "bad_rows": found.manifest["bad_rows"]}
    print(json.dumps({"folder": str(output), **counts, "shards": len(found.shards)}))


def _verify(folder: pathlib.Path) -> None:
    from jsbert.corpus import open_embeddings

    embeddings = open_embeddings(folder)
    wrong = embeddings.verify()
    if wrong:
        raise ValueError(
            f"{len(wrong)} of {len(embeddings.shards)} shards are wrong; the first: {wrong[0]}. "
            "Give the inputs and options again, with --verify, to compute them again"
        )
    print(json.dumps({"folder": str(folder), "rows": len(embeddings), "wrong": 0}))
