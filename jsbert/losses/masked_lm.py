"""Masked language modelling: BERT's head over the vectors of chosen tokens, and the loss of its
guesses.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805, section 3.1. Reference: `cls.predictions` of
transformers' BertForMaskedLM; of AlbertForMaskedLM, where the word vectors are narrower than the
token vectors.
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
    """A head as BERT begins: {"dense": {"kernel" (D, E), "bias"}, "norm": {"scale", "bias"}, "bias"
    (V,)}, kernel normal with that standard deviation, scale 1, biases 0. E, the width of the word
    vectors, is D by default."""
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
        head: as of `init_masked_lm_head`.
        vectors: token vectors of the last layer.
        word_embedding: the encoder's own, which the decoder shares.
        activation: a key of `ACTIVATIONS`, the encoder's `hidden_act`.
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
    """Each example's share of the mean cross-entropy over the batch's chosen tokens, times B: (B,).

    Their mean is that mean, the loss of BertForMaskedLM, where every token counts the same in
    whichever example it stands. 0 where no token is chosen.

    Args:
        logits: (B, K, V), at K places of each example.
        targets: the words that stood there; where the weight is 0, anything.
        weights: 1 where a token was chosen, 0 where the K places were not all needed.
    """
    weights = at_least_float32(weights)
    batch, _, vocab = logits.shape
    words = jnp.where(weights > 0, targets, 0)
    losses = cross_entropy(logits.reshape(-1, vocab), words.ravel()).reshape(weights.shape)
    total = jnp.sum(weights)
    return batch * jnp.sum(weights * losses, axis=1) / jnp.where(total > 0, total, 1.0)
