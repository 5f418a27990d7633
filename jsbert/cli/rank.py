"""`jsbert rank`: sort documents by a cross-encoder's score with a query."""

import json
from typing import Annotated

import typer

from jsbert.cli import options
from jsbert.cli.inputs import read_texts


def rank(
    query: Annotated[str, typer.Argument(help="The query.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A cross-encoder's folder or hub name.")
    ],
    documents: Annotated[list[str] | None, typer.Argument(help="The documents.")] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--documents",
            help="A text file of documents, one a line; a table, with --column; '-' for stdin.",
        ),
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="The column of a csv, tsv, jsonl or parquet file.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="The number of results to print.", show_default="all")
    ] = None,
    batch_size: options.BatchSize = None,
    dtype: options.Dtype = "float32",
    device: options.Device = None,
    on_truncate: options.OnTruncate = "warn",
    as_json: options.Json = False,
) -> None:
    """Print documents sorted by a cross-encoder's score with the query, best first."""
    from jsbert.cli.models import open_cross_encoder

    if (file is None) == (not documents):
        raise typer.BadParameter(
            "give documents as arguments, or --documents FILE, and not both", param_hint="DOCUMENTS"
        )
    if column is not None and file is None:
        raise typer.BadParameter("needs --documents FILE", param_hint="'--column'")
    texts = list(documents or ()) if file is None else list(read_texts(file, column))
    opened = open_cross_encoder(model, device=device, dtype=dtype)
    hits = opened.rank(
        query,
        texts,
        top_k,
        return_documents=True,
        batch_size=batch_size,
        on_truncate=on_truncate,
        show_progress_bar=options.show_progress(),
    )
    if as_json:
        for hit in hits:
            print(json.dumps(hit, ensure_ascii=False))
    else:
        options.print_hits(hits)
