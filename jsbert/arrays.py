"""What several rooms do with arrays."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Num


def at_least_float32(x: Num[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """`x` as an array of float32, or of a wider dtype if it has one: squares of float16 overflow above 255."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
