"""The step: chunks, micro-batches and devices change nothing; frozen params stay; examples have
gradients of their own.

Equal values agree to 1e-10 in float64, and to 1e-5 of each tensor's largest entry in float32.
"""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jsbert import encoders, losses, siamese
from jsbert.compute import Compute
from jsbert.encoders import bert
from jsbert.engine import packed
from jsbert.modules import Dense, Normalize
from jsbert.train import (
    State,
    example_keys,
    gradients,
    init_state,
    make_step,
    objective,
    of_embeddings,
    per_example_grads,
)
from jsbert.train.step import all_params
from tests import models

ROWS, TOWERS, LENGTH = 16, 3, 12
KEY = jax.random.key(3)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, eps=1e-3))
"""A large epsilon. Adam divides by the size of the gradient, and so magnifies differences where the
gradient is almost zero."""


@pytest.fixture(scope="module")
def tiny_parts(tmp_path_factory):
    return models.parts(tmp_path_factory.mktemp("train"), head=(Dense(24, 10), Normalize()))


def setup(parts, dtype, kind="multiple-negatives-ranking", *, remat=False, **encoder):
    """Return (objective, params, batch) in a dtype."""
    encoder = dataclasses.replace(parts.config.encoder, compute=Compute(dtype, remat), **encoder)
    config = dataclasses.replace(parts.config, encoder=encoder)
    generator = np.random.default_rng(0)
    batch = {
        "ids": generator.integers(5, models.SIZES["vocab_size"], (ROWS, TOWERS, LENGTH)).astype(
            np.int32
        ),
        "lengths": generator.integers(2, LENGTH + 1, (ROWS, TOWERS)).astype(np.int32),
    }
    return (
        objective(kind)(config, name="x"),
        jax.tree.map(lambda p: jnp.asarray(p, dtype), parts.params),
        batch,
    )


def copied(tree):
    """Return a copy, because a step reuses the memory of the state that it is given."""
    return jax.tree.map(jnp.copy, tree)


def grads_of(objective, params, batch, keys, **options):
    """Compute `gradients` as one program, instead of one program for each operation."""
    return jax.jit(functools.partial(gradients, objective, **options))(params, batch, keys)


def precision(dtype):
    return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()


def assert_equal(ours, wanted, dtype):
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        # The gradient of attention's key biases is 0, and float32 gives rounding errors in its
        # place. So the tolerance has a floor, taken from the largest tensor.
        tolerance = (
            1e-10 if dtype == "float64" else 1e-5 * max(float(jnp.abs(b).max()), 0.01 * largest)
        )
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("dropout", [False, True])
def test_cached_gradients_are_the_full_batchs(tiny_parts, dtype, dropout):
    with precision(dtype):
        in_batch, params, batch = setup(tiny_parts, dtype)
        keys = example_keys(KEY, 7, ROWS) if dropout else None
        full = grads_of(in_batch, params, batch, keys)
        for chunk_size in (4, 5, ROWS):  # with 5, the last chunk must be filled up
            assert_equal(
                grads_of(in_batch, params, batch, keys, chunk_size=chunk_size), full, dtype
            )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("dropout", [False, True])
def test_accumulated_micro_batches_are_the_full_batch(tiny_parts, dtype, dropout):
    with precision(dtype):
        alone, params, batch = setup(tiny_parts, dtype, "triplet")
        key = KEY if dropout else None
        full = make_step(alone, OPTIMIZER)(init_state(copied(params), OPTIMIZER), batch, key)
        parts = make_step(alone, OPTIMIZER, accumulate=4)(
            init_state(copied(params), OPTIMIZER), batch, key
        )
        assert_equal(parts, full, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("options", [{}, {"chunk_size": 8}], ids=["whole", "cached"])
def test_eight_devices_make_the_update_of_one(tiny_parts, dtype, dropout, options):
    with precision(dtype):
        in_batch, params, batch = setup(tiny_parts, dtype)
        key = KEY if dropout else None
        one = make_step(in_batch, OPTIMIZER)(init_state(copied(params), OPTIMIZER), batch, key)
        mesh = Mesh(np.asarray(jax.devices()), ("rows",))
        by_row, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("rows",), ()))
        state = jax.device_put(init_state(copied(params), OPTIMIZER), everywhere)
        rows = jax.device_put(batch, by_row)
        assert len({shard.device for shard in rows["ids"].addressable_shards}) == 8
        eight = make_step(in_batch, OPTIMIZER, **options)(
            state, rows, None if key is None else jax.device_put(key, everywhere)
        )
        assert_equal(eight, one, dtype)


