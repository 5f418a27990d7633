"""Guided in-batch negatives (GIST): a second model, the guide, says which texts of a batch are no
negatives."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from jsbert.arrays import AnyArray
from jsbert.losses.in_batch import in_batch
from jsbert.similarity import cos_sim, pairwise_cos_sim


@in_batch
def guided_negatives_ranking(
    embeddings: Float[AnyArray, "towers batch dim"],
    labels: Num[AnyArray, "towers batch width"],
    *,
    temperature: float = 0.01,
    margin: float = 0.0,
    margin_strategy: str = "absolute",
    contrast_anchors: bool = True,
    contrast_positives: bool = True,
) -> Float[Array, " batch"]:
    """-log softmax of cos(anchor i, positive i) / temperature, among the candidates that the guide
    leaves: (B,).

    The candidates are the cosines of anchor i with all positives, anchors and hard negatives, and
    of positive i with all positives. The guide takes away each pair whose cosine by the guide is
    larger than g - margin, with g the guide's cosine of anchor i and positive i. The guide never
    takes that pair away. A text is never its own negative. Solatorio 2024,
    https://arxiv.org/abs/2402.16829; as ST's GISTEmbedLoss.

    Args:
        embeddings: (T, B, D): tower 0 has the anchors, tower 1 the positives, and the towers from 2
            on, if any, have hard negatives.
        labels: the guide's embeddings of the same texts, (T, B, E).
        temperature: divides the cosines.
        margin: a larger margin takes more pairs away.
        margin_strategy: "absolute"; or "relative", for the limit g - margin |g|.
        contrast_anchors: whether the other anchors are candidates.
        contrast_positives: whether the cosines of positives with positives are candidates.

    Raises:
        ValueError: for labels of another shape, or another `margin_strategy`.

    >>> texts = jnp.array([[[1.0, 0.0], [0.0, 1.0]]] * 2)
    >>> blind, sees = jnp.array([[[1.0, 0.0], [0.0, 1.0]]] * 2), jnp.ones((2, 2, 2))
    >>> guided_negatives_ranking(texts, sees, temperature=1.0, margin=0.1).tolist()  # none is left
    [0.0, 0.0]
    >>> print(guided_negatives_ranking(texts, blind, temperature=1.0).round(2))  # log(1 + 3 / e)
    [0.74 0.74]
    """
    towers, batch, _ = embeddings.shape
    if labels.shape[:-1] != (towers, batch):
        raise ValueError(
            f"labels have shape {labels.shape}; give the guide's vectors of the {towers} texts of "
            f"{batch} examples, {(towers, batch, 'E')}"
        )
    if margin_strategy not in ("absolute", "relative"):
        raise ValueError(
            f"margin_strategy is {margin_strategy!r}; choose one of: absolute, relative"
        )
    of_pairs = pairwise_cos_sim(labels[0], labels[1])
    limit = of_pairs - margin * (jnp.abs(of_pairs) if margin_strategy == "relative" else 1.0)
    own = jnp.eye(batch, dtype=bool)

    def candidates(one, other):
        """The cosines of two towers (B, B), and which of them the guide leaves."""
        is_left = cos_sim(labels[one], labels[other]) <= limit[:, None]
        return cos_sim(embeddings[one], embeddings[other]) / temperature, is_left

    scores, is_left = candidates(0, 1)
    positive = jnp.diagonal(scores)
    chosen = [(scores, is_left | own)]
    for is_chosen, tower in ((contrast_anchors, 0), (contrast_positives, 1)):
        if is_chosen:
            scores, is_left = candidates(tower, tower)
            chosen.append((scores, is_left & ~own))
    chosen += [candidates(0, tower) for tower in range(2, towers)]
    scores = jnp.concatenate([jnp.where(left, score, -jnp.inf) for score, left in chosen], axis=1)
    return jax.nn.logsumexp(scores, axis=1) - positive
