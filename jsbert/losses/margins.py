"""Losses that push vectors apart up to a margin: triplet, contrastive, online contrastive.

The names of distances: "euclidean", "cosine" (one minus the cosine), "manhattan".
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from jsbert.arrays import AnyArray, at_least_float32
from jsbert.losses.in_batch import in_batch
from jsbert.losses.measures import distance_named

Pairs = Float[AnyArray, "2 batch dim"]
Labels = Num[AnyArray, " batch"] | Bool[AnyArray, " batch"]


def triplet(
    embeddings: Float[AnyArray, "3 batch dim"],
    labels: None,
    *,
    distance: str = "euclidean",
    margin: float = 1.0,
) -> Float[Array, " batch"]:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin): (B,).

    The defaults of `distance` and `margin` are the paper's (https://arxiv.org/abs/1908.10084,
    section 3). The default margin of ST's TripletLoss is 5.

    >>> triplet(jnp.array([[[0.0, 0.0]], [[3.0, 4.0]], [[0.0, 5.5]]]), None).tolist()
    [0.5]
    """
    anchor, positive, negative = embeddings
    apart = distance_named(distance)
    return jax.nn.relu(apart(anchor, positive) - apart(anchor, negative) + margin)


def contrastive(
    embeddings: Pairs, labels: Labels, *, distance: str = "cosine", margin: float = 0.5
) -> Float[Array, " batch"]:
    """(y d^2 + (1 - y) max(0, margin - d)^2) / 2, with d the pair's distance: (B,); as ST's
    ContrastiveLoss.

    Hadsell et al. 2006, "Dimensionality reduction by learning an invariant mapping", equation 4.

    Args:
        embeddings: the pairs, (2, B, D).
        labels: y: 1 for a pair that belongs together, 0 for a pair that does not; a label between 0
            and 1 mixes both.
        distance: the name of d.
        margin: negative pairs with at least this distance have a loss of 0.
    """
    d, y = distance_named(distance)(*embeddings), at_least_float32(labels)
    return 0.5 * (y * jnp.square(d) + (1.0 - y) * jnp.square(jax.nn.relu(margin - d)))


@in_batch
def online_contrastive(
    embeddings: Pairs, labels: Labels, *, distance: str = "cosine", margin: float = 0.5
) -> Float[Array, " batch"]:
    """B d^2 for hard positive pairs, B max(0, margin - d)^2 for hard negative pairs, and 0 for the
    other pairs: (B,).

    A positive pair is hard if its distance is larger than the smallest distance of a negative pair.
    A negative pair is hard if its distance is smaller than the largest distance of a positive pair.
    If a batch has only positive or only negative pairs, they are compared with their mean distance
    instead. ST's OnlineContrastiveLoss is the sum over the batch; with the factor B the mean of
    (B,) is that sum.

    Args:
        embeddings: the pairs, (2, B, D).
        labels: 1 for a positive pair, 0 for a negative pair. A pair with any other label has a loss
            of 0.
        distance: the name of d.
        margin: negative pairs with at least this distance have a loss of 0.
    """
    d, labels = distance_named(distance)(*embeddings), jnp.asarray(labels)
    positive, negative = labels == 1, labels == 0
    farthest = jnp.where(
        positive.any(), jnp.max(d, where=positive, initial=-jnp.inf), _mean(d, negative)
    )
    nearest = jnp.where(
        negative.any(), jnp.min(d, where=negative, initial=jnp.inf), _mean(d, positive)
    )
    pulled = jnp.where(positive & (d > nearest), jnp.square(d), 0.0)
    pushed = jnp.where(negative & (d < farthest), jnp.square(jax.nn.relu(margin - d)), 0.0)
    return d.shape[0] * (pulled + pushed)


def _mean(d, chosen):
    """The mean of the chosen entries of `d`; 0 if none is chosen."""
    return jnp.sum(d, where=chosen) / jnp.maximum(jnp.sum(chosen), 1)
