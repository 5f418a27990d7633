"""Packed rows give the same vectors and gradients as one row for each text, with and without
dropout, and have little padding."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsbert import siamese
from jsbert.compute import Compute
from jsbert.engine import packed
from jsbert.train import example_keys, gradients, objective
from tests import models


def texts(count, longest, seed=0):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, longest + 1, count).astype(np.int32)
    ids = generator.integers(5, models.SIZES["vocab_size"], (count, longest)).astype(np.int32)
    return np.where(np.arange(longest) < lengths[:, None], ids, 0), lengths


@given(st.lists(st.integers(1, 150), min_size=1, max_size=40))
@settings(deadline=None)
def test_each_token_stands_in_one_place_and_knows_its_text_and_its_position(lengths):
    lengths = np.asarray(lengths, np.int32)
    ids = np.arange(1, lengths.size * lengths.max() + 1, dtype=np.int32).reshape(lengths.size, -1)
    rows = packed(ids, lengths)
    assert len({array.shape for name, array in rows.items() if name != "starts"}) == 1
    flat, numbers, positions = (rows[name].ravel() for name in ("ids", "segment_ids", "positions"))
    for text, (start, length) in enumerate(zip(rows["starts"], lengths, strict=True)):
        part = slice(start, start + length)
        assert flat[part].tolist() == ids[text, :length].tolist()
        assert set(numbers[part]) == {text + 1}
        assert positions[part].tolist() == list(range(length))
        assert (
            start // rows["ids"].shape[1] == (start + length - 1) // rows["ids"].shape[1]
        )  # in one row
    assert (numbers > 0).sum() == lengths.sum()


def test_there_is_little_padding_and_there_are_few_shapes():
    shapes, filled = set(), []
    for seed in range(200):
        _, lengths = texts(32, 40, seed)
        ids = packed(np.ones((32, 40), np.int32), lengths)["ids"]
        shapes.add(ids.shape)
        filled.append(lengths.sum() / ids.size)
    assert np.mean(filled) > 0.88
    assert len(shapes) <= 8


@pytest.mark.parametrize("pooling", [("cls",), ("mean", "max"), ("weightedmean", "lasttoken")])
@pytest.mark.parametrize("dropout", [False, True])
def test_vectors_are_those_of_rows_of_their_own(tmp_path, pooling, dropout):
    model = models.parts(tmp_path, pooling=pooling)
    ids, lengths = texts(11, 30)
    keys = jax.random.split(jax.random.key(5), 11) if dropout else None
    mask = np.arange(30) < lengths[:, None]
    encode, encode_packed = (
        jax.jit(f, static_argnums=0) for f in (siamese.encode, siamese.encode_packed)
    )
    wanted = encode(model.config, model.params, ids, mask, keys)
    found = encode_packed(model.config, model.params, packed(ids, lengths), lengths, keys)
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    if dropout:
        assert np.abs(found - encode(model.config, model.params, ids, mask)).max() > 1e-2


@pytest.mark.parametrize("dropout", [False, True])
def test_gradients_are_those_of_the_vmapped_towers(tmp_path, dropout):
    model = models.parts(tmp_path)
    with jax.enable_x64(True):
        encoder = dataclasses.replace(model.config.encoder, compute=Compute("float64"))
        ranking = objective("multiple-negatives-ranking")(
            dataclasses.replace(model.config, encoder=encoder), name="x"
        )
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), model.params)
        ids, lengths = texts(6 * 3, 20)
        keys = example_keys(jax.random.key(1), 4, 6) if dropout else None
        towers = {"ids": ids.reshape(6, 3, 20), "lengths": lengths.reshape(6, 3)}
        compute = jax.jit(
            functools.partial(gradients, ranking)
        )  # one program instead of one for each operation
        loss, wanted = compute(params, towers, keys)
        found = compute(params, packed(ids, lengths) | {"lengths": towers["lengths"]}, keys)
        assert float(found[0]) == pytest.approx(float(loss), abs=1e-12)
        for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10, rtol=0)
