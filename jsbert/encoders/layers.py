"""The parts that all encoder families share: linear layers, LayerNorms, embeddings, and the
function that runs layers one after the other."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jsbert.activations import ACTIVATIONS
from jsbert.compute import Compute
from jsbert.config import EncoderConfig
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.product import int8_product, product


class Linear(nnx.Linear):
    """A linear layer over the tokens of all rows at once: (B, L, D) as (B * L, D).

    With one contracted axis the gradient of the kernel is a plain matrix product. With two
    contracted axes XLA on the CPU first copies an operand transposed, and takes twice as long.
    """

    kernel_scale: nnx.Param
    compute: Compute

    def __call__(  # type: ignore[override]  # flax takes further options
        self, x: Float[Array, "... inputs"]
    ) -> Float[Array, "... outputs"]:
        bias = None if self.bias is None else self.bias[...]
        scale = self.kernel_scale[...] if self.compute.dtype == "int8" else None
        return _linear(x, self.compute, self.kernel[...], bias, scale)


def joined(
    layers: Sequence["Linear"], x: Float[Array, "batch length inputs"]
) -> tuple[Float[Array, "batch length outputs"], ...]:
    """The outputs of linear layers of one width that read the same input.

    If layers are scanned, `joined` computes one product with all kernels: one product compiles
    faster than several, and reads `x` once. Elsewhere (on a CPU) the layers run one by one, because
    stacking the kernels would copy them.
    """
    compute = layers[0].compute
    if not compute.scans or compute.dtype == "int8":
        return tuple(layer(x) for layer in layers)
    kernel, bias = _kernels(layers)
    y = product("bld,cde->cble", x, kernel, compute.dtype)
    y = y if bias is None else y + bias[:, None, None]
    return tuple(y.astype(compute.activation_dtype))


def in_heads(
    layers: Sequence["Linear"], x: Float[Array, "batch length inputs"], size: int
) -> tuple[Float[Array, "batch heads length size"], ...]:
    """`joined`, with each output cut into heads of `size` entries. The axis of the heads is in
    front of the axis of the tokens, so that both products of attention are plain ones.

    If layers are scanned, the product itself writes this order of axes. A product followed by a
    transposition would write each array twice.
    """
    compute = layers[0].compute
    if not compute.scans or compute.dtype == "int8":
        return tuple(_cut(layer(x), size) for layer in layers)
    kernel, bias = _kernels(layers)
    y = product("bld,cdhe->cbhle", x, kernel.reshape(*kernel.shape[:2], -1, size), compute.dtype)
    y = y if bias is None else y + bias.reshape(len(layers), 1, -1, 1, size)
    return tuple(y.astype(compute.activation_dtype))


def three_in_heads(
    layer: "Linear", x: Float[Array, "batch length inputs"], size: int
) -> tuple[Float[Array, "batch heads length size"], ...]:
    """`in_heads` of one layer whose output is query, key and value side by side."""
    compute = layer.compute
    if not compute.scans or compute.dtype == "int8":
        return tuple(_cut(part, size) for part in jnp.split(layer(x), 3, axis=-1))
    kernel = layer.kernel[...].reshape(x.shape[-1], 3, -1, size)
    y = product("bld,dche->cbhle", x, kernel, compute.dtype)
    y = y if layer.bias is None else y + layer.bias[...].reshape(3, 1, -1, 1, size)
    return tuple(y.astype(compute.activation_dtype))


def from_heads(
    layer: "Linear", x: Float[Array, "batch heads length size"]
) -> Float[Array, "batch length outputs"]:
    """The output of a linear layer that reads all heads of a token side by side."""
    batch, heads, length, size = x.shape
    compute = layer.compute
    if not compute.scans or compute.dtype == "int8":
        return layer(x.transpose(0, 2, 1, 3).reshape(batch, length, heads * size))
    kernel = layer.kernel[...].reshape(heads, size, -1)
    y = product("bhle,heo->blo", x, kernel, compute.dtype)
    y = y if layer.bias is None else y + layer.bias[...][None, None]
    return y.astype(compute.activation_dtype)


def _cut(x, size):
    # (B, L, heads * size) -> (B, heads, L, size)
    return x.reshape(*x.shape[:2], -1, size).transpose(0, 2, 1, 3)


def _kernels(layers):
    """(the kernels of the layers, stacked; their biases, stacked, or None without biases)."""
    has_bias = layers[0].bias is not None
    bias = jnp.stack([layer.bias[...] for layer in layers]) if has_bias else None
    return jnp.stack([layer.kernel[...] for layer in layers]), bias


def _linear(x, compute, kernel, bias=None, kernel_scale=None):
    rows = x.reshape(-1, x.shape[-1])
    if compute.dtype == "int8":
        rows = int8_product(rows.astype(jnp.float32), kernel, kernel_scale)
    else:
        rows = product("bi,io->bo", rows, kernel, compute.dtype)
    if bias is not None:
        rows = rows + bias[None]
    return rows.astype(compute.activation_dtype).reshape(*x.shape[:-1], -1)


class LayerNorm(nnx.LayerNorm):
    """A LayerNorm that computes in at least float32 and returns the activations' dtype."""

    compute: Compute

    def __call__(  # type: ignore[override]  # flax takes further options
        self, x: Float[Array, "... width"]
    ) -> Float[Array, "... width"]:
        normed = super().__call__(x.astype(self.compute.sum_dtype))
        return normed.astype(self.compute.activation_dtype)


