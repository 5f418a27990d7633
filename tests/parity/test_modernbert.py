"""ModernBERT against transformers and sentence-transformers: stages, old and new configs, heads,
folders in both directions."""

import dataclasses
import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentence_transformers
import torch
import transformers

import jsbert
from jsbert import encoders
from jsbert.checkpoint import read_bi_encoder
from jsbert.compute import Compute
from jsbert.encoders import modernbert
from tests import models
from tests.parity import families, reference
from tests.parity.families import FORWARD, STAGES, opened, written

VARIANTS = {
    "as published": {},
    "biases": {"attention_bias": True, "mlp_bias": True, "norm_bias": True},
    "own layers": {
        "layer_types": [
            "sliding_attention",
            "full_attention",
            "full_attention",
            "sliding_attention",
        ],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 300.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 7.0},
        },
    },
    "other activation": {"hidden_activation": "silu", "norm_eps": 0.1, "local_attention": 3},
}
TEXTS = [*models.sentences(20, seed=3, longest=20), "", "a" * 300]


build = functools.partial(
    families.build, "modernbert", num_hidden_layers=4, global_attn_every_n_layers=3
)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_stage_equals_transformers(tmp_path, variant):
    model = build(**VARIANTS[variant])
    config, params = opened(written(tmp_path, model))
    for side in ("right", "left"):
        ids, mask = reference.tokens(side=side, length=16)
        reference.assert_same_stages(
            STAGES(config, params, ids, mask), reference.hidden_states(model, ids, mask), mask
        )


def test_windows_and_angles_hold_far_into_a_text(tmp_path):
    model = build(local_attention=50)
    config, params = opened(written(tmp_path, model))
    ids, mask = reference.tokens(batch=2, length=600)
    mask[0] = 1
    got = np.asarray(FORWARD(config, params, ids, mask))[0]
    assert (
        reference.largest_difference(got, reference.hidden_states(model, ids, mask)[-1][0]) <= 1e-5
    )


@pytest.mark.parametrize("every", [1, 2])
def test_older_and_newer_configs_say_the_same(tmp_path, every):
    file = written(tmp_path / "older", build()) / "config.json"
    values = json.loads(file.read_text())
    for name in ("layer_types", "rope_parameters"):
        del values[name]
    older = {
        "global_attn_every_n_layers": every,
        "global_rope_theta": 90.0,
        "local_rope_theta": 5.0,
    }
    file.write_text(json.dumps(values | older))
    model = transformers.AutoModel.from_pretrained(
        tmp_path / "older"
    ).eval()  # this writes the newer keys
    model.save_pretrained(tmp_path / "newer")
    models.write_vocabulary(tmp_path / "newer")
    assert json.loads((tmp_path / "newer/config.json").read_text())["rope_parameters"][
        "sliding_attention"
    ]
    ids, mask = reference.tokens()
    counted = mask.astype(bool)
    for name in ("older", "newer"):
        parts = read_bi_encoder(tmp_path / name, pooling="mean")
        got = np.asarray(FORWARD(parts.config.encoder, parts.params["encoder"], ids, mask))
        assert (
            reference.largest_difference(
                got[counted], reference.hidden_states(model, ids, mask)[-1][counted]
            )
            <= 1e-5
        )
        back = parts.config.encoder.to_json()
        assert {key: back[key] for key in older} == older
        assert back["layer_types"] == model.config.layer_types
        assert back["rope_parameters"] == model.config.rope_parameters


def test_layers_without_a_period_are_not_given_one():
    kinds = ["full_attention", "full_attention", "sliding_attention"]
    values = {"num_hidden_layers": 3, "layer_types": kinds}
    back = modernbert.Config.from_json(values).to_json()
    assert (back["global_attn_every_n_layers"], back["layer_types"]) == (None, kinds)
    assert modernbert.Config.from_json(back).kinds == tuple(kinds)


@pytest.mark.parametrize("variant", ["biases", "own layers"])
def test_folders_both_ways(tmp_path, variant):
    folder = written(tmp_path / "there", build(**VARIANTS[variant]), model_max_length=30)
    ours = jsbert.SentenceTransformer(folder, pooling="cls")
    pooling = sentence_transformers.sentence_transformer.modules.Pooling(24, "cls")
    transformer = sentence_transformers.sentence_transformer.modules.Transformer(str(folder))
    model = sentence_transformers.SentenceTransformer(modules=[transformer, pooling], device="cpu")
    wanted = model.encode(TEXTS)
    assert reference.largest_difference(ours.encode(TEXTS, on_truncate="ignore"), wanted) <= 1e-5
    ours.save_pretrained(tmp_path / "back")
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "back"), device="cpu")
    assert reference.largest_difference(again.encode(TEXTS), wanted) <= 1e-6
    assert (
        type(transformers.AutoModel.from_pretrained(tmp_path / "back")).__name__
        == "ModernBertModel"
    )


