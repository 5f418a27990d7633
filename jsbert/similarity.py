"""Similarities of vectors, as matrices and pairwise. Larger means more similar.

Names and results are those of sentence_transformers.util. The functions take anything that becomes
a float array. One vector counts as a batch of one.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsbert.arrays import at_least_float32, normalize

Matrix = Float[Array, "rows columns"]
Column = Float[Array, " rows"]


def cos_sim(a, b) -> Matrix:
    """Cosine of each row of `a` (Q, D) with each of `b` (N, D): (Q, N), from -1 to 1. The cosine
    with a zero vector is 0.

    >>> cos_sim([[1.0, 0.0]], [[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]).tolist()
    [[1.0, 0.0, 0.0]]
    """
    return dot_score(normalize(_rows(a)), normalize(_rows(b)))


def dot_score(a, b) -> Matrix:
    """Dot product of each row of `a` (Q, D) with each of `b` (N, D): (Q, N)."""
    a, b = _same_width(_rows(a), _rows(b))
    return jnp.matmul(a, b.T, precision="highest")


def euclidean_sim(a, b) -> Matrix:
    """Negative Euclidean distance of each row of `a` (Q, D) from each of `b` (N, D): (Q, N)."""
    return _by_row(
        lambda row, rows: -jnp.sqrt(jnp.sum(jnp.square(row[None] - rows), axis=-1)), a, b
    )


def manhattan_sim(a, b) -> Matrix:
    """Negative Manhattan distance of each row of `a` (Q, D) from each of `b` (N, D): (Q, N)."""
    return _by_row(lambda row, rows: -jnp.sum(jnp.abs(row[None] - rows), axis=-1), a, b)


def pairwise_cos_sim(a, b) -> Column:
    """Cosine of a[i] with b[i]: (N,)."""
    return pairwise_dot_score(normalize(_rows(a)), normalize(_rows(b)))


def pairwise_dot_score(a, b) -> Column:
    """Dot product of a[i] with b[i]: (N,)."""
    a, b = _same_shape(a, b)
    return jnp.sum(a * b, axis=-1)


def pairwise_euclidean_sim(a, b) -> Column:
    """Negative Euclidean distance of a[i] from b[i]: (N,)."""
    a, b = _same_shape(a, b)
    return -jnp.sqrt(jnp.sum(jnp.square(a - b), axis=-1))


def pairwise_manhattan_sim(a, b) -> Column:
    """Negative Manhattan distance of a[i] from b[i]: (N,)."""
    a, b = _same_shape(a, b)
    return -jnp.sum(jnp.abs(a - b), axis=-1)


SIMILARITIES: Mapping[str, tuple[Callable, Callable]] = MappingProxyType(
    {
        "cosine": (cos_sim, pairwise_cos_sim),
        "dot": (dot_score, pairwise_dot_score),
        "euclidean": (euclidean_sim, pairwise_euclidean_sim),
        "manhattan": (manhattan_sim, pairwise_manhattan_sim),
    }
)
"""Matrix form and pairwise form of each similarity, under the names of `similarity_fn_name`."""


def similarity_name(function: Callable) -> str:
    """The name in `SIMILARITIES` of a matrix function, or of a model's method `similarity`.

    Raises:
        ValueError: for another function.
    """
    own = getattr(getattr(function, "__self__", None), "similarity_fn_name", None)
    if getattr(function, "__name__", "") == "similarity" and own in SIMILARITIES:
        return str(own)
    for name, (matrix, _) in SIMILARITIES.items():
        if function is matrix:
            return name
    raise ValueError(
        f"the similarity is {function!r}; give jsbert.util's cos_sim, dot_score, euclidean_sim or "
        "manhattan_sim"
    )


def _rows(x):
    first = x[0] if isinstance(x, (list, tuple)) and len(x) else x
    if isinstance(first, str) or getattr(getattr(first, "dtype", None), "kind", "") in ("U", "T"):
        raise TypeError(
            f"the similarity is of vectors, such as `encode` returns; given the text {first!r:.40}"
        )
    if hasattr(first, "detach"):  # tensors of torch, perhaps with a gradient or on another device
        x = jnp.stack([_of_tensor(one) for one in x]) if x is not first else _of_tensor(x)
    x = at_least_float32(x)
    if x.ndim not in (1, 2):
        raise ValueError(
            f"vectors have shape {x.shape}; give one vector (D,) or a batch of them (N, D)"
        )
    return jnp.atleast_2d(x)


def _of_tensor(tensor):
    return jnp.asarray(tensor.detach().cpu().float().numpy())


def _same_width(a, b):
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"vectors of {a.shape[1]} and of {b.shape[1]} dimensions cannot be compared"
        )
    return a, b


def _same_shape(a, b):
    a, b = _rows(a), _rows(b)
    if a.shape != b.shape:
        raise ValueError(
            f"pairwise similarity needs arrays of one shape, not {a.shape} and {b.shape}"
        )
    return a, b


def _by_row(compare, a, b):
    # One row of `a` at a time: the differences then take (N, D), not (Q, N, D). The formula
    # a^2 - 2ab + b^2 would lose digits by cancellation.
    a, b = _same_width(_rows(a), _rows(b))
    return jax.lax.map(lambda row: compare(row, b), a)
