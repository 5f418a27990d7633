"""The options that several commands share."""

import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, overload

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
    Literal["float32", "bfloat16", "int8", "auto"],
    typer.Option(help="The dtype of the matrix products."),
]
Precision = Annotated[
    Literal["float32", "int8", "uint8", "binary", "ubinary"],
    typer.Option(
        help="How each dimension of a vector is stored: a float, a byte (int8, uint8) or a bit."
    ),
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
        "weightedmean, lasttoken, mean_sqrt_len_tokens.",
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
Normalize = Annotated[bool, typer.Option("--normalize", help="Scale the vectors to length 1.")]
Prompt = Annotated[str | None, typer.Option(help="Text put in front of each text.")]
Calibration = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="With int8 and uint8: a .npy file of similar float32 vectors; the bytes span the "
        "range of their entries."
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
TopK = Annotated[int, typer.Option(min=1, help="The number of results for each query.")]
Task = Literal["sts", "binary", "triplet", "retrieval", "reranking"]
"""What a model can be evaluated on."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object on each line.")]

Value = TypeVar("Value")


@overload
def split(values: str) -> list[str]: ...
@overload
def split(values: None) -> None: ...
def split(values: str | None) -> list[str] | None:
    """Split a list at its commas. Return None for None.

    >>> split("sentence1, sentence2")
    ['sentence1', 'sentence2']
    """
    return None if values is None else [value.strip() for value in values.split(",")]


def show_progress() -> bool:
    """Return whether to show progress bars: only if stderr is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def with_progress(values: Iterable[Value], total: int | None, unit: str) -> Iterable[Value]:
    """Yield `values`, with a progress bar if stderr is a terminal."""
    from tqdm.auto import tqdm

    return tqdm(values, total=total, unit=unit, disable=not show_progress())


def print_hits(hits: Sequence[Mapping[str, Any]]) -> None:
    """Print results {"corpus_id", "score", "text"}, one on each line. White space in a text becomes
    single spaces."""
    for hit in hits:
        print(f"  {hit['score']:9.4f}  {hit['corpus_id']:>7}  {' '.join(hit['text'].split())}")
