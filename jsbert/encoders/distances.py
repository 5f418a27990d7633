"""Buckets of distances between tokens: MPNet and T5 learn a bias for each bucket.

Raffel et al. 2020, https://arxiv.org/abs/1910.10683, section 2.1. The reference is
`_relative_position_bucket` of transformers' T5Attention.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int


def distance_buckets(
    places: Int[Array, "batch length"], *, num_buckets: int, farthest: int
) -> Int[Array, "batch length length"]:
    """The bucket of the distance of each query (axis 1) and key (axis 2), from 0 to
    `num_buckets` - 1.

    The first half of the buckets is for keys to the left and the token itself, the second half for
    keys to the right. In a half, each small distance has a bucket of its own; the further buckets
    are wider and wider.

    Args:
        places: the columns of the tokens. In packed rows they serve, too: a token sees only its own
            text.
        num_buckets: at least 4.
        farthest: the distance at which the last bucket has begun; above `num_buckets` // 4.
    """
    distance = places[:, :, None] - places[:, None, :]
    bounds = bucket_bounds(num_buckets // 2, farthest)[None, None, None]
    buckets = jnp.sum(jnp.abs(distance)[..., None] >= bounds, axis=-1)
    return buckets + jnp.where(distance < 0, num_buckets // 2, 0)


@functools.lru_cache
def bucket_bounds(num_buckets: int, farthest: int) -> np.ndarray:
    """The least distance of each bucket of a half, without the first bucket. The half has
    `num_buckets` buckets; buckets that no distance falls into share the bound of the next one."""
    exact = num_buckets // 2
    distances = np.arange(exact, farthest + 1)
    # Round as the reference does, in float32: where a bucket begins, the last digit decides.
    ratio = (distances.astype(np.float32) / np.float32(exact)).astype(np.float64)
    steps = np.log(ratio).astype(np.float32) / np.float32(math.log(farthest / exact))
    steps = (steps * np.float32(num_buckets - exact)).astype(int)
    buckets = np.minimum(exact + steps, num_buckets - 1)
    wide = [distances[np.argmax(buckets >= bucket)] for bucket in range(exact + 1, num_buckets)]
    return np.asarray([*range(1, exact + 1), *wide])