class RMSNorm(nnx.RMSNorm):
    """An RMSNorm that computes in at least float32 and returns the activations' dtype."""

    compute: Compute

    def __call__(  # type: ignore[override]  # flax takes further options
        self, x: Float[Array, "... width"]
    ) -> Float[Array, "... width"]:
        normed = super().__call__(x.astype(self.compute.sum_dtype))
        return normed.astype(self.compute.activation_dtype)


def linear(
    config: EncoderConfig, inputs: int, outputs: int, rngs: nnx.Rngs, *, use_bias: bool = True
) -> Linear:
    """A linear layer that computes as the config says."""
    init = _normal(config.initializer_range)
    layer = Linear(inputs, outputs, use_bias=use_bias, kernel_init=init, rngs=rngs)
    layer.compute = config.compute
    if config.compute.dtype == "int8":  # see `casting.in_dtype`
        layer.kernel_scale = nnx.Param(jnp.ones(outputs))
    return layer


def layer_norm(
    config: EncoderConfig, width: int, rngs: nnx.Rngs, *, use_bias: bool = True
) -> LayerNorm:
    """A LayerNorm with the config's epsilon."""
    # The fast variance, E[x^2] - E[x]^2, loses two digits if the mean is large.
    # For inputs in bfloat16, which has three digits, it is as good as the slow one.
    fast = config.compute.activation_dtype == jnp.bfloat16
    options = {"epsilon": config.layer_norm_eps, "use_bias": use_bias, "use_fast_variance": fast}
    layer = LayerNorm(width, **options, rngs=rngs)
    layer.compute = config.compute
    return layer


def rms_norm(config: EncoderConfig, width: int, rngs: nnx.Rngs) -> RMSNorm:
    """An RMSNorm with the config's epsilon: a LayerNorm without mean and bias."""
    layer = RMSNorm(width, epsilon=config.layer_norm_eps, rngs=rngs)
    layer.compute = config.compute
    return layer


def embedding(config: EncoderConfig, count: int, width: int, rngs: nnx.Rngs) -> nnx.Embed:
    """A table of `count` vectors."""
    init = _normal(config.initializer_range)
    return nnx.Embed(count, width, dtype=config.compute.sum_dtype, embedding_init=init, rngs=rngs)


def activated(
    config: EncoderConfig, x: Float[Array, "batch length width"]
) -> Float[Array, "batch length width"]:
    """The config's activation function, computed in at least float32."""
    compute = config.compute
    return ACTIVATIONS[config.hidden_act](x.astype(compute.sum_dtype)).astype(
        compute.activation_dtype
    )


def added(
    config: EncoderConfig,
    hidden: Float[Array, "batch length dim"],
    update: Float[Array, "batch length dim"],
) -> Float[Array, "batch length dim"]:
    """`hidden` + `update`, summed in at least float32."""
    return hidden.astype(config.compute.sum_dtype) + update.astype(config.compute.sum_dtype)


def vectors_of(
    table: nnx.Embed, ids: Int[Array, "batch length"] | Float[Array, "batch length dim"]
) -> Float[Array, "batch length dim"]:
    """The rows of `table` at `ids`. Floats are word vectors already; they come back as they are."""
    return table(ids) if jnp.issubdtype(ids.dtype, jnp.integer) else ids


