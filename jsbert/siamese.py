"""The siamese pass: one encoder, with the same params for the sentences of each tower.

Reimers & Gurevych 2019, https://arxiv.org/abs/1908.10084, section 3.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PyTree, Shaped, UInt32

from jsbert import encoders, pooling
from jsbert.arrays import AnyArray
from jsbert.config import Config, EncoderConfig
from jsbert.encoders.dropout import row_keys
from jsbert.encoders.segments import each_segment, segments


@functools.partial(jax.jit, static_argnames="config")
def encode(
    config: Config,
    params: PyTree,
    ids: Int[AnyArray, "batch length"] | Float[AnyArray, "batch length dim"],
    mask: Int[AnyArray, "batch length"] | Bool[AnyArray, "batch length"],
    key: Key[Array, ""] | Key[Array, " batch"] | UInt32[Array, "..."] | None = None,
    *,
    prompt_length: Int[ArrayLike, ""] = 0,
) -> Float[Array, "batch embedding"]:
    """Sentence vectors: encoder, pooling, and the modules behind the pooling.

    Args:
        config: static; another config compiles again. If it has several routes, choose one with
            `config.for_task` first.
        params: the dict that `Config` describes.
        ids: token ids; or word vectors in place of ids, so that one can differentiate by the word
            vectors.
        mask: nonzero where there is a token.
        key: draws the dropout; None: no dropout. See `encoders.forward`.
        prompt_length: the number of tokens at the start of each row to leave out of the pooling
            (`include_prompt: false`).
    """
    hidden = token_vectors(config, params, ids, mask, key)
    return pool_and_finish(config, params, hidden, mask, prompt_length=prompt_length)


def token_vectors(
    config: Config, params: PyTree, *args: Any, **options: Any
) -> Float[Array, "batch length dim"]:
    """The first part of `encode`: the token vectors that are pooled. The further arguments are
    those of `encoders.forward`."""
    if config.layer_start is None:
        return encoders.forward(config.encoder, params["encoder"], *args, **options)
    states = encoders.hidden_states(config.encoder, params["encoder"], *args, **options)
    return pooling.mean_of_layers(params["layer_weights"], states[config.layer_start :])


def pool_and_finish(
    config: Config,
    params: PyTree,
    hidden: Float[AnyArray, "batch length dim"],
    mask: Int[AnyArray, "batch length"] | Bool[AnyArray, "batch length"],
    *,
    prompt_length: Int[ArrayLike, ""] = 0,
) -> Float[Array, "batch embedding"]:
    """The second part of `encode`: token vectors to sentence vectors."""
    own = params.get("pooling", {})
    vectors = pooling.pool(hidden, mask, config.pooling, prompt_length=prompt_length, params=own)
    head = params.get("head", {})
    for index in config.active:
        vectors = config.modules[index](head.get(index), vectors)
    return vectors


def encode_rows(
    config: Config,
    params: PyTree,
    ids: Int[AnyArray, "batch length"],
    lengths: Int[AnyArray, "batch texts"],
    *,
    prompt_length: Int[ArrayLike, ""] = 0,
) -> Float[Array, "batch texts embedding"]:
    """`encode` of rows that hold several texts side by side, from the left. The vectors are the
    same as with one text in each row.

    Args:
        config, params, prompt_length: as for `encode`.
        ids: token ids.
        lengths: the number of tokens of each text, in the order of the row; 0 for no text. The
            vector of no text means nothing.
    """
    segment_ids, positions = segments(lengths, ids.shape[1])
    hidden = token_vectors(config, params, ids, segment_ids, positions=positions)
    finish = functools.partial(pool_and_finish, config, params, prompt_length=prompt_length)
    return each_segment(finish, hidden, segment_ids, lengths.shape[1])


@functools.partial(jax.jit, static_argnames="config")
def encode_towers(
    config: Config,
    params: PyTree,
    ids: Int[AnyArray, "towers batch length"] | Float[AnyArray, "towers batch length dim"],
    mask: Int[AnyArray, "towers batch length"] | Bool[AnyArray, "towers batch length"],
    key: Key[Array, ""] | Key[Array, " batch"] | UInt32[Array, "..."] | None = None,
) -> Float[Array, "towers batch embedding"]:
    """`encode` vmapped over the towers, for example anchor and positive. The towers share `params`:
    that is all "siamese" means.

    With a key, or a batch of keys, each tower of each example draws its own dropout.
    """
    tower = jax.custom_batching.custom_vmap(
        lambda params, ids, mask, keys: encode(config, params, ids, mask, keys)
    )

    @tower.def_vmap
    def as_rows(num_towers, batched, params, ids, mask, keys):
        # With shared params, vmap over towers is one pass over the rows of all towers. Flattened
        # rows keep the matrix products plain; with an axis of towers the gradient of a kernel costs
        # 1.2 times as much (XLA on the CPU). The rows of an example are neighbours, so that they
        # are on one device.
        del num_towers, batched
        rows = jax.tree.map(
            lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), (ids, mask, keys)
        )
        vectors = encode(config, params, *rows)
        return jnp.swapaxes(vectors.reshape(ids.shape[1], ids.shape[0], -1), 0, 1), True

    keys = None if key is None else tower_keys(key, ids)
    return jax.vmap(tower, in_axes=(None, 0, 0, 0))(params, ids, mask, keys)


def encode_packed(
    config: Config,
    params: PyTree,
    rows: Mapping[str, Int[AnyArray, "..."]],
    lengths: Int[AnyArray, " texts"],
    keys: Key[Array, " texts"] | None = None,
) -> Float[Array, "texts embedding"]:
    """`encode` of N texts that are packed side by side into rows. The vectors are the same as with
    one text in each row.

    Args:
        config, params: as for `encode`.
        rows: `ids`, `segment_ids`, `positions` (R, L) and `starts` (N,), as `jsbert.engine.packed`
            returns them.
        lengths: the number of tokens of each text.
        keys: draw the dropout, one key for each text; a text draws the same masks as in a row of
            its own.
    """
    hidden, mask = _unpacked(functools.partial(token_vectors, config, params), rows, lengths, keys)
    return pool_and_finish(config, params, hidden, mask)


def packed_hidden(
    config: EncoderConfig,
    params: PyTree,
    rows: Mapping[str, Int[AnyArray, "..."]],
    lengths: Int[AnyArray, " texts"],
    keys: Key[Array, " texts"] | None = None,
) -> tuple[Float[Array, "texts length dim"], Bool[Array, "texts length"]]:
    """(token vectors, mask) of packed texts, unpacked to one row for each text."""
    return _unpacked(functools.partial(encoders.forward, config, params), rows, lengths, keys)


def packed_states(
    config: EncoderConfig,
    params: PyTree,
    rows: Mapping[str, Int[AnyArray, "..."]],
    lengths: Int[AnyArray, " texts"],
    keys: Key[Array, " texts"] | None = None,
) -> tuple[tuple[Float[Array, "texts length dim"], ...], Bool[Array, "texts length"]]:
    """(token vectors of the embeddings and of each layer, mask) of packed texts, unpacked to one
    row for each text."""
    return _unpacked(functools.partial(encoders.hidden_states, config, params), rows, lengths, keys)


def tower_keys(
    key: Key[Array, "..."], x: Shaped[AnyArray, "towers batch ..."]
) -> Key[Array, "towers batch"]:
    """A key for each tower of each example in `x`: the key of the example, folded with the number
    of the tower. A single key is first split over the examples."""
    keys = row_keys(key, x[0])
    return jax.vmap(lambda tower: jax.vmap(lambda key: jax.random.fold_in(key, tower))(keys))(
        jnp.arange(len(x))
    )


def _unpacked(forward, rows, lengths, keys):
    hidden = forward(
        rows["ids"],
        rows["segment_ids"],
        keys,
        token_types=rows.get("token_types"),
        positions=rows["positions"],
    )
    length = rows["ids"].shape[1]
    mask = jnp.arange(length)[None] < lengths[:, None]
    # Take L tokens from the start of each text. Those beyond its length are of other texts, and
    # masked.
    places = rows["starts"][:, None] + jnp.arange(length)[None]

    def of_texts(hidden):
        return jnp.take(hidden.reshape(-1, hidden.shape[-1]), places, axis=0, mode="clip")

    return jax.tree.map(of_texts, hidden), mask
