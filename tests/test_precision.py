"""Matrices in int8 and bfloat16, and which dtype "auto" stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsbert
from jsbert import encoders
from jsbert.encoders import bert, product
from jsbert.encoders.casting import in_dtype, in_float32, round_to_int8
from jsbert.engine import placement
from tests import models


def cosines(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_a_rows_largest_entry_becomes_127_and_the_rest_is_rounded_to_the_nearest():
    rounded, scale = round_to_int8(
        jnp.array([[1.27, -0.5, 0.004, 0.0], [0.0, 0.0, 0.0, 0.0], [-2.0, 1.0, 0.0, 0.5]])
    )
    assert rounded.dtype == jnp.int8
    assert rounded.tolist() == [[127, -50, 0, 0], [0, 0, 0, 0], [-127, 64, 0, 32]]
    np.testing.assert_allclose(scale[:, 0], [0.01, 1.0, 2 / 127], rtol=1e-6)


@pytest.mark.parametrize("is_fast", [True, False])
def test_the_int8_product_is_the_product_of_the_rounded_operands(monkeypatch, is_fast):
    monkeypatch.setattr(product, "int8_is_fast", lambda: is_fast)
    key = jax.random.key(0)
    rows = jax.random.normal(key, (7, 300)) * jnp.arange(1, 8)[:, None]
    linear = in_dtype(
        {"kernel": jax.random.normal(key, (300, 11)) * jnp.arange(1, 12)[None]}, "int8"
    )
    rounded, scale = round_to_int8(rows)
    expected = (
        np.asarray(rounded, np.int64) @ np.asarray(linear["kernel"], np.int64)
    ) * np.float64(scale)
    found = product.int8_product(rows, linear["kernel"], linear["kernel_scale"])
    np.testing.assert_allclose(found, expected * np.float64(linear["kernel_scale"]), rtol=1e-5)


def test_every_column_has_a_scale_of_its_own_and_only_matrices_change():
    config = bert.Config(**models.SIZES)
    params = encoders.init(config, jax.random.key(0))
    held = in_dtype(params, "int8")
    query, exact = (
        held["layers"][0]["attention"]["query"],
        params["layers"][0]["attention"]["query"],
    )
    assert query["kernel"].dtype == jnp.int8
    assert (np.abs(query["kernel"]).max(0) == 127).all()
    np.testing.assert_allclose(
        query["kernel_scale"], np.abs(exact["kernel"]).max(0) / 127, rtol=1e-6
    )
    assert held["embeddings"] is not params["embeddings"]
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, held["embeddings"], params["embeddings"]))
    assert query["bias"] is exact["bias"]
    again = in_float32(held)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    error = np.abs(again["layers"][0]["attention"]["query"]["kernel"] - exact["kernel"])
    assert (error <= np.asarray(query["kernel_scale"])[None] * 0.501).all()


@pytest.mark.parametrize("dtype, least", [("bfloat16", 0.999), ("int8", 0.995)])
def test_vectors_stay_near_those_of_float32(tiny_folder, dtype, least):
    texts = models.sentences(40)
    exact = jsbert.SentenceTransformer(tiny_folder).encode(texts)
    assert (
        cosines(jsbert.SentenceTransformer(tiny_folder, dtype=dtype).encode(texts), exact).min()
        > least
    )


def test_the_bundled_model_in_int8():
    texts = [text for text in models.sentences(200) if text]
    exact, rounded = (jsbert.SentenceTransformer(dtype=dtype) for dtype in ("float32", "int8"))
    found = rounded.encode(texts)
    near = cosines(found, exact.encode(texts))
    assert near.mean() > 0.995
    assert near.min() > 0.98
    alone = np.stack([rounded.encode(text) for text in texts[:20]])
    assert cosines(alone, found[:20]).min() > 0.995


def test_an_int8_model_is_saved_with_the_values_it_computes_with(tmp_path, tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder, dtype="int8")
    model.save_pretrained(tmp_path)
    again = jsbert.SentenceTransformer(tmp_path, dtype="int8")
    np.testing.assert_allclose(again.encode("a red cat"), model.encode("a red cat"), atol=1e-6)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(model.parts.params)} == {"float32"}
    assert model.parts.config.encoder.compute.dtype == "float32"


def test_an_int8_cross_encoder_scores_nearly_as_in_float32(tmp_path):
    folder = models.write_cross_folder(tmp_path)
    pairs = [("a cat", "the dog sat"), ("red house", "blue tree on the house")]
    exact = jsbert.CrossEncoder(folder).predict(pairs, activation_fn="identity")
    np.testing.assert_allclose(
        jsbert.CrossEncoder(folder, dtype="int8").predict(pairs, activation_fn="identity"),
        exact,
        atol=0.1,
    )


def test_params_can_be_replaced_in_an_int8_model(tiny_folder):
    model, exact = (
        jsbert.SentenceTransformer(tiny_folder, dtype=dtype) for dtype in ("int8", "float32")
    )
    before = model.encode("a red cat")
    model.params = jax.tree.map(lambda leaf: leaf * 1.5, exact.params)
    assert not np.allclose(model.encode("a red cat"), before)
    model.params = exact.params
    assert np.array_equal(model.encode("a red cat"), before)


def test_int8_has_no_gradient_and_says_so(tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder, dtype="int8")
    mask = jnp.ones((1, 4), int)
    with pytest.raises(
        TypeError, match="int8 products have no gradient; open the model with dtype='float32'"
    ):
        jax.grad(
            lambda words: jsbert.siamese.encode(model.config, model.params, words, mask).sum()
        )(jnp.ones((1, 4, 24)))


@pytest.mark.parametrize(
    "platform, features, dtype",
    [
        ("cpu", {"avx2", "avx512f"}, "float32"),
        ("cpu", {"avx512f", "avx512_bf16"}, "bfloat16"),
        ("cpu", {"amx_bf16"}, "bfloat16"),
        ("cpu", set(), "float32"),
        ("gpu", set(), "bfloat16"),
        ("tpu", set(), "bfloat16"),
    ],
)
def test_auto_is_decided_by_device_and_features(monkeypatch, platform, features, dtype):
    class Chip:
        def __init__(self):
            self.platform = platform

    monkeypatch.setattr(placement, "cpu_features", lambda: frozenset(features))
    assert placement.resolve_dtype("auto", [Chip()]) == dtype
    assert placement.resolve_dtype("int8", [Chip()]) == "int8"


def test_the_model_says_what_auto_is(monkeypatch, tiny_folder):
    monkeypatch.setattr(placement, "cpu_features", lambda: frozenset({"avx512_bf16"}))
    assert jsbert.SentenceTransformer(tiny_folder, dtype="auto").dtype == "bfloat16"
    monkeypatch.setattr(placement, "cpu_features", frozenset)
    assert jsbert.SentenceTransformer(tiny_folder, dtype="auto").dtype == "float32"
    with pytest.raises(
        ValueError, match="dtype is 'int4'; choose one of 'float32', 'bfloat16', 'int8', 'auto'"
    ):
        jsbert.SentenceTransformer(tiny_folder, dtype="int4")
