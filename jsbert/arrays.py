"""Functions of arrays that several modules use."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

AnyArray = jax.Array | np.ndarray
"""An array of jax or of numpy."""


def at_least_float32(
    x: Num[AnyArray, "*shape"] | Bool[AnyArray, "*shape"],
) -> Float[Array, "*shape"]:
    """`x`, numbers or booleans, as float32, or as its own dtype if that is wider. Squares of
    float16 would overflow above 255."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def normalize(vectors: Num[AnyArray, "*batch dim"]) -> Float[Array, "*batch dim"]:
    """`vectors`, scaled to Euclidean length 1, in at least float32. A zero vector stays zero, and
    its gradient is finite.

    Lengths below 1e-12 count as 1e-12, as in torch.nn.functional.normalize.
    """
    vectors = at_least_float32(vectors)
    squared = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors / jnp.sqrt(jnp.maximum(squared, 1e-24))
