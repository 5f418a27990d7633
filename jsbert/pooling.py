"""Pooling: token vectors to one sentence vector.

A pooling takes `hidden` (B, L, D) and `mask` (B, L), and returns (B, D), at least float32. Tokens
with a nonzero mask entry count. Padding may be on either side. A row whose mask is all zero gives a
zero vector. A pooling with params, such as a learned query, is called as
`pooling(params, hidden, mask)`. Reference: sentence-transformers' Pooling and WeightedLayerPooling.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from jsbert.arrays import AnyArray, at_least_float32

Hidden = Float[AnyArray, "batch length dim"]
Mask = Int[AnyArray, "batch length"] | Bool[AnyArray, "batch length"]
Vectors = Float[Array, "batch dim"]


def cls_pool(hidden: Hidden, mask: Mask) -> Vectors:
    """The vector of each row's first unmasked token."""
    return _take_token(hidden, mask, jnp.argmax(mask != 0, axis=1))


def last_token_pool(hidden: Hidden, mask: Mask) -> Vectors:
    """The vector of each row's last unmasked token."""
    length = mask.shape[1]
    return _take_token(hidden, mask, length - 1 - jnp.argmax(mask[:, ::-1] != 0, axis=1))


def max_pool(hidden: Hidden, mask: Mask) -> Vectors:
    """The largest entry of each dimension over the unmasked tokens."""
    counted = (mask != 0)[:, :, None]
    largest = jnp.max(jnp.where(counted, at_least_float32(hidden), -jnp.inf), axis=1)
    return jnp.where(counted.any(axis=1), largest, 0.0)


def mean_pool(hidden: Hidden, mask: Mask) -> Vectors:
    """The mean of the unmasked token vectors."""
    total, count = _masked_sum(hidden, mask)
    return total / jnp.maximum(count, 1.0)


def mean_sqrt_len_pool(hidden: Hidden, mask: Mask) -> Vectors:
    """The sum of the unmasked token vectors over the square root of their number."""
    total, count = _masked_sum(hidden, mask)
    return total / jnp.sqrt(jnp.maximum(count, 1.0))


def weighted_mean_pool(
    hidden: Hidden, mask: Mask, first: Int[AnyArray, " batch"] | None = None
) -> Vectors:
    """The mean of the unmasked token vectors weighted 1, 2, 3, ... by position.

    Args:
        hidden: the token vectors.
        mask: which tokens count.
        first: the position that weighs 1; by default each row's first unmasked token. If a prompt
            is left out of the pooling, `first` is the position of the prompt's first token: the
            tokens behind the prompt keep the weights of their places.
    """
    first = jnp.argmax(mask != 0, axis=1) if first is None else first
    weights = (jnp.arange(1, mask.shape[1] + 1)[None] - first[:, None]) * (mask != 0)
    total, weight = _masked_sum(hidden, weights)
    return total / jnp.maximum(weight, 1.0)


POOLINGS: Mapping = MappingProxyType(
    {
        "cls": cls_pool,
        "max": max_pool,
        "mean": mean_pool,
        "mean_sqrt_len_tokens": mean_sqrt_len_pool,
        "weightedmean": weighted_mean_pool,
        "lasttoken": last_token_pool,
    }
)
"""The pooling functions under sentence-transformers' names. Older configs concatenate poolings in
this order."""


def pool(
    hidden: Hidden,
    mask: Mask,
    modes: Sequence[str] = ("mean",),
    *,
    prompt_length: Int[ArrayLike, ""] = 0,
    params: Mapping[str, PyTree] = MappingProxyType({}),
) -> Float[Array, "batch pooled"]:
    """The poolings named in `modes`, concatenated: (B, len(modes) * D), at least float32.

    Args:
        hidden: token vectors (B, L, D).
        mask: (B, L), nonzero where there is a token.
        modes: keys of `POOLINGS`.
        prompt_length: the number of tokens at the start of each row to leave out.
        params: {mode: params}, for the poolings that have params.

    >>> import jax.numpy as jnp
    >>> hidden = jnp.array([[[1.0, 4.0], [3.0, 2.0], [9.0, 9.0]]])
    >>> pool(hidden, jnp.array([[1, 1, 0]]), ("mean", "max")).tolist()
    [[2.0, 3.0, 3.0, 4.0]]
    """
    first = jnp.argmax(mask != 0, axis=1)
    kept = (mask != 0) & (jnp.arange(mask.shape[1])[None] >= first[:, None] + prompt_length)

    def pooled(mode):
        if mode == "weightedmean":
            return weighted_mean_pool(hidden, kept, first)
        own = (params[mode],) if mode in params else ()
        return POOLINGS[mode](*own, hidden, kept)

    return jnp.concatenate([pooled(mode) for mode in modes], axis=-1)


def mean_of_layers(
    weights: Float[AnyArray, " layers"], layers: Sequence[Float[Array, "batch length dim"]]
) -> Float[Array, "batch length dim"]:
    """The weighted mean of the layers' token vectors: sum(weight * layer) / sum(weights)."""
    total = sum(
        weight * at_least_float32(layer) for weight, layer in zip(weights, layers, strict=True)
    )
    return total / jnp.sum(weights)


def _masked_sum(hidden, weights):
    hidden = at_least_float32(hidden)
    weights = weights.astype(hidden.dtype)
    total = jnp.einsum("bld,bl->bd", hidden, weights, precision="highest")
    return total, jnp.sum(weights, axis=1, keepdims=True)


def _take_token(hidden, mask, position):
    token = jnp.take_along_axis(at_least_float32(hidden), position[:, None, None], axis=1)[:, 0]
    return jnp.where((mask != 0).any(axis=1, keepdims=True), token, 0.0)
