"""The distances and similarities of the losses, under the names of their options.

They compare row i of `a` (B, D) with row i of `b`, in at least float32. Their gradients are finite
everywhere. The distances add no epsilon. The contrastive losses of sentence-transformers use
torch's `pairwise_distance`, which adds 1e-6 to every difference.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax.numpy as jnp
from jaxtyping import Array, Float

from jsbert.arrays import AnyArray, at_least_float32
from jsbert.similarity import SIMILARITIES, pairwise_cos_sim

Vectors = Float[AnyArray, "batch dim"]
Column = Float[Array, " batch"]


def euclidean_distance(a: Vectors, b: Vectors) -> Column:
    """The Euclidean distance of a[i] from b[i]. The gradient is 0 where both are equal."""
    squared = jnp.sum(jnp.square(at_least_float32(a) - at_least_float32(b)), axis=-1)
    apart = squared > 0
    # Take the root of 1 in place of 0: the slope of sqrt is infinite at 0, and the outer `where`
    # alone would turn it into NaN in the gradient.
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)


def manhattan_distance(a: Vectors, b: Vectors) -> Column:
    """The Manhattan distance of a[i] from b[i]."""
    return jnp.sum(jnp.abs(at_least_float32(a) - at_least_float32(b)), axis=-1)


def cosine_distance(a: Vectors, b: Vectors) -> Column:
    """One minus the cosine of a[i] and b[i], 0 to 2. It is 1 if one of them is zero."""
    return 1.0 - pairwise_cos_sim(a, b)


DISTANCES: Mapping[str, Callable[[Vectors, Vectors], Column]] = MappingProxyType(
    {"euclidean": euclidean_distance, "cosine": cosine_distance, "manhattan": manhattan_distance}
)
"""Distances of pairs, under the names that `distance` takes."""

PRODUCTS: Mapping[str, tuple[Callable, Callable]] = MappingProxyType(
    {name: SIMILARITIES[name] for name in ("cosine", "dot")}
)
"""Matrix form and pairwise form of each similarity, under the names that `similarity` takes."""


def distance_named(name: str) -> Callable[[Vectors, Vectors], Column]:
    """The distance of pairs with this name. Raise ValueError for an unknown name."""
    return _named(DISTANCES, "distance", name)


def similarity_named(name: str) -> tuple[Callable, Callable]:
    """The matrix form and the pairwise form of the similarity with this name. Raise ValueError for
    an unknown name."""
    return _named(PRODUCTS, "similarity", name)


def _named(table, option, name):
    if name not in table:
        raise ValueError(f"{option} is {name!r}; choose one of: {', '.join(table)}")
    return table[name]