def counted_positions(
    ids: Int[Array, "batch length"] | Float[Array, "batch length dim"],
    mask: Int[Array, "batch length"] | Bool[Array, "batch length"],
    positions: Int[Array, "batch length"] | None,
    *,
    padding_id: int,
) -> Int[Array, "batch length"]:
    """RoBERTa's positions: the tokens of a row count from `padding_id` + 1, whether the padding is
    on the left or on the right.

    Padding has the position `padding_id` and is not counted. The same goes for a padding token that
    a text spells out, as in the reference. Packed rows come with `positions`; there the count
    begins again at the first token of each text.
    """
    counted = mask != 0
    if jnp.issubdtype(ids.dtype, jnp.integer):
        counted &= ids != padding_id
    count = jnp.cumsum(counted, axis=1)
    if positions is not None:
        first = jnp.maximum(jnp.arange(count.shape[1])[None] - positions, 0)
        count = count - jnp.take_along_axis(count - counted, first, axis=1)
    return count * counted + padding_id


def in_turn(
    layers: Iterable[nnx.Module],
    hidden: Float[Array, "batch length dim"],
    *,
    compute: Compute,
    dropout: Dropout,
    **context: Any,
) -> tuple[Float[Array, "batch length dim"], ...]:
    """Run layers one after the other and return `hidden`, then the output of each layer.

    If `compute.scans`, the layers that repeat run in `jax.lax.scan`. Then one repetition is
    compiled, not each layer.

    Args:
        layers: each is called as layer(hidden, dropout=..., **context).
        hidden: the input of the first layer.
        compute: if its `remat` is set, the gradient recomputes what is inside a layer.
        dropout: each layer draws its own masks.
        context: further arguments of each layer.
    """
    layers = list(layers)

    def run(layer, number, hidden):
        return layer(hidden, dropout=dropout.of_layer(number), **context).astype(hidden.dtype)

    def step(layer, number, hidden):
        once = functools.partial(run, layer, number)
        return (jax.checkpoint(once) if compute.remat else once)(hidden)

    # The layers before the repetition, one by one; without a scan, all of them.
    start, period, times = repetition(layers) if compute.scans else (len(layers), 1, 0)
    end = start + period * times
    stages = [hidden.astype(compute.activation_dtype)]
    for number in range(start):
        stages.append(step(layers[number], number, stages[-1]))
    # The repetition. The scan steps over the turns; a turn runs `period` layers.
    if times:
        graphs, params = zip(
            *(_stacked(layers[start + i : end : period]) for i in range(period)), strict=True
        )

        def repeat(hidden, turn):
            first, params = turn
            outputs = []
            for i, (graph, own) in enumerate(zip(graphs, params, strict=True)):
                layer = graph if own is None else nnx.merge(graph, own)
                hidden = step(layer, first + i, hidden)
                outputs.append(hidden)
            return hidden, outputs

        last, outputs = jax.lax.scan(repeat, stages[-1], (jnp.arange(start, end, period), params))
        stages += [outputs[i][turn] for turn in range(times) for i in range(period)]
        stages[-1] = last
    # The layers behind it.
    for number in range(end, len(layers)):
        stages.append(step(layers[number], number, stages[-1]))
    return tuple(stages)


def repetition(layers: Sequence[nnx.Module]) -> tuple[int, int, int]:
    """(start, period, times): from `start` on, `period` layers repeat `times` times.

    Several such triples can describe the layers. The one returned needs the fewest layers to be
    compiled: those outside the repetition plus those of one turn. It is (0, 1, 12) for BERT and
    (1, 3, 7) for ModernBERT.
    """
    kinds = [nnx.graphdef(layer) for layer in layers]
    best = (len(layers), len(layers), 1, 0)
    for start in range(len(layers)):
        for period in range(1, (len(layers) - start) // 2 + 1):
            times = 1
            while (
                kinds[start : start + period]
                == kinds[start + times * period : start + (times + 1) * period]
            ):
                times += 1
            num_traced = len(layers) - period * (times - 1)
            if times > 1 and num_traced < best[0]:
                best = (num_traced, start, period, times)
    return best[1:]


def _stacked(layers):
    """(the graph that equal layers share; their params, stacked along a new first axis). If all
    layers are one object: (that layer, None)."""
    if all(layer is layers[0] for layer in layers):
        return layers[0], None
    graphs, states = zip(*(nnx.split(layer) for layer in layers), strict=True)
    return graphs[0], jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


@functools.cache  # one object for each deviation; else the graphs of like layers would differ
def _normal(deviation):
    return nnx.initializers.normal(deviation)
