"""What all families are built of: linear layers, LayerNorms, embeddings, and running layers in
turn."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jsbert.config import EncoderConfig
from jsbert.encoders.product import int8_product, product


class Linear(nnx.Linear):
    """A linear layer over the tokens of all rows at once, (B, L, D) as (B * L, D).

    With one contracted axis the kernel's gradient is a plain matrix product; with two, XLA on the
    CPU first copies an operand transposed, and takes twice as long.
    """

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        rows, kernel = x.reshape(-1, x.shape[-1]), self.kernel[...]
        if self.dtype == jnp.int8:
            rows = int8_product(rows, kernel, self.kernel_scale[...])
        else:
            rows = product("bi,io->bo", rows, kernel, self.dtype)
        if self.use_bias:
            rows = rows + self.bias[None]
        return rows.reshape(*x.shape[:-1], -1)


def linear(
    config: EncoderConfig, inputs: int, outputs: int, rngs: nnx.Rngs, *, use_bias: bool = True
) -> Linear:
    """A linear layer whose product is in the config's dtype."""
    layer = Linear(
        inputs,
        outputs,
        use_bias=use_bias,
        dtype=jnp.dtype(config.compute.dtype),
        kernel_init=nnx.initializers.normal(config.initializer_range),
        rngs=rngs,
    )
    if config.compute.dtype == "int8":  # see `casting.in_dtype`
        layer.kernel_scale = nnx.Param(jnp.ones(outputs))
    return layer


def layer_norm(
    config: EncoderConfig, width: int, rngs: nnx.Rngs, *, use_bias: bool = True
) -> nnx.LayerNorm:
    """A LayerNorm with the config's epsilon."""
    # The fast variance, E[x^2] - E[x]^2, loses two digits where the mean is large.
    return nnx.LayerNorm(
        width, epsilon=config.layer_norm_eps, use_bias=use_bias, use_fast_variance=False, rngs=rngs
    )


def rms_norm(config: EncoderConfig, width: int, rngs: nnx.Rngs) -> nnx.RMSNorm:
    """An RMSNorm with the config's epsilon: a LayerNorm without mean and bias."""
    return nnx.RMSNorm(width, epsilon=config.layer_norm_eps, rngs=rngs)


def embedding(config: EncoderConfig, count: int, width: int, rngs: nnx.Rngs) -> nnx.Embed:
    """A table of `count` vectors."""
    init = nnx.initializers.normal(config.initializer_range)
    return nnx.Embed(count, width, dtype=config.compute.sum_dtype, embedding_init=init, rngs=rngs)


def vectors_of(
    table: nnx.Embed, ids: Int[Array, "batch length"] | Float[Array, "batch length dim"]
) -> Float[Array, "batch length dim"]:
    """The rows of `table` at `ids`; floats are word vectors already, and come back as they are."""
    return table(ids) if jnp.issubdtype(ids.dtype, jnp.integer) else ids


def counted_positions(
    ids: Int[Array, "batch length"] | Float[Array, "batch length dim"],
    mask: Int[Array, "batch length"] | Bool[Array, "batch length"],
    positions: Int[Array, "batch length"] | None,
    *,
    padding_id: int,
) -> Int[Array, "batch length"]:
    """RoBERTa's positions: a row's tokens are counted from `padding_id` + 1, wherever the padding
    stands.

    A token that is the padding token itself, which a text can spell out, has the position
    `padding_id` and is not counted: so the reference does. In packed rows, which have `positions`,
    it is counted like any other.
    """
    if positions is not None:
        return positions + padding_id + 1
    counted = mask != 0
    if jnp.issubdtype(ids.dtype, jnp.integer):
        counted &= ids != padding_id
    return jnp.cumsum(counted, axis=1) * counted + padding_id


def in_turn(
    layers: Iterable[Callable],
    hidden: Float[Array, "batch length dim"],
    *,
    remat: bool,
    **context: Any,
) -> tuple[Float[Array, "batch length dim"], ...]:
    """`hidden`, and what each layer makes of what the one before made; each is called with
    `context`.

    With `remat` a gradient computes each layer anew.
    """
    stages = [hidden]
    for layer in layers:
        run = functools.partial(layer, **context)
        stages.append(jax.checkpoint(run)(stages[-1]) if remat else run(stages[-1]))
    return tuple(stages)
