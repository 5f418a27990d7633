"""Casts of an encoder's matrices: to the dtype of its products, and back to float32."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, PyTree


def in_dtype(params: PyTree, dtype: str) -> PyTree:
    """An encoder's float params in the form that a model of `dtype` holds: the kernels of linear
    layers in `dtype`, all else unchanged.

    With "int8" the params of a linear layer, {"kernel" (I, O)[, "bias"]}, get an int8 kernel and a
    new entry "kernel_scale" (O,), float32: the real kernel is kernel * kernel_scale, column by
    column. A kernel that is int8 already stays.
    """
    if dtype == "float32":
        return params
    return _map_linear(
        _quantized if dtype == "int8" else functools.partial(_with_kernel_in, dtype), params
    )


def in_float32(params: PyTree) -> PyTree:
    """The params with every kernel in float32. The values stay those that the model computes with:
    an int8 kernel is multiplied by its scale."""
    return _map_linear(_widened, params)


def round_to_int8(
    x: Float[Array, "*rows width"],
) -> tuple[Int8[Array, "*rows width"], Float[Array, "*rows 1"]]:
    """(q, scale): `x` is about q * scale. The scale of a row makes its largest absolute entry
    127."""
    scale = jnp.max(jnp.abs(x), axis=-1, keepdims=True) / 127
    scale = jnp.where(scale == 0, 1.0, scale)  # a row of zeros stays zero
    return jnp.round(x / scale).astype(jnp.int8), scale


def _map_linear(change: Callable[[Mapping], Mapping], params: Any) -> Any:
    """The tree with `change` applied to the params of each linear layer."""
    if not isinstance(params, Mapping):
        return params
    if "kernel" in params:
        return change(params)
    return {name: _map_linear(change, entry) for name, entry in params.items()}


def _with_kernel_in(dtype, linear):
    return linear | {"kernel": linear["kernel"].astype(jnp.dtype(dtype))}


def _quantized(linear):
    if "kernel_scale" in linear:
        return linear
    kernel, scale = _by_column(linear["kernel"])
    return linear | {"kernel": kernel, "kernel_scale": scale}


@jax.jit
def _by_column(kernel):
    quantized, scale = round_to_int8(kernel.astype(jnp.float32).T)
    return quantized.T, scale[:, 0]


def _widened(linear):
    kernel = linear["kernel"].astype(jnp.float32)
    if "kernel_scale" not in linear:
        return linear | {"kernel": kernel}
    rest = {name: leaf for name, leaf in linear.items() if name != "kernel_scale"}
    return rest | {"kernel": kernel * linear["kernel_scale"][None]}
