"""Matrix products of operands in the model's dtype, with sums in float32. All have gradients,
except the product of int8."""

import functools
import pathlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Int8

from jsbert.arrays import AnyArray
from jsbert.encoders.casting import round_to_int8


def product(
    spec: str, a: Float[AnyArray, "..."], b: Float[AnyArray, "..."], dtype: DTypeLike
) -> Float[Array, "..."]:
    """`jnp.einsum(spec, a, b)` of operands rounded to `dtype`. The sums and the result are at least
    float32.

    In bfloat16 the incoming gradient is rounded as well, so that the two products of the backward
    pass are as fast as the forward one. JAX's own rule would multiply float32 with bfloat16, in
    float32. The gradients have the dtypes of `a` and `b`.
    """
    dtype = jnp.dtype(dtype)
    sum_dtype = jnp.promote_types(dtype, jnp.float32)
    if dtype == sum_dtype:
        return jnp.einsum(spec, a, b, preferred_element_type=sum_dtype)
    return _rounded(spec, dtype, sum_dtype, a, b)


@jax.custom_jvp
def int8_product(
    rows: Float[Array, "rows inputs"],
    kernel: Int8[Array, "inputs outputs"],
    kernel_scale: Float[Array, " outputs"],
) -> Float[Array, "rows outputs"]:
    """`rows @ (kernel * kernel_scale)`, with each row rounded to int8 by its own scale.

    Raises:
        TypeError: under differentiation. The gradient of rounding is 0, which nobody wants.
    """
    rounded, scale = round_to_int8(rows)
    if int8_is_fast():
        total = jnp.dot(rounded, kernel, preferred_element_type=jnp.int32).astype(jnp.float32)
    else:
        operands = rounded.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)  # holds every int8
        total = jnp.dot(*operands, preferred_element_type=jnp.float32)
    return total * scale * kernel_scale[None]


def int8_is_fast() -> bool:
    """Whether XLA multiplies int8 with special instructions of this machine's CPU. Before jax 0.12
    XLA used only those of AMX; since then it uses all kinds. Without such instructions bfloat16
    operands take two thirds of the time of int8. Accelerators follow the CPU of their host; which
    form is faster on accelerators is not measured."""
    return jax.__version_info__ >= (0, 12) or "amx_int8" in cpu_features()


@functools.cache
def cpu_features() -> frozenset[str]:
    """The features of the processor under Linux's names ("avx2", "avx512_bf16", ...); empty if they
    cannot be read."""
    try:
        lines = (
            pathlib.Path("/proc/cpuinfo").read_text(encoding="utf8", errors="replace").splitlines()
        )
    except OSError:
        return frozenset()
    return frozenset(
        next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ())
    )


@int8_product.defjvp
def _no_gradient(primals, tangents):
    raise TypeError(
        "int8 products have no gradient; open the model with dtype='float32' or 'bfloat16'"
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _rounded(spec, dtype, sum_dtype, a, b):
    return jnp.einsum(spec, a.astype(dtype), b.astype(dtype), preferred_element_type=sum_dtype)


def _forward(spec, dtype, sum_dtype, a, b):
    like = tuple(jnp.zeros((), x.dtype) for x in (a, b))  # their dtypes, for the backward pass
    a, b = a.astype(dtype), b.astype(dtype)
    return _rounded(spec, dtype, sum_dtype, a, b), (a, b, like)


def _backward(spec, dtype, sum_dtype, saved, gradient):
    (a, b, like), gradient = saved, gradient.astype(dtype)
    left, right, out = spec.replace("->", ",").split(",")
    of_a = jnp.einsum(f"{out},{right}->{left}", gradient, b, preferred_element_type=sum_dtype)
    of_b = jnp.einsum(f"{left},{out}->{right}", a, gradient, preferred_element_type=sum_dtype)
    return of_a.astype(like[0].dtype), of_b.astype(like[1].dtype)


_rounded.defvjp(_forward, _backward)