def test_dropout_depends_on_key_step_and_example_alone(tiny_parts):
    alone, params, batch = setup(tiny_parts, "float32", "triplet")
    forward, keys = jax.jit(alone.forward), example_keys(KEY, 2, ROWS)
    outputs = forward(params, batch, keys)
    some = {name: array[3:9] for name, array in batch.items()}
    np.testing.assert_allclose(forward(params, some, keys[3:9]), outputs[3:9], atol=1e-6)
    assert np.abs(forward(params, batch, example_keys(KEY, 3, ROWS)) - outputs).max() > 1e-2
    same = {name: np.repeat(array[:1], ROWS, axis=0) for name, array in batch.items()}
    same["ids"][:, 1], same["lengths"][:, 1] = same["ids"][:, 0], same["lengths"][:, 0]
    drawn = np.asarray(forward(params, same, keys))[:, :2].reshape(2 * ROWS, -1)
    assert (
        len(np.unique(drawn.round(5), axis=0)) == 2 * ROWS
    )  # each example, and each tower of an example, draws its own


def test_a_heads_dropout_depends_on_key_step_and_example_alone(tmp_path):
    parts = models.cross_parts(tmp_path)
    rates = {
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": 0.5,
    }
    encoder = dataclasses.replace(parts.config.encoder, **rates)
    alone = objective("binary-cross-entropy")(
        dataclasses.replace(parts.config, encoder=encoder), name="x"
    )
    generator = np.random.default_rng(0)
    batch = {
        "ids": generator.integers(5, models.SIZES["vocab_size"], (ROWS, 1, LENGTH)).astype(
            np.int32
        ),
        "lengths": generator.integers(2, LENGTH + 1, (ROWS, 1)).astype(np.int32),
        "labels": generator.random(ROWS, np.float32),
    }
    forward, keys = jax.jit(alone.forward), example_keys(KEY, 2, ROWS)
    outputs = forward(parts.params, batch, keys)
    assert np.abs(forward(parts.params, batch, None) - outputs).min() > 1e-4
    some = {name: array[3:9] for name, array in batch.items()}
    np.testing.assert_allclose(forward(parts.params, some, keys[3:9]), outputs[3:9], atol=1e-6)
    rows = packed(batch["ids"][:, 0], batch["lengths"][:, 0]) | {"lengths": batch["lengths"]}
    np.testing.assert_allclose(forward(parts.params, rows, keys), outputs, atol=1e-5)
    full = grads_of(alone, parts.params, batch, keys)
    assert_equal(grads_of(alone, parts.params, batch, keys, chunk_size=5), full, "float32")


def test_a_step_makes_the_vmapped_siamese_pass(tiny_parts):
    alone, params, batch = setup(tiny_parts, "float32", "triplet")
    mask = np.arange(LENGTH) < batch["lengths"][:, :, None]
    config = tiny_parts.config
    encode = jax.jit(siamese.encode, static_argnums=0)
    one_by_one = [encode(config, params, batch["ids"][:, t], mask[:, t]) for t in range(TOWERS)]
    np.testing.assert_allclose(
        jax.jit(alone.forward)(params, batch, None), np.stack(one_by_one, axis=1), atol=1e-6
    )


def test_remat_changes_memory_only(tiny_parts):
    keys = example_keys(KEY, 0, ROWS)
    plain, params, batch = setup(tiny_parts, "float32", num_hidden_layers=6)
    remat, _, _ = setup(tiny_parts, "float32", num_hidden_layers=6, remat=True)
    params |= {
        "encoder": models.perturbed(
            encoders.shapes(bert.Config(**models.SIZES | {"num_hidden_layers": 6}))
        )
    }
    assert_equal(
        grads_of(remat, params, batch, keys), grads_of(plain, params, batch, keys), "float32"
    )
    many = {name: np.repeat(array, 16, axis=0) for name, array in batch.items()}

    def kept_bytes(one):
        compiled = jax.jit(lambda p: gradients(one, p, many, None)).lower(params).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert kept_bytes(remat) < kept_bytes(plain)


