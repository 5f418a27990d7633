"""Attention as XLA computes it fast, shared by the families."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float, Int

from jsbert.arrays import AnyArray
from jsbert.compute import Compute
from jsbert.config import EncoderConfig
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.product import product


@dataclasses.dataclass(frozen=True)
class Seen:
    """Which tokens of its row a token attends to.

    Attributes:
        mask: nonzero where there is a token; in packed rows the number of the token's text.
        packed: whether a row holds several texts, which do not see each other.
        causal: whether a token sees only itself and the tokens before it.
        window: given, how far away a token may be.
        made: the biases, if they are computed before the layers.
    """

    mask: Int[AnyArray, "batch length"] | Bool[AnyArray, "batch length"]
    packed: bool = False
    causal: bool = False
    window: int | None = None
    made: tuple[Float[Array, "#batch 1 #queries length"], ...] = ()

    @classmethod
    def of(
        cls,
        mask: Int[AnyArray, "batch length"] | Bool[AnyArray, "batch length"],
        positions: Int[Array, "batch length"] | None,
        compute: Compute,
        *,
        causal: bool = False,
        window: int | None = None,
    ) -> "Seen":
        """What is seen in the rows of a forward pass, for all layers.

        Without a scan the biases are computed here, once. In a scan each layer computes them again
        from the mask, which takes less memory traffic than reading them.

        Args:
            mask, positions: as for `encoders.forward`.
            compute: of the config.
            causal, window: as for the attributes.
        """
        seen = cls(mask, positions is not None, causal, window)
        if compute.scans:
            return seen
        return dataclasses.replace(seen, made=seen.biases(compute.sum_dtype))

    def biases(self, dtype: DTypeLike) -> tuple[Float[Array, "#batch 1 #queries length"], ...]:
        """What to add to the scores of a query (axis 2) and a key (axis 3): 0 where the query sees
        the key, else the smallest number. Not -inf, so that a row of padding has finite vectors."""
        if self.made:
            return self.made
        if self.packed:
            seen = [self.mask[:, None, :, None] == self.mask[:, None, None, :]]
        else:
            seen = [self.mask[:, None, None, :] != 0]
        places = jnp.arange(self.mask.shape[1])
        distance = (places[:, None] - places[None, :])[None, None]
        if self.causal:
            seen.append(distance >= 0)
        if self.window is not None:
            seen.append(jnp.abs(distance) <= self.window)
        least = jnp.finfo(dtype).min
        return tuple(jnp.where(one, 0.0, least).astype(dtype) for one in seen)


def attention(
    query: Float[Array, "batch heads length size"],
    key: Float[Array, "batch heads length size"],
    value: Float[Array, "batch heads length size"],
    seen: Seen,
    *,
    config: EncoderConfig,
    dropout: Dropout,
    bias: Float[Array, "#batch heads length length"] | None = None,
) -> Float[Array, "batch heads length size"]:
    """Each token's mixture of the values: the softmax, over the tokens that it sees, of
    query * key / sqrt(size) + bias.

    Args:
        query, key, value: by heads, as `layers.in_heads` returns them.
        seen: which tokens a token sees.
        config: says how attention is computed, and the rate of the dropout.
        dropout: of the softmax's weights.
        bias: added to the scores.
    """
    compute = config.compute
    how = "eager" if dropout.words is not None else compute.attention(query.shape[2])
    if how == "flash" and bias is None and seen.window is None:
        return _flash(query, key, value, seen, config)
    # "auto" makes no array of (B, H, L, L) for a fused kernel.
    if how in ("xla", "cudnn") and (bias is None or compute.attn_implementation != "auto"):
        return _dot_product_attention(query, key, value, seen, bias, config, how)
    dtype = compute.attention_dtype
    scores = product("bhqd,bhkd->bhqk", query * query.shape[-1] ** -0.5, key, dtype)
    scores = scores.astype(compute.activation_dtype)
    # One by one: XLA adds the biases within the softmax's pass. Their sum would be another array.
    for one in (*(() if bias is None else (bias,)), *seen.biases(compute.sum_dtype)):
        scores = scores + one
    # A softmax whose sum divides the mixture: L * d numbers a head in place of L * L.
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    dropped = dropout.weights(weights, config.attention_probs_dropout_prob)
    mixed = product("bhqk,bhkd->bhqd", dropped, value, dtype)
    mixed = mixed / weights.sum(axis=-1, keepdims=True)
    return mixed.astype(compute.activation_dtype)


LEAST = -(2.0**41)
"""The smallest bias that cuDNN is given: it subtracts two of them, and -inf - -inf is not a
number."""


def _dot_product_attention(query, key, value, seen, bias, config, implementation):
    """`attention` by `jax.nn.dot_product_attention`."""
    length, dtype = query.shape[2], config.compute.attention_dtype
    query, key, value = (x.astype(dtype).transpose(0, 2, 1, 3) for x in (query, key, value))
    biases = (*(() if bias is None else (bias,)), *seen.biases(config.compute.sum_dtype))
    total = jnp.maximum(sum(biases), LEAST).astype(dtype)
    mixed = jax.nn.dot_product_attention(
        query,
        key,
        value,
        jnp.broadcast_to(total, (*total.shape[:2], length, length)),
        implementation=implementation,
    )
    return mixed.transpose(0, 2, 1, 3).astype(config.compute.activation_dtype)


def _flash(query, key, value, seen, config):
    """`attention` by the flash attention kernel for TPUs, which knows segments and causality."""
    from jax.experimental.pallas.ops.tpu import flash_attention as flash  # only on TPUs

    segments = (seen.mask if seen.packed else seen.mask != 0).astype(jnp.int32)
    dtype = config.compute.attention_dtype
    mixed = flash.flash_attention(
        *(x.astype(dtype) for x in (query, key, value)),
        segment_ids=flash.SegmentIds(segments, segments),
        causal=seen.causal,
        sm_scale=query.shape[-1] ** -0.5,
    )
    return mixed.astype(config.compute.activation_dtype)
