"""How an encoder is computed changes nothing but speed: scanned layers, stacked params, bfloat16
activations."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jsbert import encoders
from jsbert.compute import Compute
from jsbert.encoders import (
    albert,
    bert,
    deberta,
    electra,
    gemma3,
    gte,
    llama,
    modernbert,
    mpnet,
    nomic_bert,
    qwen3,
    roberta,
    t5,
)
from jsbert.encoders.layers import repetition
from tests import models

SIZES = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 7,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
}
CONFIGS = {
    "bert": bert.Config(**SIZES),
    "roberta": roberta.Config(**SIZES),
    "mpnet": mpnet.Config(**SIZES),
    "electra": electra.Config(**SIZES, embedding_size=12),
    "albert": albert.Config(**SIZES, embedding_size=12, inner_group_num=2),
    "albert, groups": albert.Config(**SIZES, embedding_size=12, num_hidden_groups=2),
    "deberta": deberta.Config(
        **SIZES,
        relative_attention=True,
        pos_att_type=("c2p", "p2c"),
        position_buckets=8,
        share_att_key=True,
        conv_kernel_size=3,
    ),
    "modernbert": modernbert.Config(**SIZES, local_attention=6),
    "nomic_bert": nomic_bert.Config(**SIZES),
    "gte": gte.Config(**SIZES),
    "qwen3": qwen3.Config(**SIZES, num_key_value_heads=1, head_dim=8),
    "llama": llama.Config(
        **SIZES, num_key_value_heads=1, head_dim=8, attention_bias=True, mlp_bias=True
    ),
    "mistral": llama.Config(
        **SIZES, num_key_value_heads=1, head_dim=8, sliding_window=6, model_type="mistral"
    ),
    "gemma3": gemma3.Config(
        **SIZES, num_key_value_heads=1, head_dim=8, sliding_window=6, sliding_window_pattern=3
    ),
    "t5": t5.Config(**SIZES, head_dim=10),
    # With few layers: the scores are not scaled, so random weights make attention sharp, and after
    # seven layers both forms are 1e-5 from the result in float64.
    "t5, gated": t5.Config(
        **SIZES | {"num_hidden_layers": 2}, head_dim=8, is_gated_act=True, hidden_act="gelu_new"
    ),
}
FORWARD = jax.jit(encoders.forward, static_argnums=0)
STAGES = jax.jit(encoders.hidden_states, static_argnums=0)


def on(config, platform, **how):
    return dataclasses.replace(config, compute=Compute(platform=platform, **how))


def setup(name):
    config = CONFIGS[name]
    ids = np.random.default_rng(0).integers(5, 50, (4, 13)).astype(np.int32)
    mask = np.arange(13)[None] < np.array([[13], [2], [9], [5]])
    return config, models.perturbed(encoders.shapes(config)), ids, mask


@pytest.mark.parametrize("name", CONFIGS)
def test_scanned_layers_give_the_stages_of_unrolled_ones(name):
    config, params, ids, mask = setup(name)
    wanted = STAGES(config, params, ids, mask)
    for tree in (params, encoders.stacked(config, params)):
        found = STAGES(on(config, "tpu"), tree, ids, mask)
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            # Entries of Gemma reach 20, because its norms multiply by 1 + scale, here about 2.
            np.testing.assert_allclose(one[mask], other[mask], rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "modernbert", "albert, groups"])
@pytest.mark.parametrize("remat", [False, True])
def test_a_scan_draws_the_same_dropout_and_has_the_same_gradients(name, remat):
    config, params, ids, mask = setup(name)

    @functools.partial(jax.jit, static_argnums=1)
    def gradients(params, config):
        def total(params):
            hidden = encoders.forward(config, params, ids, mask, jax.random.key(3))
            return jnp.sum(jnp.where(mask[:, :, None], hidden, 0.0) ** 3)

        return jax.grad(total)(params)

    wanted, found = gradients(params, config), gradients(params, on(config, "tpu", remat=remat))
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(wanted)) > 0.1
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * max(1.0, np.abs(other).max()))


@pytest.mark.parametrize("name", CONFIGS)
def test_stacked_params_are_unstacked_again_and_checkpoints_keep_their_names(name):
    config, params, _, _ = setup(name)
    stacked = encoders.stacked(config, params)
    again = encoders.unstacked(stacked)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    assert all(map(np.array_equal, jax.tree.leaves(again), jax.tree.leaves(params)))
    assert encoders.stacked(config, stacked) is stacked
    assert encoders.unstacked(params) is params


def test_which_layers_repeat():
    def repeats(config):
        encoder = encoders.family(config).Encoder(config, nnx.Rngs(0))
        return repetition(list(encoder.layers))

    assert repeats(CONFIGS["bert"]) == (0, 1, 7)
    assert repeats(CONFIGS["modernbert"]) == (1, 3, 2)
    assert repeats(CONFIGS["deberta"]) == (1, 1, 6)
    assert repeats(CONFIGS["qwen3"]) == (0, 1, 7)
    assert repeats(CONFIGS["gemma3"]) == (0, 3, 2)
    assert repeats(CONFIGS["t5"]) == (0, 1, 7)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_bfloat16_activations_keep_the_vectors(name, dtype):
    config, params, ids, mask = setup(name)
    exact = FORWARD(config, params, ids, mask)
    held = encoders.casting.in_dtype(params, dtype)
    short = FORWARD(on(config, "tpu", dtype=dtype), held, ids, mask)
    assert short.dtype == jnp.float32
    means = [jnp.sum(x * mask[:, :, None], axis=1) for x in (exact, short)]
    cosines = jnp.sum(means[0] * means[1], axis=1) / np.prod(
        [jnp.linalg.norm(mean, axis=1) for mean in means], axis=0
    )
    assert (0.999 if dtype == "bfloat16" else 0.98) < cosines.min() < 1 - 1e-7
