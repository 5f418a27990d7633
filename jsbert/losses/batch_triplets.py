"""Triplet losses of single texts with classes: a batch's texts are anchors, positives and negatives
of each other.

Each text of a batch is an anchor a. Its positives p are the other texts of its class, and its
negatives n are the texts of all other classes. d is a distance, under the names of `margins`. A
batch needs two texts or more of a class, and two classes or more: `Recipe.group_by_label`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jsbert.arrays import AnyArray, at_least_float32
from jsbert.losses.in_batch import in_batch
from jsbert.losses.measures import distance_named

Single = Float[AnyArray, "1 batch dim"]
Classes = Int[AnyArray, " batch"]


@in_batch
def batch_all_triplet(
    embeddings: Single, labels: Classes, *, distance: str = "euclidean", margin: float = 5.0
) -> Float[Array, " batch"]:
    """B / M times the sum over all p and n of max(0, d(a, p) - d(a, n) + margin): (B,).

    M is the number of the batch's triplets whose loss is above 0, so the mean of the (B,) numbers
    is the mean over these triplets. Hermans et al. 2017, https://arxiv.org/abs/1703.07737; as ST's
    BatchAllTripletLoss.

    Args:
        embeddings: (1, B, D).
        labels: the classes, any whole numbers.
        distance: the name of d.
        margin: triplets whose negative is farther than the positive by this much have a loss of 0.

    >>> line = jnp.array([[[0.0], [2.0], [3.0]]])  # two texts of class 0, one of class 1
    >>> batch_all_triplet(line, jnp.array([0, 0, 1]), margin=1.5).tolist()
    [0.75, 3.75, 0.0]
    """

    def of_anchor(d, is_positive, is_negative):
        losses = d[:, None] - d[None] + margin
        counts = is_positive[:, None] & is_negative[None] & (losses > 0)
        return jnp.sum(losses, where=counts), jnp.sum(counts)

    sums, numbers = _of_anchors(of_anchor, embeddings, labels, distance)
    return len(sums) * sums / jnp.maximum(jnp.sum(numbers), 1)


@in_batch
def batch_hard_triplet(
    embeddings: Single, labels: Classes, *, distance: str = "euclidean", margin: float = 5.0
) -> Float[Array, " batch"]:
    """max(0, largest d(a, p) - smallest d(a, n) + margin): (B,).

    An anchor without positives has 0 for its d(a, p). An anchor without negatives has no gradient,
    and its loss is the margin. Hermans et al. 2017, https://arxiv.org/abs/1703.07737, equation 5;
    as ST's BatchHardTripletLoss. The arguments are those of `batch_all_triplet`.

    >>> line = jnp.array([[[0.0], [2.0], [3.0]]])
    >>> batch_hard_triplet(line, jnp.array([0, 0, 1]), margin=1.5).tolist()
    [0.5, 2.5, 0.5]
    """
    return jax.nn.relu(_of_anchors(_hardest, embeddings, labels, distance) + margin)


@in_batch
def batch_hard_soft_margin_triplet(
    embeddings: Single, labels: Classes, *, distance: str = "euclidean"
) -> Float[Array, " batch"]:
    """log(1 + exp(largest d(a, p) - smallest d(a, n))): (B,).

    It is `batch_hard_triplet` with a soft margin. Hermans et al. 2017,
    https://arxiv.org/abs/1703.07737; as ST's BatchHardSoftMarginTripletLoss.

    >>> line = jnp.array([[[0.0], [2.0], [3.0]]])
    >>> print(batch_hard_soft_margin_triplet(line, jnp.array([0, 0, 1])).round(2))  # -1, 1, -1
    [0.31 1.31 0.31]
    """
    return jax.nn.softplus(_of_anchors(_hardest, embeddings, labels, distance))


@in_batch
def batch_semi_hard_triplet(
    embeddings: Single, labels: Classes, *, distance: str = "euclidean", margin: float = 5.0
) -> Float[Array, " batch"]:
    """B / P times the sum over all p of max(0, d(a, p) - d(a, n) + margin): (B,).

    n is the nearest negative that is farther from the anchor than p, or the farthest negative if
    none is. P is the number of the batch's pairs (a, p), so the mean of the (B,) numbers is the
    mean over these pairs. Schroff et al. 2015, https://arxiv.org/abs/1503.03832, section 3.2; as
    ST's BatchSemiHardTripletLoss. The arguments are those of `batch_all_triplet`.

    >>> line = jnp.array([[[0.0], [2.0], [3.0]]])
    >>> batch_semi_hard_triplet(line, jnp.array([0, 0, 1]), margin=1.5).tolist()
    [0.75, 3.75, 0.0]
    """

    def of_anchor(d, is_positive, is_negative):
        is_outside = is_negative[None] & (d[None] > d[:, None])
        nearest = jnp.min(d[None], axis=1, where=is_outside, initial=jnp.inf)
        # Without negatives the distance of a text from itself takes the place of the negative's.
        farthest = jnp.max(jnp.where(is_negative, d, jnp.min(d)))
        negative = jnp.where(is_outside.any(axis=1), nearest, farthest)
        losses = jax.nn.relu(d - negative + margin)
        return jnp.sum(losses, where=is_positive), jnp.sum(is_positive)

    sums, numbers = _of_anchors(of_anchor, embeddings, labels, distance)
    return len(sums) * sums / jnp.maximum(jnp.sum(numbers), 1)


def _hardest(d, is_positive, is_negative):
    """The largest distance of a positive, less the smallest distance of a negative."""
    # Without negatives both are the distance of the farthest text.
    nearest = jnp.min(jnp.where(is_negative, d, jnp.max(d)))
    return jnp.max(jnp.where(is_positive, d, 0.0)) - nearest


def _of_anchors(of_anchor: Callable, embeddings: Single, labels: Classes, distance: str):
    """`of_anchor(d, is_positive, is_negative)` of each text: its distances from all texts (B,),
    and which of them are its positives and its negatives."""
    vectors, labels = at_least_float32(embeddings[0]), jnp.asarray(labels)
    apart = distance_named(distance)

    def of_text(text):
        vector, label, is_itself = text
        d = apart(jnp.broadcast_to(vector, vectors.shape), vectors)
        is_same = labels == label
        return of_anchor(d, is_same & ~is_itself, ~is_same)

    # One anchor at a time, and again in the backward pass: all differences take (B, B, D), and all
    # triplets (B, B, B).
    texts = vectors, labels, jnp.eye(len(labels), dtype=bool)
    return jax.lax.map(jax.checkpoint(of_text), texts)
