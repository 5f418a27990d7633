"""Losses that make a model agree with a teacher: margin-MSE, embedding-MSE, similarity
distillation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from jsbert.arrays import AnyArray, at_least_float32
from jsbert.losses.in_batch import in_batch
from jsbert.losses.measures import similarity_named
from jsbert.similarity import cos_sim

Towers = Float[AnyArray, "towers batch dim"]


def margin_mse(
    embeddings: Towers,
    labels: Num[AnyArray, " batch"] | Num[AnyArray, "batch scores"],
    *,
    similarity: str = "dot",
) -> Float[Array, " batch"]:
    """The mean over the negatives of (s(query, positive) - s(query, negative) - label)^2: (B,).

    Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666; as ST's MarginMSELoss.

    Args:
        embeddings: query, positive and N negatives, (2 + N, B, D).
        labels: the teacher's margins, (B, N), or (B,) with one negative; or the teacher's scores of
            the positive and then of the negatives, (B, N + 1), whose differences are the margins.
        similarity: s, "dot" or "cosine".

    Raises:
        ValueError: if the labels have another shape.
    """
    compare = similarity_named(similarity)[1]
    scores = jax.vmap(compare, in_axes=(None, 0), out_axes=1)(
        embeddings[0], embeddings[1:]
    )  # (B, 1 + N)
    margins = _margins(at_least_float32(labels), scores.shape)
    return jnp.mean(jnp.square(scores[:, :1] - scores[:, 1:] - margins), axis=1)


def embedding_mse(
    embeddings: Towers, labels: Num[AnyArray, "batch dim"] | Num[AnyArray, "towers batch dim"]
) -> Float[Array, " batch"]:
    """The mean squared difference from the teacher's embeddings, over towers and dimensions: (B,).

    Reimers & Gurevych 2020, https://arxiv.org/abs/2004.09813; as ST's MSELoss, except that the
    labels of ST have the towers as the second axis.

    Args:
        embeddings: the student's, (T, B, D).
        labels: the teacher's, (T, B, D), or (B, D) for all towers.
    """
    return jnp.mean(
        jnp.square(at_least_float32(embeddings) - _for_each_tower(labels, embeddings)), axis=(0, 2)
    )


@in_batch
def similarity_distillation(
    embeddings: Towers, labels: Num[AnyArray, "batch width"] | Num[AnyArray, "towers batch width"]
) -> Float[Array, " batch"]:
    """The mean squared difference between the student's and the teacher's cosine matrices: (B,).

    A cosine matrix has the cosines of all T * B vectors with each other. The number of an example
    is the mean over its T rows of the matrix of squared differences. The mean of the (B,) numbers
    is the mean of that matrix. The teacher's embeddings may have another width. Tung & Mori 2019,
    https://arxiv.org/abs/1907.09682, with cosines.

    Args:
        embeddings: the student's, (T, B, D).
        labels: the teacher's, (T, B, E), or (B, E) for all towers.
    """
    student, teacher = _cosines(embeddings), _cosines(_for_each_tower(labels, embeddings))
    towers, batch = embeddings.shape[:2]
    return jnp.mean(jnp.square(student - teacher).reshape(towers, batch, -1), axis=(0, 2))


def _margins(labels, shape):
    """The teacher's margins (B, N), from margins or scores; `shape` is that of the student's
    scores, (B, 1 + N)."""
    batch, scores = shape
    if labels.shape == (batch, scores):
        return labels[:, :1] - labels[:, 1:]
    if labels.shape == (batch,):
        labels = labels[:, None]
    if labels.shape != (batch, scores - 1):
        raise ValueError(
            f"labels have shape {labels.shape}; for {batch} examples with {scores - 1} negatives "
            "give margins "
            f"{(batch, scores - 1)}, or scores {(batch, scores)} with the positive's first"
        )
    return labels


def _for_each_tower(labels, embeddings):
    """The teacher's embeddings as (T, B, E)."""
    labels = at_least_float32(labels)
    return jnp.broadcast_to(labels, (embeddings.shape[0], *labels.shape[-2:]))


def _cosines(vectors):
    rows = vectors.reshape(-1, vectors.shape[-1])
    return cos_sim(rows, rows)
