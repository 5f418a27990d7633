"""What several rooms do with arrays."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

AnyArray = jax.Array | np.ndarray
"""An array of jax or of numpy."""


def at_least_float32(
    x: Num[AnyArray, "*shape"] | Bool[AnyArray, "*shape"],
) -> Float[Array, "*shape"]:
    """`x`, numbers or truth values, as an array of float32, or of a wider dtype if it has one.
    Squares of float16 overflow above 255."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def normalize(vectors: Num[AnyArray, "*batch dim"]) -> Float[Array, "*batch dim"]:
    """`vectors` scaled to Euclidean length 1; a zero vector stays zero, and its gradient finite.

    In at least float32. Lengths under 1e-12 count as 1e-12, as in torch.nn.functional.normalize.
    """
    vectors = at_least_float32(vectors)
    squared = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors / jnp.sqrt(jnp.maximum(squared, 1e-24))
