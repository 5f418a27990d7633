"""The encoder as a pure function; its numbers are compared with transformers in parity/."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsbert import encoders
from jsbert.compute import Compute
from jsbert.encoders import bert, roberta
from jsbert.encoders.dropout import Dropout
from jsbert.encoders.heads import Head
from jsbert.encoders.product import product
from tests import models

CONFIG = bert.Config(**models.SIZES)
PARAMS = models.perturbed(encoders.shapes(CONFIG))
FORWARD = jax.jit(encoders.forward, static_argnums=0)


def tokens(batch=5, length=11, seed=0):
    generator = np.random.default_rng(seed)
    ids = generator.integers(0, CONFIG.vocab_size, (batch, length))
    return ids, np.arange(length)[None, :] < generator.integers(1, length + 1, (batch, 1))


def test_padding_does_not_change_the_vectors_of_tokens():
    ids, mask = tokens()
    wider = np.pad(ids, ((0, 0), (0, 6)), constant_values=9)
    hidden = FORWARD(CONFIG, PARAMS, ids, mask)
    padded = FORWARD(CONFIG, PARAMS, wider, np.pad(mask, ((0, 0), (0, 6))))[:, :11]
    assert np.abs(hidden - padded)[mask].max() < 2e-6  # two orders of summation


def test_rows_do_not_see_each_other():
    ids, mask = tokens()
    alone = jnp.concatenate(
        [FORWARD(CONFIG, PARAMS, ids[i : i + 1], mask[i : i + 1]) for i in range(len(ids))]
    )
    assert np.abs(FORWARD(CONFIG, PARAMS, ids, mask) - alone)[mask].max() < 2e-6


def test_a_row_of_padding_alone_stays_finite():
    ids, mask = tokens()
    for dtype in ("float32", "bfloat16"):
        hidden = FORWARD(
            dataclasses.replace(CONFIG, compute=Compute(dtype)), PARAMS, ids, np.zeros_like(mask)
        )
        assert jnp.isfinite(hidden).all()


def test_ids_outside_the_vocabulary_give_nan_not_another_token():
    ids, mask = tokens()
    ids[2, 0] = CONFIG.vocab_size
    hidden = FORWARD(CONFIG, PARAMS, ids, mask)
    assert jnp.isnan(hidden[2]).any()
    assert jnp.isfinite(hidden[0]).all()


def test_word_vectors_in_place_of_ids_give_the_same():
    ids, mask = tokens()
    words = PARAMS["embeddings"]["word"]["embedding"][ids]
    assert np.array_equal(FORWARD(CONFIG, PARAMS, ids, mask), FORWARD(CONFIG, PARAMS, words, mask))


def test_token_types_default_to_zero():
    ids, mask = tokens()
    zeros = FORWARD(CONFIG, PARAMS, ids, mask, token_types=np.zeros_like(ids))
    assert np.abs(FORWARD(CONFIG, PARAMS, ids, mask) - zeros).max() < 1e-6
    ones = FORWARD(CONFIG, PARAMS, ids, mask, token_types=np.ones_like(ids))
    assert np.abs(zeros - ones).max() > 0.01


@pytest.mark.parametrize("dtype, highest", [("float32", True), ("bfloat16", False)])
def test_every_float32_product_asks_for_the_highest_precision(dtype, highest):
    ids, mask = tokens()
    config = dataclasses.replace(CONFIG, compute=Compute(dtype))
    jaxpr = str(jax.make_jaxpr(lambda params: encoders.forward(config, params, ids, mask))(PARAMS))
    products = jaxpr.count("dot_general[")
    assert products == 2 * 8  # six linear layers and two attention products in each of two layers
    assert jaxpr.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") + jaxpr.count(
        "precision=Precision.HIGHEST"
    ) == (products if highest else 0)


def test_bfloat16_stays_close_to_float32_and_returns_float32():
    ids, mask = tokens()
    exact = FORWARD(CONFIG, PARAMS, ids, mask)
    rounded = FORWARD(dataclasses.replace(CONFIG, compute=Compute("bfloat16")), PARAMS, ids, mask)
    assert rounded.dtype == jnp.float32
    cosine = (
        (exact * rounded).sum(-1)
        / jnp.linalg.norm(exact, axis=-1)
        / jnp.linalg.norm(rounded, axis=-1)
    )
    assert 0.999 < cosine[mask].min() < 1 - 1e-7  # close, and not secretly float32


def test_every_bfloat16_product_of_the_backward_pass_is_of_bfloat16_too():
    ids, mask = tokens()
    config = dataclasses.replace(CONFIG, compute=Compute("bfloat16"))
    gradient = jax.grad(lambda params: encoders.forward(config, params, ids, mask)[mask != 0].sum())
    operands = [
        {variable.aval.dtype.name for variable in equation.invars}
        for equation in equations(jax.make_jaxpr(gradient)(PARAMS).jaxpr)
        if equation.primitive.name == "dot_general"
    ]
    assert operands == [{"bfloat16"}] * (3 * 2 * 8)


def equations(jaxpr):
    """Yield all equations, also the equations of inner jaxprs."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.mark.parametrize(
    "spec, shapes",
    [("bi,io->bo", [(5, 7), (7, 3)]), ("bhqd,bhkd->bhqk", [(2, 3, 4, 6), (2, 3, 5, 6)])],
)
def test_products_have_the_gradients_of_einsum(spec, shapes):
    a, b = (
        np.random.default_rng(i).standard_normal(shape).astype(np.float32)
        for i, shape in enumerate(shapes)
    )
    weights = (
        np.random.default_rng(2).standard_normal(jnp.einsum(spec, a, b).shape).astype(np.float32)
    )

    def total(function):
        return lambda a, b: (weights * function(a, b)).sum()

    wanted = jax.grad(total(lambda a, b: jnp.einsum(spec, a, b)), (0, 1))(a, b)
    for dtype, limit in (("float32", 1e-5), ("bfloat16", 0.02)):
        found = jax.grad(total(lambda a, b, dtype=dtype: product(spec, a, b, dtype)), (0, 1))(a, b)
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == jnp.float32
            assert np.abs(one - other).max() < limit * np.abs(other).max()


