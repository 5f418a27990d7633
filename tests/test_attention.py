"""Attention by `jax.nn.dot_product_attention` gives the vectors, scores and gradients of attention
written out."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsbert
from jsbert import encoders, siamese
from jsbert.adapters import load_adapter, save_adapter
from jsbert.compute import ATTENTIONS, Compute
from jsbert.config import Config
from jsbert.encoders import deberta, gemma3, llama, modernbert, mpnet, qwen3, t5
from jsbert.engine import check_attention, packed, resolve_attention
from jsbert.train import init_lora
from tests import models

TEXTS = ["the red cat", "", "a dog sat under the house " * 3, "the red cat sat under " * 20]
SIZES = {name: size for name, size in models.SIZES.items() if name != "type_vocab_size"}
CONFIGS = (
    mpnet.Config(**SIZES),
    modernbert.Config(**SIZES, local_attention=4),
    qwen3.Config(**SIZES | {"num_attention_heads": 6}, num_key_value_heads=2, head_dim=10),
    deberta.Config(**SIZES, relative_attention=True, pos_att_type=("c2p", "p2c")),
    llama.Config(
        **SIZES, num_key_value_heads=1, head_dim=10, sliding_window=4, model_type="mistral"
    ),
    gemma3.Config(
        **SIZES, num_key_value_heads=1, head_dim=10, sliding_window=4, sliding_window_pattern=2
    ),
    t5.Config(**SIZES, head_dim=10),
)
LENGTHS = np.array([12, 3, 7, 1, 9], np.int32)


def by_xla(config):
    """Return the config with the other attention."""
    if isinstance(config, Config):
        return dataclasses.replace(config, encoder=by_xla(config.encoder))
    compute = dataclasses.replace(config.compute, attn_implementation="xla")
    return dataclasses.replace(config, compute=compute)


def tokens(config):
    ids = (
        np.random.default_rng(0).integers(5, config.vocab_size, (len(LENGTHS), 12)).astype(np.int32)
    )
    return ids, np.arange(12) < LENGTHS[:, None]


@pytest.mark.parametrize(
    "dtype, tolerance", [("float32", 2e-6), ("bfloat16", 3e-2), ("int8", 3e-2)]
)
def test_vectors_are_those_of_attention_written_out(tiny_folder, dtype, tolerance):
    eager, xla = (
        jsbert.SentenceTransformer(tiny_folder, dtype=dtype, attn_implementation=name)
        for name in ("eager", "xla")
    )
    assert (eager.attn_implementation, xla.attn_implementation) == ("eager", "xla")
    wanted, found = (
        model.encode(TEXTS, on_truncate="ignore", normalize_embeddings=True)
        for model in (eager, xla)
    )
    np.testing.assert_allclose(found, wanted, atol=tolerance)
    assert not np.array_equal(found, wanted)  # it is another program


def test_a_cross_encoders_scores_too(tmp_path):
    folder = models.write_cross_folder(tmp_path)
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    wanted, found = (
        jsbert.CrossEncoder(folder, attn_implementation=name).predict(pairs, on_truncate="ignore")
        for name in ("eager", "xla")
    )
    np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_learned_biases_windows_and_causal_masks_in_packed_rows(config):
    params = models.perturbed(encoders.shapes(config))
    ids, mask = tokens(config)
    forward = jax.jit(encoders.forward, static_argnums=0)
    wanted = forward(config, params, ids, mask)[mask]
    rows = packed(ids, LENGTHS)
    found = forward(
        by_xla(config), params, rows["ids"], rows["segment_ids"], positions=rows["positions"]
    )
    places = (rows["starts"][:, None] + np.arange(12))[mask]
    np.testing.assert_allclose(found.reshape(-1, config.hidden_size)[places], wanted, atol=1e-5)


def test_gradients_also_of_a_learned_bias():
    params = models.perturbed(encoders.shapes(CONFIGS[0]))
    ids, mask = tokens(CONFIGS[0])

    @functools.partial(jax.jit, static_argnums=1)
    @jax.grad
    def gradient(params, config):
        return (jnp.sin(encoders.forward(config, params, ids, mask)) * mask[:, :, None]).sum()

    wanted, found = (gradient(params, config) for config in (CONFIGS[0], by_xla(CONFIGS[0])))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), found, wanted)
    assert float(jnp.abs(found["distances"]["embedding"]).max()) > 0.1


def test_towers_under_vmap(tmp_path):
    model = models.parts(tmp_path)
    ids, mask = (np.stack([array, array[::-1]]) for array in tokens(model.config.encoder))
    towers = jax.jit(siamese.encode_towers, static_argnums=0)
    wanted, found = (
        towers(config, model.params, ids, mask) for config in (model.config, by_xla(model.config))
    )
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_a_row_of_padding_alone_has_finite_vectors(tmp_path):
    model = models.parts(tmp_path)
    ids, mask = np.full((2, 6), 7), np.array([[1] * 6, [0] * 6])
    compute = Compute("bfloat16", attn_implementation="xla")
    config = dataclasses.replace(model.config.encoder, compute=compute)
    found = jax.jit(encoders.forward, static_argnums=0)(config, model.params["encoder"], ids, mask)
    assert np.isfinite(found).all()


def test_dropout_of_the_weights_is_written_out(tmp_path):
    model = models.parts(tmp_path)
    ids, mask = np.full((2, 6), 7), np.ones((2, 6), int)
    encode = jax.jit(siamese.encode, static_argnums=0)
    keyed = (model.params, ids, mask, jax.random.key(3))
    one, other = (encode(config, *keyed) for config in (model.config, by_xla(model.config)))
    assert np.array_equal(one, other)


def test_the_choice_is_no_part_of_the_folder(tmp_path, tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder, attn_implementation="xla")
    assert model.parts.config.encoder.compute.attn_implementation == "eager"
    model.save_pretrained(tmp_path)
    assert "attn_implementation" not in (tmp_path / "config.json").read_text()
    assert jsbert.SentenceTransformer(tmp_path).attn_implementation == "eager"


def test_an_adapted_model_keeps_the_choice(tmp_path, tiny_folder):
    model = jsbert.SentenceTransformer(tiny_folder, attn_implementation="xla")
    lora = init_lora(model.params["encoder"], jax.random.key(0), rank=2)
    save_adapter(model, lora, tmp_path, alpha=4)
    assert load_adapter(model, tmp_path).attn_implementation == "xla"


def test_what_does_not_exist_or_cannot_run_here(tiny_folder):
    with pytest.raises(
        ValueError,
        match="attn_implementation is 'sdpa'; it must be 'auto', 'eager', 'xla', 'cudnn' or 'flash'",
    ):
        jsbert.SentenceTransformer(tiny_folder, attn_implementation="sdpa")
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(
            ValueError, match=rf"'cudnn', with dtype '{dtype}' on \[.*; it needs dtype 'bfloat16'"
        ):
            jsbert.SentenceTransformer(tiny_folder, attn_implementation="cudnn", dtype=dtype)


@pytest.mark.parametrize(
    "capability, dtype, able",
    [("9.0", "bfloat16", True), ("8.0", "int8", True), ("12.0", "bfloat16", True), ("9.0", "float32", False),
     ("7.5", "bfloat16", False), ("gfx942", "bfloat16", False), (None, "bfloat16", False)],
)  # fmt: skip
def test_which_devices_have_cudnns_kernel(capability, dtype, able):
    known = {} if capability is None else {"compute_capability": capability}
    devices = [types.SimpleNamespace(platform="gpu", **known)]
    for name in ATTENTIONS:
        if name == "flash":
            with pytest.raises(ValueError, match="it needs TPUs"):
                check_attention(name, dtype, devices)
        elif name != "cudnn" or able:
            check_attention(name, dtype, devices)
        else:
            with pytest.raises(ValueError, match="compute capability 8.0 or higher"):
                check_attention(name, dtype, devices)


@pytest.mark.parametrize(
    ("platform", "known", "taken"),
    [
        ("cpu", {}, "eager"),
        ("gpu", {"compute_capability": "7.5"}, "eager"),
        ("gpu", {"compute_capability": "9.0"}, "auto"),
        ("tpu", {}, "auto"),
    ],
)
def test_auto_stays_where_there_is_a_choice(platform, known, taken):
    devices = [types.SimpleNamespace(platform=platform, **known)]
    assert resolve_attention("auto", devices) == taken
    assert resolve_attention("xla", devices) == "xla"


def test_auto_takes_fused_kernels_for_long_rows_in_bfloat16():
    def taken(platform, dtype, length):
        compute = Compute(dtype, attn_implementation="auto", platform=platform)
        return compute.attention(length)

    assert [taken("gpu", "bfloat16", length) for length in (64, 128, 512)] == [
        "eager",
        "cudnn",
        "cudnn",
    ]
    assert [taken("tpu", "bfloat16", length) for length in (128, 256, 300)] == [
        "eager",
        "flash",
        "eager",
    ]
    assert taken("gpu", "float32", 512) == taken("cpu", "bfloat16", 512) == "eager"
    compute = Compute("bfloat16", attn_implementation="auto", platform="tpu")
    assert compute.described_attention == "eager; flash in rows of 256 tokens and more"
