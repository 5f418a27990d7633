"""`jsbert search`: find the texts of a corpus that are nearest to each query."""

import json
import pathlib
from typing import TYPE_CHECKING, Annotated

import typer

from jsbert.cli import options
from jsbert.cli.inputs import read_queries, read_texts

if TYPE_CHECKING:
    import numpy as np


def search(
    corpus: Annotated[
        str,
        typer.Option(
            help="The texts to search: a text file, one a line, or a table with --column."
        ),
    ],
    queries: Annotated[
        list[str] | None,
        typer.Argument(help="Queries; without any, or with '-', one a line from stdin."),
    ] = None,
    embeddings: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="The corpus's vectors, a .npy file written by `jsbert encode`.",
            show_default="computed",
        ),
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="The column of a csv, tsv, jsonl or parquet corpus.")
    ] = None,
    model: options.Model = None,
    top_k: options.TopK = 10,
    similarity_fn: options.SimilarityFn = None,
    batch_size: options.BatchSize = None,
    pooling: options.Pooling = None,
    dtype: options.Dtype = "float32",
    device: options.Device = None,
    on_truncate: options.OnTruncate = "warn",
    as_json: options.Json = False,
) -> None:
    """Print the texts of a corpus that are nearest to each query, best first, ties by position.

    The model's prompt named "query" is put in front of each query. The prompt named "document",
    "passage" or "corpus" is put in front of each text of the corpus. If you write the vectors for
    --embeddings with `jsbert encode`, give it that prompt with --prompt-name.
    """
    from jsbert.cli.models import open_bi_encoder
    from jsbert.search import top_k as nearest
    from jsbert.sentence_transformer import ToNumpy

    texts = list(read_texts(corpus, column))
    if not texts:
        raise ValueError(f"{corpus} holds no texts; there is nothing to search")
    # Read all inputs before the model is opened, so that errors in them are reported at once.
    vectors = None if embeddings is None else _read_vectors(embeddings, len(texts), corpus)
    queries = read_queries(queries or [])
    opened = open_bi_encoder(
        model, device=device, pooling=pooling, dtype=dtype, similarity_fn_name=similarity_fn
    )
    encoding: ToNumpy = {
        "batch_size": batch_size,
        "on_truncate": on_truncate,
        "show_progress_bar": options.show_progress(),
    }
    if vectors is None:
        vectors = opened.encode_document(texts, **encoding)
    elif vectors.shape[1] != opened.get_embedding_dimension():
        raise ValueError(
            f"{embeddings} holds vectors of {vectors.shape[1]} dimensions, the model makes "
            f"{opened.get_embedding_dimension()}; give the model that wrote them with --model"
        )
    found = nearest(
        opened.encode_query(queries, **encoding),
        vectors,
        top_k,
        similarity=opened.similarity_fn_name,
    )
    for query, scores, indices in zip(
        queries, found.scores.tolist(), found.indices.tolist(), strict=True
    ):
        hits = [
            {"corpus_id": index, "score": score, "text": texts[index]}
            for index, score in zip(indices, scores, strict=True)
        ]
        if as_json:
            print(json.dumps({"query": query, "hits": hits}, ensure_ascii=False))
        else:
            print(" ".join(query.split()))
            options.print_hits(hits)


def _read_vectors(path: pathlib.Path, num_texts: int, corpus: str) -> "np.ndarray":
    """Open a .npy file of `num_texts` vectors as a memory map.

    Raises:
        ValueError: if the file holds something else.
    """
    import numpy as np

    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path}: not a readable .npy file ({error}); write it with `jsbert encode`"
        ) from None
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise ValueError(
            f"{path}: not a (N, D) array of floating-point numbers; write it with `jsbert encode`"
        )
    if len(vectors) != num_texts:
        raise ValueError(
            f"{path} holds {len(vectors)} vectors, but {corpus} holds {num_texts} texts; "
            "encode it anew"
        )
    return vectors
