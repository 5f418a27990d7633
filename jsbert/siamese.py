"""The siamese pass: the same encoder, with the same params, over each tower's sentences.

Reimers & Gurevych 2019, https://arxiv.org/abs/1908.10084, section 3.
"""

import functools

import jax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PyTree, UInt32

from jsbert import encoders, pooling
from jsbert.config import Config, Dense


@functools.partial(jax.jit, static_argnames="config")
def encode(
    config: Config,
    params: PyTree,
    ids: Int[ArrayLike, "batch length"] | Float[ArrayLike, "batch length dim"],
    mask: Int[ArrayLike, "batch length"] | Bool[ArrayLike, "batch length"],
    key: Key[Array, ""] | Key[Array, " batch"] | UInt32[Array, "..."] | None = None,
    *,
    prompt_length: Int[ArrayLike, ""] = 0,
) -> Float[Array, "batch embedding"]:
    """Sentence vectors: encoder, pooling, and the modules behind it.

    Args:
        config: static; changing it compiles anew.
        params: {"encoder": ..., "head": {i: {"kernel", "bias"}}}.
        ids: token ids, or word vectors in their place (to differentiate by).
        mask: nonzero where there is a token.
        key: for dropout; None for none. See `encoders.bert.forward`.
        prompt_length: tokens at the start of each row to leave out of the pooling (`include_prompt: false`).
    """
    hidden = encoders.forward(config.encoder, params["encoder"], ids, mask, key)
    return pool_and_finish(config, params, hidden, mask, prompt_length=prompt_length)


def pool_and_finish(
    config: Config,
    params: PyTree,
    hidden: Float[ArrayLike, "batch length dim"],
    mask: Int[ArrayLike, "batch length"] | Bool[ArrayLike, "batch length"],
    *,
    prompt_length: Int[ArrayLike, ""] = 0,
) -> Float[Array, "batch embedding"]:
    """The second half of `encode`: token vectors to sentence vectors."""
    vectors = pooling.pool(hidden, mask, config.pooling, prompt_length=prompt_length)
    for index, module in enumerate(config.head):
        if isinstance(module, Dense):
            vectors = pooling.dense(params["head"][index], vectors, module.activation)
        else:
            vectors = pooling.normalize(vectors)
    return vectors


@functools.partial(jax.jit, static_argnames="config")
def encode_towers(
    config: Config,
    params: PyTree,
    ids: Int[ArrayLike, "towers batch length"] | Float[ArrayLike, "towers batch length dim"],
    mask: Int[ArrayLike, "towers batch length"] | Bool[ArrayLike, "towers batch length"],
    key: Key[Array, ""] | UInt32[Array, "..."] | None = None,
) -> Float[Array, "towers batch embedding"]:
    """`encode` vmapped over the towers (anchor and positive, say), which share `params`: that is all "siamese" means.

    With a `key`, each tower draws its own dropout.
    """
    if key is None:
        return jax.vmap(lambda ids, mask: encode(config, params, ids, mask))(ids, mask)
    keys = jax.random.split(key, ids.shape[0])
    return jax.vmap(lambda ids, mask, key: encode(config, params, ids, mask, key))(ids, mask, keys)
