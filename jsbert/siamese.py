"""The siamese pass: the same encoder, with the same params, over each tower's sentences.

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
    """Sentence vectors: encoder, pooling, and the modules behind it.

    Args:
        config: static; changing it compiles anew. With several routes, `config.for_task` chooses
            one first.
        params: as `Config` says.
        ids: token ids, or word vectors in their place (to differentiate by).
        mask: nonzero where there is a token.
        key: for dropout; None for none. See `encoders.forward`.
        prompt_length: tokens at the start of each row to leave out of the pooling (`include_prompt:
            false`).
    """
    hidden = token_vectors(config, params, ids, mask, key)
    return pool_and_finish(config, params, hidden, mask, prompt_length=prompt_length)


def token_vectors(
    config: Config, params: PyTree, *args: Any, **options: Any
) -> Float[Array, "batch length dim"]:
    """The first part of `encode`: the vectors that are pooled. Further arguments as for
    `encoders.forward`."""
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
    """`encode` of rows that hold several texts side by side, from the left: the same vectors.

    Args:
        config, params, prompt_length: as for `encode`.
        ids: token ids.
        lengths: tokens of each row's texts in their order; 0 where there is no text, whose vector
            means nothing.
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
    """`encode` vmapped over the towers (anchor and positive, say), which share `params`: that is
    all "siamese" means.

    With a `key`, or a batch of keys, each example draws its own dropout, and so does each of its
    towers.
    """
    tower = jax.custom_batching.custom_vmap(
        lambda params, ids, mask, keys: encode(config, params, ids, mask, keys)
    )

    @tower.def_vmap
    def as_rows(num_towers, batched, params, ids, mask, keys):
        # What vmap means where params are shared: one batch of all towers' rows. The matrix
        # products stay plain, and so does the kernels' gradient, which costs 1.2 times as much
        # where it sums over a towers' axis (XLA on the CPU). Rows of one example stay together,
        # hence on one device.
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
    """`encode` of N texts that lie side by side in `rows`, as `jsbert.engine.packed` returns them;
    the same vectors.

    Args:
        config, params: as for `encode`.
        rows: `ids`, `segment_ids`, `positions` (R, L) and `starts` (N,).
        lengths: tokens of each text.
        keys: for dropout, one a text; an example draws what it draws in a row of its own.
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
    """An encoder's token vectors of packed texts, a row a text again, and their mask."""
    return _unpacked(functools.partial(encoders.forward, config, params), rows, lengths, keys)


def tower_keys(
    key: Key[Array, "..."], x: Shaped[AnyArray, "towers batch ..."]
) -> Key[Array, "towers batch"]:
    """The keys of each example's towers in `x`: its own, or its share of a single one, folded with
    the tower's number."""
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
    mask = jnp.arange(hidden.shape[1])[None] < lengths[:, None]
    # Each text's tokens from its own row on; those beyond the text's length are others', and
    # masked.
    places = rows["starts"][:, None] + jnp.arange(hidden.shape[1])[None]
    return jnp.take(hidden.reshape(-1, hidden.shape[-1]), places, axis=0, mode="clip"), mask