def test_dropout_is_drawn_from_the_key_and_an_example_keeps_its_own():
    ids, mask = tokens()
    key = jax.random.key(3)
    dropped = FORWARD(CONFIG, PARAMS, ids, mask, key)
    assert np.array_equal(dropped, FORWARD(CONFIG, PARAMS, ids, mask, key))
    assert not np.allclose(dropped, FORWARD(CONFIG, PARAMS, ids, mask))
    keys = jax.random.split(key, len(ids))
    halves = [
        FORWARD(CONFIG, PARAMS, ids[part], mask[part], keys[part])
        for part in (slice(0, 2), slice(2, None))
    ]
    assert np.abs(dropped - np.concatenate(halves)).max() < 2e-5  # chunks have the same masks


def test_dropout_keeps_the_expectation():
    for raw in (jax.random.key(0), jax.random.PRNGKey(0)):
        dropout = Dropout(jax.random.split(raw, 3))
        for dropped in (
            dropout.hidden(jnp.ones((3, 50, 400)), 0.4),
            dropout.weights(jnp.ones((3, 8, 50, 50)), 0.4),
        ):
            assert dropped.mean() == pytest.approx(1, abs=0.02)
            assert (dropped == 0).mean() == pytest.approx(0.4, abs=0.01)


def test_a_head_draws_what_the_encoder_did_not():
    keys, ones = jax.random.split(jax.random.key(1), 80), jnp.ones((80, 5, 24))
    config = bert.Config(**models.SIZES, hidden_dropout_prob=0.5)
    params = {"classifier": {"kernel": jnp.eye(24), "bias": jnp.zeros(24)}}
    drawn = Head()(config, params, ones, jnp.ones((80, 5), bool), keys)
    assert set(np.unique(drawn)) == {0, 2}
    embeddings = Dropout(keys).hidden(ones, 0.5)[:, 0]
    assert np.mean(drawn == embeddings) == pytest.approx(
        0.5, abs=0.05
    )  # four standard deviations of 1920 draws


def test_dropout_of_neighbours_is_unrelated():
    dropout = Dropout(jax.random.split(jax.random.key(1), 4))
    drawn = [np.asarray(dropout.hidden(jnp.ones((4, 64, 256)), 0.5) > 0, float) for _ in range(2)]
    weights = np.asarray(dropout.weights(jnp.ones((4, 6, 64, 64)), 0.5) > 0, float)
    pairs = [
        (drawn[0], drawn[1]),  # places where dropout is used
        (drawn[0][1:], drawn[0][:-1]),  # examples
        (drawn[0][:, 1:], drawn[0][:, :-1]),  # tokens
        (drawn[0][:, :, 1:], drawn[0][:, :, :-1]),  # dimensions
        (weights[:, 1:], weights[:, :-1]),  # heads
        (weights[:, :, 1:], weights[:, :, :-1]),  # queries
        (weights[:, :, :, 1:], weights[:, :, :, :-1]),  # keys
        (weights, weights.swapaxes(2, 3)),
    ]
    for a, b in pairs:
        if a is weights:
            a, b = a[:, :, ~np.eye(64, dtype=bool)], b[:, :, ~np.eye(64, dtype=bool)]
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(
            a.size
        )  # five standard deviations


