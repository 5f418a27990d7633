"""Pooling computed by hand; parity/ compares with sentence-transformers."""

import dataclasses
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsbert
from jsbert import pooling, siamese
from jsbert.arrays import normalize
from jsbert.checkpoint import write_bi_encoder
from tests import models

HIDDEN = np.float32([[[1, -4], [3, 2], [5, 0], [9, 9]], [[7, 7], [2, 1], [0, 0], [4, -3]]])
RIGHT = np.array([[1, 1, 1, 0], [1, 1, 0, 0]])

BY_HAND = {
    "cls": [[1, -4], [7, 7]],
    "max": [[5, 2], [7, 7]],
    "mean": [[3, -2 / 3], [4.5, 4]],
    "mean_sqrt_len_tokens": [[9 / 3**0.5, -2 / 3**0.5], [9 / 2**0.5, 8 / 2**0.5]],
    "weightedmean": [[(1 + 6 + 15) / 6, (-4 + 4 + 0) / 6], [(7 + 4) / 3, (7 + 2) / 3]],
    "lasttoken": [[5, 0], [2, 1]],
}


@pytest.mark.parametrize("mode", pooling.POOLINGS)
def test_poolings_by_hand(mode):
    assert pooling.POOLINGS[mode](HIDDEN, RIGHT) == pytest.approx(np.float32(BY_HAND[mode]))


@pytest.mark.parametrize("mode", pooling.POOLINGS)
def test_the_side_of_the_padding_does_not_matter(mode):
    left_hidden = np.stack([np.roll(HIDDEN[0], 1, axis=0), np.roll(HIDDEN[1], 2, axis=0)])
    left_mask = np.array([[0, 1, 1, 1], [0, 0, 1, 1]])
    assert pooling.pool(left_hidden, left_mask, (mode,)) == pytest.approx(np.float32(BY_HAND[mode]))


@pytest.mark.parametrize("mode", pooling.POOLINGS)
def test_a_row_of_padding_alone_pools_to_zero_with_a_finite_gradient(mode):
    mask = np.zeros((2, 4), bool)
    assert not pooling.pool(HIDDEN, mask, (mode,)).any()
    assert jnp.isfinite(
        jax.grad(lambda hidden: pooling.pool(hidden, mask, (mode,)).sum())(jnp.asarray(HIDDEN))
    ).all()


def test_several_poolings_are_concatenated_in_the_given_order():
    assert pooling.pool(HIDDEN, RIGHT, ("lasttoken", "cls"))[0].tolist() == [5, 0, 1, -4]


def test_a_prompt_is_left_out_and_the_rest_keeps_its_weights():
    assert pooling.pool(HIDDEN, RIGHT, ("mean",), prompt_length=1)[0].tolist() == [4, 1]
    # The second and third tokens have the weights 2 and 3.
    assert pooling.pool(HIDDEN, RIGHT, ("weightedmean",), prompt_length=1)[0] == pytest.approx(
        [21 / 5, 4 / 5]
    )


def test_pooling_of_bfloat16_happens_in_float32():
    hidden = jnp.full((1, 3001, 2), 1.0, jnp.bfloat16)  # a bfloat16 sum of ones stops at 256
    pooled = pooling.mean_pool(hidden, jnp.ones((1, 3001), bool))
    assert pooled.dtype == jnp.float32
    assert pooled.tolist() == [[1.0, 1.0]]


def test_half_precision_vectors_are_normalised_in_float32():
    vectors = np.float16([[300, 400], [0, 0]])  # 300 squared is more than a float16 holds
    assert normalize(vectors).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]


def test_normalize_leaves_zero_vectors_with_a_finite_gradient():
    vectors = jnp.float32([[3, 4], [0, 0]])
    assert normalize(vectors).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
    assert jnp.isfinite(jax.grad(lambda v: normalize(v).sum())(vectors)).all()


def attention_pool(params, hidden, mask):
    """Pool by the mean weighted by the softmax of products with a learned query: a pooling that
    jsbert does not have."""
    scores = jnp.where(mask != 0, hidden @ params["query"], -jnp.inf)
    return jnp.einsum("bl,bld->bd", jax.nn.softmax(scores, axis=1), hidden)


@pytest.fixture
def attentive(tmp_path, monkeypatch):
    """A bi-encoder that pools by `attention_pool` and "cls"."""
    rows = {**pooling.POOLINGS, "attention": attention_pool}
    monkeypatch.setattr(pooling, "POOLINGS", MappingProxyType(rows))
    query = np.random.default_rng(3).standard_normal(24).astype(np.float32)
    parts = models.parts(tmp_path / "v", pooling=("attention", "cls"), head=())
    return dataclasses.replace(
        parts, params=parts.params | {"pooling": {"attention": {"query": query}}}
    )


def test_a_pooling_with_params_is_a_function_and_a_row(attentive):
    model = jsbert.SentenceTransformer.from_parts(attentive)
    tokens = model.encode("a red cat", output_value="token_embeddings")
    products = tokens @ attentive.params["pooling"]["attention"]["query"]
    weights = np.exp(products - products.max())
    wanted = np.concatenate([weights @ tokens / weights.sum(), tokens[0]])
    assert model.get_embedding_dimension() == 48
    assert (
        np.abs(model.encode(["a red cat", "a dog ran under the blue tree"])[0] - wanted).max()
        <= 1e-5
    )


def test_the_params_of_a_pooling_have_a_gradient(attentive):
    ids, mask = np.full((2, 7), 9), np.arange(7) < np.array([[7], [4]])
    ids[:, 1:3] = [[11, 30], [5, 17]]

    @jax.jit
    @jax.value_and_grad
    def total(query):
        params = attentive.params | {"pooling": {"attention": {"query": query}}}
        return siamese.encode(attentive.config, params, ids, mask)[:, 3].sum()

    query = attentive.params["pooling"]["attention"]["query"]
    step = np.where(np.arange(24) == 5, 1e-2, 0).astype(np.float32)
    difference = (total(query + step)[0] - total(query - step)[0]) / 2e-2
    got = total(query)[1]
    assert np.abs(got).min() > 0
    assert float(got[5]) == pytest.approx(
        float(difference), rel=0.002
    )  # a difference of float32 numbers


def test_a_pooling_with_params_is_not_written_without_them(attentive, tmp_path):
    with pytest.raises(ValueError, match=r"the poolings \['attention'\] have params, for which"):
        write_bi_encoder(tmp_path / "model", attentive)
    assert not (tmp_path / "model").exists()
