"""Losses of pairs whose label is a number, the grade of their similarity: cosine regression,
CoSENT, AnglE."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from jsbert.arrays import AnyArray, at_least_float32, normalize
from jsbert.losses.in_batch import in_batch
from jsbert.similarity import pairwise_cos_sim

Pairs = Float[AnyArray, "2 batch dim"]
Labels = Num[AnyArray, " batch"] | Bool[AnyArray, " batch"]


def cosine_regression(embeddings: Pairs, labels: Labels) -> Float[Array, " batch"]:
    """(cos(u, v) - label)^2: (B,); labels -1 to 1, usually 0 to 1. As ST's CosineSimilarityLoss.

    Reimers & Gurevych 2019, https://arxiv.org/abs/1908.10084, section 3, regression objective.

    >>> cosine_regression(jnp.array([[[2.0, 0.0]], [[0.0, 3.0]]]), jnp.array([0.5])).tolist()
    [0.25]
    """
    return jnp.square(pairwise_cos_sim(*embeddings) - at_least_float32(labels))


@in_batch
def cosent(embeddings: Pairs, labels: Labels, *, scale: float = 20.0) -> Float[Array, " batch"]:
    """log(1 + sum of exp(scale (s_i - s_j)) over all i, j with label_i < label_j), with s the
    cosines of the pairs.

    This is one number for the whole batch. Each of the (B,) numbers is that number, and so is the
    mean. Equal labels are not compared. Only the order of the labels counts. Su 2022,
    https://kexue.fm/archives/8847; as ST's CoSENTLoss.
    """
    return _ranked(pairwise_cos_sim(*embeddings), jnp.asarray(labels), scale, len(labels))


@in_batch
def angle(
    embeddings: Float[AnyArray, "towers batch dim"], labels: Labels | None, *, scale: float = 20.0
) -> Float[Array, " batch"]:
    """`cosent` with the similarity |cos + sin| of vectors that are read as complex numbers: (B,).

    The first half of the dimensions are the real parts, and the second half are the imaginary
    parts. If the number of dimensions is odd, the last imaginary part is 0. Li & Li 2023,
    https://arxiv.org/abs/2309.12871, in the form of ST's AnglELoss.

    Args:
        embeddings: pairs (2, B, D); or anchor, positive and negatives (T, B, D): each anchor makes
            a pair with its positive, and a pair with each of its negatives.
        labels: the grades of the pairs. With negatives, a label is the grade of the positive, 0 to
            1, and 1 - label is the grade of the negatives. None means 1, and needs negatives.
        scale: the inverse temperature.

    Raises:
        ValueError: if there are pairs and no labels.
    """
    towers, batch, _ = embeddings.shape
    if towers == 2 and labels is None:
        raise ValueError(
            "angle got pairs and no labels; give a label a pair, or a third tower of negatives"
        )
    grades = jnp.ones(batch) if labels is None else at_least_float32(labels)
    grades = jnp.concatenate([grades, *[1.0 - grades] * (towers - 2)])
    similarity = jax.vmap(_angle_similarity, in_axes=(None, 0))(embeddings[0], embeddings[1:])
    return _ranked(similarity.ravel(), grades, scale, batch)


def _angle_similarity(a, b):
    odd = a.shape[-1] % 2
    a, b = (jnp.pad(normalize(x), ((0, 0), (0, odd))) for x in (a, b))
    a_real, a_imaginary = jnp.split(a, 2, axis=-1)
    b_real, b_imaginary = jnp.split(b, 2, axis=-1)
    # The real and the imaginary part of a times conjugate(b), summed over the dimensions.
    cosine = jnp.sum(a_real * b_real + a_imaginary * b_imaginary, axis=-1)
    sine = jnp.sum(a_imaginary * b_real - a_real * b_imaginary, axis=-1)
    return jnp.abs(cosine + sine)


def _ranked(similarity, grades, scale, batch):
    """The formula of `cosent` for any similarity: (batch,) times the same number."""
    scores = scale * similarity
    wrong_by = jnp.where(grades[:, None] < grades[None], scores[:, None] - scores[None], -jnp.inf)
    total = jax.nn.logsumexp(jnp.append(wrong_by, 0.0))  # the 0 is the 1 in log(1 + ...)
    return jnp.full(batch, total)