def test_cached_gradients_take_less_memory(tiny_parts):
    in_batch, params, batch = setup(tiny_parts, "float32")
    batch = {name: np.repeat(array, 8, axis=0) for name, array in batch.items()}

    def kept_bytes(chunk_size):
        step = make_step(in_batch, optax.sgd(0.1), chunk_size=chunk_size)
        return (
            step.lower(init_state(params, optax.sgd(0.1)), batch, KEY)
            .compile()
            .memory_analysis()
            .temp_size_in_bytes
        )

    assert kept_bytes(8) < kept_bytes(None) / 4


def test_frozen_params_stay_and_the_others_move(tiny_parts):
    alone, params, batch = setup(tiny_parts, "float32", "triplet")
    state = init_state(
        copied(params), optax.adamw(1e-2), frozen=("embeddings", r"layers/0/.*kernel")
    )
    assert all(
        leaf.size < params["encoder"]["embeddings"]["word"]["embedding"].size
        for leaf in jax.tree.leaves(state.opt_state)
    )
    state, _ = make_step(alone, optax.adamw(1e-2))(state, batch, KEY)
    after = all_params(state.params, state.frozen)
    assert jax.tree.structure(after) == jax.tree.structure(params)
    for path, (old, new) in jax.tree_util.tree_leaves_with_path(
        jax.tree.map(lambda *pair: pair, params, after),
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    ):
        name = "/".join(str(key.key) for key in path)
        is_frozen = "embeddings" in name or ("layers/0/" in name and "kernel" in name)
        assert np.array_equal(old, new) == is_frozen, name


def test_patterns_that_fit_nothing_or_everything_are_refused(tiny_parts):
    params = tiny_parts.params
    with pytest.raises(
        ValueError, match="'layers/7' is found in no param's path; paths look like 'encoder/"
    ):
        init_state(params, optax.sgd(1.0), frozen=("layers/7",))
    with pytest.raises(ValueError, match="leave nothing to train"):
        init_state(params, optax.sgd(1.0), frozen=("encoder", "head"))


def test_the_mean_of_the_examples_gradients_is_the_batchs(tiny_parts):
    alone, params, batch = setup(tiny_parts, "float32", "triplet")
    keys = example_keys(KEY, 0, ROWS)
    each = per_example_grads(alone)(params, batch, keys)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(each)} == {ROWS}
    _, mean = grads_of(alone, params, batch, keys)
    assert_equal(jax.tree.map(lambda leaf: leaf.mean(axis=0), each), mean, "float32")


@pytest.mark.parametrize(
    "kind",
    [
        "multiple-negatives-ranking",
        "cosent",
        "angle",
        "online-contrastive",
        "similarity-distillation",
    ],
)
def test_in_batch_objectives_have_no_gradients_per_example(tiny_parts, kind):
    with pytest.raises(ValueError, match="examples see each other"):
        per_example_grads(objective(kind)(tiny_parts.config, name="x"))
    nested = objective(kind, matryoshka_dims=(10, 4))(tiny_parts.config, name="x")
    assert nested.in_batch


@pytest.mark.parametrize("is_packed", [False, True])
def test_every_layer_has_sentence_vectors_and_the_last_are_the_plain_ones(tiny_parts, is_packed):
    plain, params, batch = setup(tiny_parts, "float32")
    layered = objective("multiple-negatives-ranking", adaptive_layers={})(
        tiny_parts.config, name="x"
    )
    keys = example_keys(KEY, 0, ROWS)
    if is_packed:
        lengths = batch["lengths"]
        batch = packed(batch["ids"].reshape(-1, LENGTH), lengths.ravel()) | {"lengths": lengths}
    found = jax.jit(layered.forward)(params, batch, keys)
    wanted = jax.jit(plain.forward)(params, batch, keys)
    assert found.shape == (ROWS, TOWERS, tiny_parts.config.encoder.num_hidden_layers + 1, 10)
    np.testing.assert_allclose(found[:, :, -1], wanted, atol=1e-6)
    assert np.abs(found[:, :, 0] - wanted).max() > 0.01


def test_adaptive_layers_in_chunks_are_those_of_the_batch(tiny_parts):
    _, params, batch = setup(tiny_parts, "float32")
    options = {"matryoshka_dims": (10, 4), "adaptive_layers": {"layer_weighting": "log"}}
    layered = objective("multiple-negatives-ranking", **options)(tiny_parts.config, name="x")
    assert layered.in_batch
    keys = example_keys(KEY, 7, ROWS)
    full = grads_of(layered, params, batch, keys)
    assert_equal(grads_of(layered, params, batch, keys, chunk_size=5), full, "float32")