@pytest.mark.parametrize(
    "num_labels, options",
    [
        (3, {"classifier_pooling": "mean", "classifier_bias": True, "norm_bias": True}),
        (2, {"classifier_pooling": "mean", "classifier_activation": "silu"}),
    ],
    ids=str,
)
def test_cross_encoders_both_ways(tmp_path, num_labels, options):
    first, second = models.sentences(12, seed=1), models.sentences(12, seed=2, longest=20)
    pairs = [*zip(first, second, strict=True), ("", ""), ("", "red " * 50)]
    whole = build(kind="ForSequenceClassification", num_labels=num_labels, **options)
    folder = written(tmp_path / "there", whole, model_max_length=26)
    ours = jsbert.CrossEncoder(folder)
    got = ours.predict(pairs, on_truncate="ignore", activation_fn="identity")
    wanted = sentence_transformers.CrossEncoder(str(folder), device="cpu").predict(
        pairs, activation_fn=torch.nn.Identity()
    )
    assert reference.largest_difference(got, wanted) <= 1e-5
    ours.save_pretrained(tmp_path / "back")
    back = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "back")
    assert type(back) is type(whole)
    assert all(getattr(back.config, name) == value for name, value in options.items())
    for name, parameter in whole.state_dict().items():
        assert torch.equal(parameter, back.state_dict()[name])


def test_each_dropout_draws_and_gradients_are_finite(tmp_path):
    config, params = opened(
        written(tmp_path, build(num_hidden_layers=1, layer_types=["sliding_attention"]))
    )
    ids, mask = map(jnp.asarray, reference.tokens())
    mask = mask.at[0].set(0)  # a row that is all padding

    @functools.partial(jax.jit, static_argnums=1)
    def total(params, config, key):
        return (encoders.forward(config, params, ids, mask, key) * mask[:, :, None]).sum()

    keys = [jax.random.key(seed) for seed in (1, 1, 2)]
    plain = total(params, config, None)
    rates = dict.fromkeys(("embedding_dropout", "attention_dropout", "mlp_dropout"), 0.3)
    for name, rate in rates.items():
        dropping = modernbert.Config.from_json(config.to_json() | {name: rate})
        one, same, other = (total(params, dropping, key) for key in keys)
        assert one == same
        assert len({float(plain), float(one), float(other)}) == 3
    everything = modernbert.Config.from_json(config.to_json() | rates)
    gradient = jax.grad(total)(
        params, dataclasses.replace(everything, compute=Compute(remat=True)), keys[0]
    )
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))


def test_the_window_is_computed_once_for_all_layers():
    def windows(layers):
        config = modernbert.Config(
            vocab_size=9, hidden_size=8, num_attention_heads=2, num_hidden_layers=layers
        )
        ids = jax.ShapeDtypeStruct((5, 19), jnp.int32)
        program = jax.make_jaxpr(lambda *inputs: encoders.forward(config, *inputs))(
            encoders.shapes(config), ids, ids
        )
        return len(re.findall(r"bool\[1,1,19,19\]", str(program)))

    assert windows(2) == windows(5) > 0


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            "rope_type is 'linear'; only 'default'",
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
            "of full_attention: rope_type is 'yarn'",
        ),
        (
            {"local_rope_theta": 0},
            "of sliding_attention: rope_theta is 0; it must be a positive number",
        ),
        ({"layer_types": ["full_attention"] * 3}, "layer_types is .* each of 22 layers"),
        (
            {"num_hidden_layers": 1, "layer_types": ["chunked_attention"]},
            "layer_types is .'chunked_attention'",
        ),
        ({"classifier_pooling": "max"}, "classifier_pooling is 'max'; it must be 'cls' or 'mean'"),
        ({"hidden_size": 36}, "hidden_size 36 over num_attention_heads 12 is odd"),
        ({"mlp_dropout": 2}, "mlp_dropout is 2"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=f"there.json: .*{message}"):
        modernbert.Config.from_json(values, where="there.json")
