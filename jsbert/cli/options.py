"""The options that several commands share."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

import typer

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A folder, a bundled model's name or a hub name.",
        show_default="the default model",
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(min=1, help="Cap on the rows of a batch.", show_default="by a budget of tokens"),
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "int8", "auto"], typer.Option(help="Of the matrix products.")
]
Precision = Annotated[
    Literal["float32", "int8", "uint8", "binary", "ubinary"],
    typer.Option(help="Of the vectors: a float, a byte (int8, uint8) or a bit for each dimension."),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="'cpu', 'gpu', 'cuda:1', 'tpu', or several, separated by commas.",
        show_default="JAX's first",
    ),
]
Pooling = Annotated[
    str | None,
    typer.Option(
        help="Pooling modes, separated by commas, instead of the model's: mean, cls, max, "
        "weightedmean, lasttoken, "
        "mean_sqrt_len_tokens.",
        show_default="the model's",
    ),
]
OnTruncate = Annotated[
    Literal["warn", "error", "ignore"],
    typer.Option(help="What to do about texts longer than the model takes."),
]
SimilarityFn = Annotated[
    Literal["cosine", "dot", "euclidean", "manhattan"] | None,
    typer.Option(help="How vectors are compared.", show_default="the model's"),
]
SimilarityFns = Annotated[
    str | None,
    typer.Option(
        help="Similarities to measure with, separated by commas.", show_default="the model's"
    ),
]
TruncateDim = Annotated[
    int | None,
    typer.Option(
        min=1, help="Keep this many dimensions of each vector.", show_default="the model's"
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Columns of texts, separated by commas, in order.", show_default="all but the label"
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        help="Column of the label.", show_default="the one named label, labels, score or scores"
    ),
]
LabelNames = Annotated[
    str | None,
    typer.Option(
        help="Names of the classes 0, 1, ..., separated by commas.", show_default="as found, sorted"
    ),
]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave malformed rows out instead of stopping.")
]
TopK = Annotated[int, typer.Option(min=1, help="Results a query.")]
Task = Literal["sts", "binary", "triplet", "retrieval", "reranking"]
"""What a model can be evaluated on."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")]


def split(values: str | None) -> list[str] | None:
    """The parts of a list with commas; None for None.

    >>> split("sentence1, sentence2")
    ['sentence1', 'sentence2']
    """
    return None if values is None else [value.strip() for value in values.split(",")]


def show_progress() -> bool:
    """Whether progress bars are wanted: on a terminal only."""
    return sys.stderr is not None and sys.stderr.isatty()


def with_progress(values: Iterable, total: int | None, unit: str) -> Iterable:
    """`values`, with a progress bar where one is wanted."""
    from tqdm.auto import tqdm

    return tqdm(values, total=total, unit=unit, disable=not show_progress())


def print_hits(hits: Sequence[Mapping]) -> None:
    """Prints results {"corpus_id", "score", "text"}, a line each; white space in the texts as
    single spaces."""
    for hit in hits:
        print(f"  {hit['score']:9.4f}  {hit['corpus_id']:>7}  {' '.join(hit['text'].split())}")
