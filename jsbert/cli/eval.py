"""`jsbert eval`: measure how good a model is on labelled texts."""

import json
import math
import pathlib
from typing import Annotated

import typer

from jsbert.cli import options


def eval(
    task: Annotated[
        options.Task,
        typer.Argument(
            help="sts: pairs with scores; binary: pairs labelled 0 or 1; triplet: anchor, "
            "positive, negative; retrieval: a BEIR folder; reranking: jsonl of query, positive and "
            "negative texts."
        ),
    ],
    data: Annotated[
        str, typer.Argument(help="A tsv, csv, jsonl or parquet file; for retrieval a folder.")
    ],
    model: options.Model = None,
    columns: options.Columns = None,
    label: options.Label = None,
    label_names: options.LabelNames = None,
    skip_bad_rows: options.SkipBadRows = False,
    split: Annotated[
        str, typer.Option(help="For a BEIR folder: use the judgements in qrels/SPLIT.tsv.")
    ] = "test",
    similarity_fns: options.SimilarityFns = None,
    truncate_dim: options.TruncateDim = None,
    batch_size: options.BatchSize = None,
    pooling: options.Pooling = None,
    dtype: options.Dtype = "float32",
    device: options.Device = None,
    csv_folder: Annotated[
        pathlib.Path | None,
        typer.Option("--csv", help="A folder in which to add a row to the task's csv file."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Print how good a bi-encoder or a cross-encoder is at a task, under sentence-transformers'
    names of the metrics.

    The command reads the data before it opens the model.
    """
    from jsbert.cli.evaluators import make_evaluator
    from jsbert.cli.models import find_model, is_cross_encoder, open_bi_encoder, open_cross_encoder
    from jsbert.cli.output import prepare_folder
    from jsbert.cross_encoder import CrossEncoder
    from jsbert.sentence_transformer import SentenceTransformer

    folder = find_model(model)
    is_cross = is_cross_encoder(folder)
    if is_cross and (pooling is not None or truncate_dim is not None):
        raise typer.BadParameter(
            "a cross-encoder makes no vectors", param_hint="'--pooling', '--truncate-dim'"
        )
    evaluator = make_evaluator(
        task,
        data,
        cross_encoder=is_cross,
        split=split,
        similarity_fns=options.split(similarity_fns),
        reading=dict(
            columns=options.split(columns),
            label=label,
            label_names=options.split(label_names),
            skip_bad_rows=skip_bad_rows,
        ),
        batch_size=batch_size,
        show_progress_bar=options.show_progress(),
    )
    if csv_folder is not None:
        prepare_folder(csv_folder)
    opened: CrossEncoder | SentenceTransformer
    if is_cross:
        opened = open_cross_encoder(folder, device=device, dtype=dtype)
    else:
        opened = open_bi_encoder(
            folder, device=device, dtype=dtype, pooling=pooling, truncate_dim=truncate_dim
        )
    results = evaluator(opened, csv_folder)
    if as_json:
        finite = {key: value if math.isfinite(value) else None for key, value in results.items()}
        print(json.dumps({"primary_metric": evaluator.primary_metric} | finite))
        return
    width = max(map(len, results))
    for key, value in results.items():
        mark = "  (primary)" if key == evaluator.primary_metric else ""
        print(f"{key:{width}}  {value:10.4f}{mark}")
