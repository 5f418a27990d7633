"""Attention, shared by the families, in forms that XLA computes fast."""

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
    """Which tokens of its row a token attends to ("sees").

    Attributes:
        mask: nonzero where there is a token; in packed rows the number of the token's text.
        packed: whether a row holds several texts, which do not see each other.
        causal: whether a token sees only itself and the tokens before it.
        window: the largest distance at which a token sees another; None for no limit.
        made: the biases, if `of` has computed them before the layers run; else ().
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
        """Which tokens are seen in the rows of a forward pass, for all layers.

        If layers are not scanned, the biases are computed here, once. In a scan each layer computes
        the biases again from the mask: that takes less memory traffic than reading them.

        Args:
            mask, positions: as for `encoders.forward`.
            compute: the `compute` of the config.
            causal, window: the attributes of these names.
        """
        seen = cls(mask, positions is not None, causal, window)
        if compute.scans:
            return seen
        return dataclasses.replace(seen, made=seen.biases(compute.sum_dtype))

    def biases(self, dtype: DTypeLike) -> tuple[Float[Array, "#batch 1 #queries length"], ...]:
        """The biases, one for each condition; all are added to the scores of queries (axis 2) and
        keys (axis 3). An entry is 0 where the query sees the key, else the smallest finite number:
        with -inf a row of padding would have no finite vectors."""
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
    scale: float | None = None,
) -> Float[Array, "batch heads length size"]:
    """For each token, a weighted mean of the values of the tokens that it sees. The weights are the
    softmax of scale * query * key + bias.

    Args:
        query, key, value: by heads, as `layers.in_heads` returns them.
        seen: which tokens a token sees.
        config: says how attention is computed, and the rate of the dropout.
        dropout: drops weights.
        bias: added to the scores.
        scale: by default 1 / sqrt(size).
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    compute = config.compute
    how = "eager" if dropout.words is not None else compute.attention(query.shape[2])
    if how == "flash" and bias is None and seen.window is None:
        return _flash(query, key, value, seen, config, scale)
    # With "auto" a bias of (1 or B, H, L, L) means eager: a fused kernel needs it as one array.
    if how in ("xla", "cudnn") and (bias is None or compute.attn_implementation != "auto"):
        return _dot_product_attention(query, key, value, seen, bias, config, how, scale)
    dtype = compute.attention_dtype
    scores = product("bhqd,bhkd->bhqk", query * scale, key, dtype)
    scores = scores.astype(compute.activation_dtype)
    # Add the biases one by one: XLA then adds them within the pass of the softmax. Their sum would
    # be one more array.
    for one in (*(() if bias is None else (bias,)), *seen.biases(compute.sum_dtype)):
        scores = scores + one
    # Divide the mixture by the softmax's sum, not the weights: L * d numbers a head, not L * L.
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    dropped = dropout.weights(weights, config.attention_probs_dropout_prob)
    mixed = product("bhqk,bhkd->bhqd", dropped, value, dtype)
    mixed = mixed / weights.sum(axis=-1, keepdims=True)
    return mixed.astype(compute.activation_dtype)


LEAST = -(2.0**41)
"""The smallest bias that cuDNN is given. cuDNN subtracts two biases, and -inf - -inf is NaN."""


def _dot_product_attention(query, key, value, seen, bias, config, implementation, scale):
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
        scale=scale,
        implementation=implementation,
    )
    return mixed.transpose(0, 2, 1, 3).astype(config.compute.activation_dtype)


def _flash(query, key, value, seen, config, scale):
    """`attention` by the flash attention kernel for TPUs, which takes segments and `causal`."""
    from jax.experimental.pallas.ops.tpu import flash_attention as flash  # only on TPUs

    segments = (seen.mask if seen.packed else seen.mask != 0).astype(jnp.int32)
    dtype = config.compute.attention_dtype
    mixed = flash.flash_attention(
        *(x.astype(dtype) for x in (query, key, value)),
        segment_ids=flash.SegmentIds(segments, segments),
        causal=seen.causal,
        sm_scale=scale,
    )
    return mixed.astype(config.compute.activation_dtype)
