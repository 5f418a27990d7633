"""The siamese pass: towers with shared params, and what composes with the pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsbert import siamese
from jsbert.modules import Dense, Normalize
from tests import models

ENCODE = jax.jit(siamese.encode, static_argnums=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    parts = models.parts(
        tmp_path_factory.mktemp("siamese"), head=(Dense(24, 10, activation="gelu"), Normalize())
    )
    return parts.config, parts.params


def towers(seed=0, count=3, batch=4, length=7):
    generator = np.random.default_rng(seed)
    ids = generator.integers(5, 100, (count, batch, length))
    mask = np.arange(length)[None, None, :] < generator.integers(1, length + 1, (count, batch, 1))
    return ids, mask


def test_towers_equal_separate_calls(model):
    config, params = model
    ids, mask = towers()
    together = siamese.encode_towers(config, params, ids, mask)
    assert together.shape == (3, 4, 10)
    apart = jnp.stack([ENCODE(config, params, ids[t], mask[t]) for t in range(3)])
    assert np.abs(together - apart).max() <= 1e-6


def test_towers_share_their_params_in_the_gradient(model):
    config, params = model
    ids, mask = towers(count=2)

    def loss(first, second):
        u = siamese.encode(config, first, ids[0], mask[0])
        v = siamese.encode(config, second, ids[1], mask[1])
        return (u * v).sum()

    apart = jax.tree.map(jnp.add, *jax.jit(jax.grad(loss, argnums=(0, 1)))(params, params))

    @jax.jit
    @jax.grad
    def gradient(params):
        return jnp.prod(siamese.encode_towers(config, params, ids, mask), axis=0).sum()

    together = gradient(params)
    for a, b in zip(jax.tree.leaves(apart), jax.tree.leaves(together), strict=True):
        assert np.abs(a - b).max() <= 1e-5 * max(1, np.abs(a).max())


def test_towers_draw_dropout_of_their_own(model):
    config, params = model
    ids, mask = towers(count=1)
    twice = siamese.encode_towers(
        config, params, np.repeat(ids, 2, 0), np.repeat(mask, 2, 0), jax.random.key(0)
    )
    assert np.abs(twice[0] - twice[1]).max() > 1e-3


def test_it_is_compiled_once_a_shape(model):
    config, params = model
    ids, mask = towers(length=9)
    before = siamese.encode_towers._cache_size()
    for seed in range(3):
        ids, mask = towers(seed, length=9)
        siamese.encode_towers(config, params, ids, mask)
    assert siamese.encode_towers._cache_size() == before + 1


def test_a_gradient_with_respect_to_word_vectors_points_the_right_way(model):
    config, params = model
    ids, mask = towers(count=2)
    words = params["encoder"]["embeddings"]["word"]["embedding"][ids]

    def similarity(words):
        u, v = siamese.encode_towers(config, params, words, mask)
        return (u * v).sum()

    gradient = jax.jit(jax.grad(similarity))(words)
    assert gradient.shape == words.shape
    assert not gradient[~mask].any()  # padding has no influence
    assert similarity(words + 0.01 * gradient) > similarity(words)
    u, v = siamese.encode_towers(config, params, ids, mask)
    assert float(similarity(words)) == pytest.approx(float((u * v).sum()), abs=1e-5)


def test_vmap_over_models(model):
    config, params = model
    ids, mask = towers(count=1)
    bank = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * 1.1, leaf * 0.9]), params)
    vectors = jax.jit(jax.vmap(lambda p: siamese.encode(config, p, ids[0], mask[0])))(bank)
    assert vectors.shape == (3, 4, 10)
    assert np.abs(vectors[0] - ENCODE(config, params, ids[0], mask[0])).max() <= 1e-6