def test_an_objective_of_ones_own_is_a_function(tiny_parts):
    def mean_squared_distance(embeddings, labels):
        return jnp.mean(jnp.square(embeddings[0] - embeddings[1]), axis=-1)

    _, params, batch = setup(tiny_parts, "float32")
    own = of_embeddings(tiny_parts.config, mean_squared_distance, name="mine", labels="none")
    state, first = make_step(own, optax.sgd(1.0))(
        init_state(copied(params), optax.sgd(1.0)), batch, None
    )
    assert isinstance(state, State)
    assert int(state.step) == 1
    assert make_step(own, optax.sgd(1.0))(state, batch, None)[1]["loss"] < first["loss"]


def test_targets_may_be_given_for_each_tower(tiny_parts):
    _, params, batch = setup(tiny_parts, "float32")
    distil = objective("embedding-mse")(tiny_parts.config, name="x")
    towers = np.random.default_rng(0).standard_normal((TOWERS, ROWS, 10)).astype(np.float32)
    outputs = distil.forward(params, batch, None)
    found = distil.loss(params, outputs, batch | {"labels": towers.swapaxes(0, 1)})
    wanted = losses.embedding_mse(jnp.swapaxes(outputs, 0, 1), towers)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_the_params_of_other_objectives_wait_for_their_own_batches(tiny_parts):
    _, params, batch = setup(tiny_parts, "float32")
    pairs = {name: array[:, :2] for name, array in batch.items()} | {
        "labels": np.arange(ROWS, dtype=np.int32) % 3
    }
    one, two = (
        objective("softmax", num_labels=3)(tiny_parts.config, name=name) for name in ("one", "two")
    )
    params = copied(params) | {"objectives": {"one": one.init(KEY), "two": two.init(KEY)}}
    steps = [make_step(each, OPTIMIZER) for each in (one, two)]
    state, _ = steps[1](init_state(copied(params), OPTIMIZER), pairs, KEY)
    before = copied(state.params["objectives"])
    state, _ = steps[0](state, pairs, KEY)
    assert np.array_equal(state.params["objectives"]["two"]["kernel"], before["two"]["kernel"])
    assert not np.array_equal(state.params["objectives"]["one"]["kernel"], before["one"]["kernel"])


def test_packed_rows_are_not_cut_into_chunks(tiny_parts):
    in_batch, params, batch = setup(tiny_parts, "float32")
    rows = packed(batch["ids"].reshape(-1, LENGTH), batch["lengths"].ravel()) | {
        "lengths": batch["lengths"]
    }
    with pytest.raises(ValueError, match="packed rows are computed whole"):
        gradients(in_batch, params, rows, None, chunk_size=4)


def test_options_are_those_of_the_loss():
    with pytest.raises(
        ValueError, match="objective is 'triplett'; choose one of 'softmax', 'cosine', 'triplet'"
    ):
        objective("triplett")
    with pytest.raises(
        ValueError,
        match="'triplet' has no option marge; it has adaptive_layers, distance, margin, ",
    ):
        objective("triplet", marge=2)
    with pytest.raises(ValueError, match="'softmax' needs num_labels"):
        objective("softmax")


def test_the_softmax_classifier_is_trained_along(tiny_parts):
    config = tiny_parts.config
    _, params, batch = setup(tiny_parts, "float32")
    pairs = {name: array[:, :2] for name, array in batch.items()} | {
        "labels": np.arange(ROWS, dtype=np.int32) % 3
    }
    softmax = objective("softmax", num_labels=3, concatenation=("|u-v|", "u*v"))(config, name="nli")
    classifier = softmax.init(KEY)
    assert classifier["kernel"].shape == (2 * config.embedding_dimension, 3)
    everything = params | {"objectives": {"nli": classifier}}
    loss, grads = grads_of(softmax, everything, pairs, None)
    embeddings = jnp.swapaxes(softmax.forward(everything, pairs, None), 0, 1)
    wanted = losses.softmax_classification(
        classifier, embeddings, pairs["labels"], concatenation=("|u-v|", "u*v")
    )
    assert float(loss) == pytest.approx(float(wanted.mean()), abs=1e-6)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads["objectives"]))