def test_gradient_equals_finite_differences_in_float64():
    ids, mask = tokens(batch=2, length=5)
    with jax.enable_x64(True):
        config = dataclasses.replace(CONFIG, compute=Compute("float64"))
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), PARAMS)
        weights = (
            np.random.default_rng(1).standard_normal((2, 5, CONFIG.hidden_size)) * mask[:, :, None]
        )

        def loss(params):
            hidden = encoders.forward(config, params, ids, mask)
            assert hidden.dtype == jnp.float64
            return (hidden * weights).sum()

        gradient = jax.jit(jax.grad(loss))(params)
        direction = jax.tree.map(
            lambda x: jnp.asarray(np.random.default_rng(2).standard_normal(x.shape)), params
        )
        step = 1e-6
        ahead, behind = (
            jax.jit(loss)(jax.tree.map(lambda p, d, s=s: p + s * d, params, direction))
            for s in (step, -step)
        )
        along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, direction)))
        assert float(along) == pytest.approx(float((ahead - behind) / (2 * step)), rel=1e-6)


def test_per_example_gradients_are_vmap_of_grad():
    ids, mask = tokens(batch=3)

    def loss(params, ids, mask):
        return encoders.forward(CONFIG, params, ids[None], mask[None]).sum()

    each = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0, 0)))(PARAMS, ids, mask)
    second = jax.jit(jax.grad(loss))(PARAMS, ids[1], mask[1])
    for a, b in zip(jax.tree.leaves(each), jax.tree.leaves(second), strict=True):
        assert np.abs(a[1] - b).max() < 1e-4 * max(
            1, np.abs(b).max()
        )  # float32, two summation orders


def test_a_tree_of_shapes_is_the_callers_own():
    encoders.shapes(CONFIG)["embeddings"].clear()
    assert jax.tree.map(jnp.shape, PARAMS) == jax.tree.map(
        lambda leaf: leaf.shape, encoders.shapes(CONFIG)
    )


def test_shapes_do_not_keep_the_mesh_they_were_first_asked_for_under():
    config = dataclasses.replace(
        CONFIG, vocab_size=CONFIG.vocab_size + 2
    )  # a config that no other test uses
    with jax.set_mesh(jax.make_mesh((2,), ("rows",))):
        encoders.shapes(config)
    assert {leaf.sharding for leaf in jax.tree.leaves(encoders.shapes(config))} == {None}


def test_an_encoder_is_put_together_once_for_its_shapes_its_names_and_its_products(monkeypatch):
    config, made = (
        dataclasses.replace(CONFIG, initializer_range=0.017),
        [],
    )  # a config that no other test uses
    encoder = bert.Encoder
    monkeypatch.setattr(bert, "Encoder", lambda *inputs: made.append(inputs) or encoder(*inputs))
    encoders.tensor_names(config)
    encoders.forward(config, models.perturbed(encoders.shapes(config)), *tokens())
    assert len(made) == 1


def test_init_gives_the_shapes_and_distribution_of_a_new_bert():
    params = encoders.init(CONFIG, jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        lambda leaf: leaf.shape, encoders.shapes(CONFIG)
    )
    assert params["layers"][0]["output"]["kernel"].std() == pytest.approx(0.02, rel=0.1)
    assert params["embeddings"]["word"]["embedding"].std() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"num_attention_heads": 5}, "num_attention_heads 5 does not divide hidden_size 24"),
        ({"hidden_act": "mish"}, "unknown activation 'mish'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"hidden_size": -24}, "hidden_size is -24"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, "is_decoder is True"),
    ],
)
def test_configs_that_cannot_be_computed_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        bert.Config.from_json(models.SIZES | values, where="there/config.json")


def test_positions_counted_from_the_padding_token_need_one():
    with pytest.raises(
        ValueError, match=r"there/config.json: pad_token_id is null; positions are counted from it"
    ):
        roberta.Config.from_json(models.SIZES | {"pad_token_id": None}, where="there/config.json")


def test_config_goes_to_json_and_back():
    config = dataclasses.replace(CONFIG, hidden_act="relu", layer_norm_eps=1e-5)
    assert bert.Config.from_json(config.to_json()) == config
