"""Masked language modelling: BERT's head over the vectors of masked tokens, and its loss.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805, section 3.1. Reference: `cls.predictions` of
transformers' BertForMaskedLM. If the word vectors are narrower than the token vectors, the
reference is the head of AlbertForMaskedLM.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

from jsbert.arrays import AnyArray, at_least_float32
from jsbert.losses.in_batch import in_batch
from jsbert.losses.logits import cross_entropy
from jsbert.modules import dense


def init_masked_lm_head(
    key: Key[Array, ""],
    dim: int,
    vocab_size: int,
    *,
    embedding_size: int | None = None,
    initializer_range: float = 0.02,
) -> dict[str, Any]:
    """A new head: {"dense": {"kernel" (D, E), "bias" (E,)}, "norm": {"scale" (E,), "bias" (E,)},
    "bias" (V,)}. As in BERT, the kernel is normal with the standard deviation `initializer_range`,
    the scale is 1, and the biases are 0.

    `embedding_size` is E, the width of the word vectors; by default E is D.
    """
    width = embedding_size or dim
    return {
        "dense": {
            "kernel": initializer_range * jax.random.normal(key, (dim, width)),
            "bias": jnp.zeros(width),
        },
        "norm": {"scale": jnp.ones(width), "bias": jnp.zeros(width)},
        "bias": jnp.zeros(vocab_size),
    }


def masked_lm_logits(
    head: Mapping[str, Any],
    vectors: Float[AnyArray, "*tokens dim"],
    word_embedding: Float[AnyArray, "vocab embedding"],
    *,
    activation: str = "gelu",
    layer_norm_eps: float = 1e-12,
) -> Float[Array, "*tokens vocab"]:
    """The score of each word at each token: norm(activation(dense(vectors))) @ word_embedding.T +
    bias.

    Args:
        head: the params that `init_masked_lm_head` makes.
        vectors: token vectors of the last layer.
        word_embedding: the word vectors of the encoder; encoder and head share them.
        activation: a key of `ACTIVATIONS`: the encoder's `hidden_act`.
        layer_norm_eps: the encoder's.
    """
    hidden = dense(
        head["dense"], at_least_float32(vectors).reshape(-1, vectors.shape[-1]), activation
    )
    centred = hidden - jnp.mean(hidden, axis=1, keepdims=True)
    deviation = jnp.sqrt(jnp.mean(jnp.square(centred), axis=1, keepdims=True) + layer_norm_eps)
    hidden = centred / deviation * head["norm"]["scale"][None] + head["norm"]["bias"][None]
    logits = (
        jnp.dot(hidden, at_least_float32(word_embedding).T, precision="highest")
        + head["bias"][None]
    )
    return logits.reshape(*vectors.shape[:-1], -1)


@in_batch
def masked_lm(
    logits: Float[AnyArray, "batch chosen vocab"],
    targets: Int[AnyArray, "batch chosen"],
    weights: Num[AnyArray, "batch chosen"] | Bool[AnyArray, "batch chosen"],
) -> Float[Array, " batch"]:
    """The losses of the examples, scaled so that their mean is the mean cross-entropy over all
    masked tokens of the batch: (B,).

    That mean is the loss of BertForMaskedLM: every masked token counts the same, whatever its
    example. An example without masked tokens has a loss of 0.

    Args:
        logits: (B, K, V), at K places of each example.
        targets: the ids of the words that were masked; where the weight is 0, any number.
        weights: 1 for a masked token, 0 for a place that the example does not need.
    """
    weights = at_least_float32(weights)
    batch, _, vocab = logits.shape
    words = jnp.where(weights > 0, targets, 0)
    losses = cross_entropy(logits.reshape(-1, vocab), words.ravel()).reshape(weights.shape)
    total = jnp.sum(weights)
    return batch * jnp.sum(weights * losses, axis=1) / jnp.where(total > 0, total, 1.0)
