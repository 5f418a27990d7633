"""Rows that hold several texts side by side: which token belongs to which text."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jsbert.arrays import AnyArray


def segments(
    lengths: Int[AnyArray, "batch texts"], row_length: int
) -> tuple[Int[Array, "batch row_length"], Int[Array, "batch row_length"]]:
    """(segment ids, positions) of rows of `row_length` tokens.

    The segment ids number the texts of a row from 1, and are 0 behind the last text. The positions
    are the places of the tokens in their texts.

    >>> ids, positions = segments(jnp.array([[2, 3, 0]]), 6)
    >>> ids.tolist(), positions.tolist()
    ([[1, 1, 2, 2, 2, 0]], [[0, 1, 0, 1, 2, 0]])
    """
    lengths = jnp.asarray(lengths)
    ends = jnp.cumsum(lengths, axis=1)
    places = jnp.arange(row_length)
    num_before = jnp.sum(places[None, None] >= ends[:, :, None], axis=1)  # texts that have ended
    is_token = places[None] < ends[:, -1:]
    last = jnp.minimum(num_before, lengths.shape[1] - 1)
    starts = jnp.take_along_axis(ends - lengths, last, axis=1)
    return jnp.where(is_token, num_before + 1, 0), jnp.where(is_token, places[None] - starts, 0)


def each_segment(
    function: Callable[[Array, Array], Array],
    hidden: Float[Array, "batch length dim"],
    segment_ids: Int[Array, "batch length"],
    num_segments: int,
) -> Float[Array, "batch texts outputs"]:
    """`function(hidden, mask)` for each text of each row, with the mask of the text's tokens.

    Args:
        function: takes token vectors (B, L, D) and a mask (B, L), and returns vectors (B, outputs);
            for example, a pooling.
        hidden: token vectors.
        segment_ids: as `segments` returns them.
        num_segments: how many texts a row can hold.
    """
    numbers = jnp.arange(1, num_segments + 1)
    masks: Bool[Array, "texts batch length"] = segment_ids[None] == numbers[:, None, None]
    return jax.vmap(function, in_axes=(None, 0), out_axes=1)(hidden, masks)
