"""Dropout whose masks depend only on the key of the example, the layer and call that drops, and
the place of the token in its text.

The masks of an example do not depend on the other rows, on padding, or on packing. So the full
batch, its chunks, and any number of devices train alike.
"""

import copy

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Shaped, UInt32

from jsbert.arrays import AnyArray

IN_LAYER = 64
"""Upper bound of the number of calls of dropout in a layer."""


def row_keys(
    key: Key[Array, "..."] | UInt32[Array, "..."] | None, x: Shaped[AnyArray, "rows ..."]
) -> Key[Array, " examples"] | UInt32[Array, "examples words"] | None:
    """A key for each example. A single key is split over the rows of `x`; a batch of keys, or None,
    comes back as it is."""
    return (
        jax.random.split(key, x.shape[0])
        if key is not None and jax.random.key_data(key).ndim == 1
        else key
    )


class Dropout:
    """The dropout of one forward pass. Each call draws a mask of its own.

    The bits of an entry are a hash of the key, the layer, the number of the call and the
    coordinates of the entry. So the mask does not depend on the shape of the array. The hash takes
    a dozen integer operations an entry; JAX's generator takes a hundred. The hash is "lowbias32"
    (Wellons 2018, https://nullprogram.com/blog/2018/07/31/), applied twice.
    """

    def __init__(
        self,
        keys: Key[Array, " examples"] | UInt32[Array, "examples words"] | None,
        examples: Int[AnyArray, "batch length"] | None = None,
        positions: Int[AnyArray, "batch length"] | None = None,
    ):
        """
        Args:
            keys: one for each example; None for no dropout.
            examples: the example that each token belongs to; by default row i is example i.
            positions: the place of each token in its text; by default its place in the row.
        """
        self.words, self.places = None, 0
        self.layer: int | Int[Array, ""] = 0
        if keys is None:
            return
        words = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(keys)
        self.words = words[:, None] if examples is None else words[examples]  # (B, 1 or L, 2)
        self.positions = positions

    def of_layer(self, number: int | Int[Array, ""]) -> "Dropout":
        """The dropout of a layer. Its calls are counted separately from those of other layers, so
        the masks are the same whether layers are traced one by one or as the body of a loop."""
        own = copy.copy(self)
        own.places, own.layer = 0, number + 1
        return own

    def hidden(
        self, x: Float[Array, "batch length dim"], rate: float
    ) -> Float[Array, "batch length dim"]:
        """Token vectors with a share `rate` of the entries dropped, and the rest scaled up by
        1 / (1 - rate)."""
        if self.words is None or rate == 0.0:
            return x
        length, dim = x.shape[1:]
        entry = self._positions(length)[:, :, None] * jnp.uint32(dim) + _count(dim)[None, None]
        return self._drop(x, rate, self.words[:, :, None], entry)

    def weights(
        self, x: Float[Array, "batch heads length length"], rate: float
    ) -> Float[Array, "batch heads length length"]:
        """Attention weights with a share `rate` of the entries dropped, and the rest scaled up by
        1 / (1 - rate)."""
        if self.words is None or rate == 0.0:
            return x
        heads, length = x.shape[1:3]
        places = self._positions(length)
        # Hash the distance of key from query, modulo 2^32, not the position of the key. Then the
        # length needs no limit.
        distance = places[:, None, :] - places[:, :, None]
        entry = distance[:, None] * jnp.uint32(heads) + _count(heads)[None, :, None, None]
        entry = entry ^ _mixed(places)[:, None, :, None]
        return self._drop(x, rate, self.words[:, None, :, None], entry)

    def _positions(self, length):
        return _count(length)[None] if self.positions is None else self.positions.astype(jnp.uint32)

    def _drop(self, x, rate, words, entry):
        self.places += 1
        place = jnp.asarray(self.layer, jnp.uint32) * jnp.uint32(IN_LAYER) + jnp.uint32(self.places)
        bits = _mixed(entry + words[..., 0]) ^ (words[..., 1] + place * jnp.uint32(0x9E3779B9))
        threshold = round(rate * 2**24)
        keep = (_mixed(bits) >> 8) >= threshold
        return jnp.where(keep, x * (2**24 / (2**24 - threshold)), 0.0)


def _count(size):
    return jnp.arange(size, dtype=jnp.uint32)


def _mixed(x):
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
