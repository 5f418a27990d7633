"""Global orthogonal regularisation: vectors of unrelated texts spread over the sphere."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsbert.arrays import AnyArray
from jsbert.losses.in_batch import in_batch
from jsbert.losses.measures import similarity_named


@in_batch
def global_orthogonal_regularization(
    embeddings: Float[AnyArray, "towers batch dim"],
    labels: None,
    *,
    similarity: str = "cosine",
    mean_weight: float = 1.0,
    second_moment_weight: float = 1.0,
    aggregation: str = "mean",
) -> Float[Array, " batch"]:
    """a m^2 + b max(0, v - 1 / D), the mean over the towers: (B,).

    m is the mean, and v the mean square, of the similarities of a tower's texts with each other. a
    is `mean_weight`, and b is `second_moment_weight`. This is one number for the whole batch. Each
    of the (B,) numbers is that number, and so is the mean. The loss is meant to go with another
    objective: give `fit` two sources with the same texts. Zhang et al. 2017,
    https://arxiv.org/abs/1708.06320; as ST's GlobalOrthogonalRegularizationLoss.

    Args:
        embeddings: (T, B, D).
        labels: None.
        similarity: "cosine" or "dot".
        mean_weight, second_moment_weight: the factors of the two terms.
        aggregation: "mean" or "sum" over the towers.

    Raises:
        ValueError: for another aggregation.

    >>> same = jnp.array([[[1.0, 0.0], [1.0, 0.0]]])  # m is 1, and v - 1 / D is 1/2
    >>> global_orthogonal_regularization(same, None).tolist()
    [1.5, 1.5]
    """
    if aggregation not in ("mean", "sum"):
        raise ValueError(f"aggregation is {aggregation!r}; choose one of: mean, sum")
    compare = similarity_named(similarity)[0]
    towers, batch, dim = embeddings.shape
    num_pairs = max(1, batch * (batch - 1))

    def of_tower(vectors):
        similarities = jnp.where(jnp.eye(batch, dtype=bool), 0.0, compare(vectors, vectors))
        mean = jnp.sum(similarities) / num_pairs
        second_moment = jnp.sum(jnp.square(similarities)) / num_pairs
        excess = jax.nn.relu(second_moment - 1.0 / dim)
        return mean_weight * jnp.square(mean) + second_moment_weight * excess

    total = jnp.sum(jax.vmap(of_tower)(embeddings))
    return jnp.full(batch, total / towers if aggregation == "mean" else total)
