"""Matrix products in the model's dtype, with sums in float32, forwards and backwards."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, DTypeLike, Float


def product(spec: str, a: Float[ArrayLike, "..."], b: Float[ArrayLike, "..."], dtype: DTypeLike) -> Float[Array, "..."]:
    """`jnp.einsum(spec, a, b)` of operands rounded to `dtype`; the result, and both gradients, at least float32.

    In bfloat16 the gradient that comes back is rounded as well, so that the two products of the backward pass are as
    fast as the forward one: JAX's own rule would multiply float32 with bfloat16, in float32.
    """
    dtype = jnp.dtype(dtype)
    wide = jnp.promote_types(dtype, jnp.float32)
    if dtype == wide:
        return jnp.einsum(spec, a, b, preferred_element_type=wide)
    return _rounded(spec, dtype, wide, a, b)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _rounded(spec, dtype, wide, a, b):
    return jnp.einsum(spec, a.astype(dtype), b.astype(dtype), preferred_element_type=wide)


def _forward(spec, dtype, wide, a, b):
    like = tuple(jnp.zeros((), x.dtype) for x in (a, b))  # their dtypes, for the backward pass
    a, b = a.astype(dtype), b.astype(dtype)
    return _rounded(spec, dtype, wide, a, b), (a, b, like)


def _backward(spec, dtype, wide, saved, gradient):
    (a, b, like), gradient = saved, gradient.astype(dtype)
    left, right, out = spec.replace("->", ",").split(",")
    of_a = jnp.einsum(f"{out},{right}->{left}", gradient, b, preferred_element_type=wide)
    of_b = jnp.einsum(f"{left},{out}->{right}", a, gradient, preferred_element_type=wide)
    return of_a.astype(like[0].dtype), of_b.astype(like[1].dtype)


_rounded.defvjp(_forward, _backward)
