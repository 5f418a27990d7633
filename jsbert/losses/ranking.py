"""Multiple-negatives ranking: the other examples of a batch serve as negatives (InfoNCE, SimCSE's
loss)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsbert.arrays import AnyArray
from jsbert.losses.in_batch import in_batch
from jsbert.losses.measures import similarity_named


@in_batch
def multiple_negatives_ranking(
    embeddings: Float[AnyArray, "towers batch dim"],
    labels: None,
    *,
    scale: float = 20.0,
    similarity: str = "cosine",
    symmetric: bool = False,
) -> Float[Array, " batch"]:
    """-log softmax of anchor i's similarity to positive i, among all positives and negatives of the
    batch: (B,).

    Henderson et al. 2017, https://arxiv.org/abs/1705.00652, section 4.4. As ST's
    MultipleNegativesRankingLoss; with `symmetric` as its MultipleNegativesSymmetricRankingLoss. A
    text that occurs twice in a batch is its own negative: make batches without duplicates.

    Args:
        embeddings: (T, B, D): tower 0 has the anchors, tower 1 the positives, and the towers from 2
            on, if any, have hard negatives.
        labels: None.
        scale: the inverse temperature, which multiplies the similarities.
        similarity: "cosine" or "dot".
        symmetric: whether to take the mean of this loss and of the loss from positives to anchors:
            -log softmax of positive i's similarity to anchor i, among all anchors.

    >>> same = jnp.array([[[1.0, 0.0], [0.0, 1.0]]] * 2)
    >>> print(multiple_negatives_ranking(same, None, scale=1.0).round(2))  # log(1 + exp(-1))
    [0.31 0.31]
    """
    anchors, candidates = embeddings[0], embeddings[1:].reshape(-1, embeddings.shape[-1])
    scores = scale * similarity_named(similarity)[0](anchors, candidates)  # (B, (T - 1) * B)
    own = scores[:, : len(anchors)]
    positive = jnp.diagonal(own)
    forward = jax.nn.logsumexp(scores, axis=1) - positive
    if not symmetric:
        return forward
    return 0.5 * (forward + jax.nn.logsumexp(own, axis=0) - positive)
