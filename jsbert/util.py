"""Functions with the names and results of sentence_transformers.util, made from jsbert's own."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import ArrayLike

from jsbert.arrays import AnyArray, normalize
from jsbert.mining import mine_hard_negatives
from jsbert.quantization import quantize_embeddings
from jsbert.search import close_pairs, communities
from jsbert.search import top_k as nearest
from jsbert.similarity import (
    cos_sim,
    dot_score,
    euclidean_sim,
    manhattan_sim,
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
    similarity_name,
)

__all__ = [
    "community_detection",
    "cos_sim",
    "dot_score",
    "euclidean_sim",
    "manhattan_sim",
    "mine_hard_negatives",
    "normalize_embeddings",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "paraphrase_mining",
    "paraphrase_mining_embeddings",
    "pytorch_cos_sim",
    "quantize_embeddings",
    "semantic_search",
    "truncate_embeddings",
]

Embeddings = TypeVar("Embeddings", jax.Array, np.ndarray)

pytorch_cos_sim = cos_sim


def semantic_search(
    query_embeddings: ArrayLike,
    corpus_embeddings: ArrayLike,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500_000,
    top_k: int = 10,
    score_function: Callable = cos_sim,
) -> list[list[dict[str, Any]]]:
    """Return the `top_k` nearest rows of the corpus for each query, best first: [[{"corpus_id",
    "score"}]]. `search.top_k` returns the same as arrays.

    `score_function` is one of this module's matrix similarities. The chunk sizes are accepted and
    ignored.
    """
    scores, indices = nearest(
        query_embeddings, corpus_embeddings, top_k, similarity=similarity_name(score_function)
    )
    return [
        [{"corpus_id": i, "score": s} for i, s in zip(*row, strict=True)]
        for row in zip(indices.tolist(), scores.tolist(), strict=True)
    ]


def paraphrase_mining(
    model: Any,
    sentences: Sequence[str],
    show_progress_bar: bool = False,
    batch_size: int | None = None,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100_000,
    max_pairs: int = 500_000,
    top_k: int = 100,
    score_function: Callable = cos_sim,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[float | int]]:
    """Return the closest pairs among `sentences`, best first: [[score, i, j]] with i < j. See
    `paraphrase_mining_embeddings`."""
    embeddings = model.encode(
        sentences,
        show_progress_bar=show_progress_bar,
        batch_size=batch_size,
        truncate_dim=truncate_dim,
        prompt_name=prompt_name,
        prompt=prompt,
    )
    return paraphrase_mining_embeddings(
        embeddings,
        query_chunk_size,
        corpus_chunk_size,
        max_pairs,
        top_k,
        score_function=score_function,
    )


def paraphrase_mining_embeddings(
    embeddings: ArrayLike,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100_000,
    max_pairs: int = 500_000,
    top_k: int = 100,
    score_function: Callable = cos_sim,
) -> list[list[float | int]]:
    """Return the closest pairs of rows among each row's `top_k` nearest rows, best first: [[score,
    i, j]] with i < j.

    `search.close_pairs` returns the same as arrays. The chunk sizes are accepted and ignored.
    """
    pairs = close_pairs(
        embeddings, k=top_k, max_pairs=max_pairs, similarity=similarity_name(score_function)
    )
    return [list(pair) for pair in zip(*(column.tolist() for column in pairs), strict=True)]


def community_detection(
    embeddings: AnyArray,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Return groups of rows whose cosine to a common centre is at least `threshold`, largest first.
    See `search.communities`."""
    return communities(
        embeddings,
        threshold=threshold,
        min_community_size=min_community_size,
        batch_size=batch_size,
        show_progress_bar=show_progress_bar,
    )


def normalize_embeddings(embeddings: AnyArray) -> jax.Array:
    """Return the embeddings scaled to length 1; zero vectors stay zero."""
    return normalize(
        embeddings if hasattr(embeddings, "dtype") else np.asarray(embeddings, np.float32)
    )


def truncate_embeddings(embeddings: Embeddings, truncate_dim: int | None) -> Embeddings:
    """Return the first `truncate_dim` dimensions of the embeddings; None keeps all."""
    return embeddings[..., :truncate_dim]
