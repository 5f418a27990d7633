"""Qwen3 against transformers and sentence-transformers: stages, old and new configs, left padding,
folders in both directions."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentence_transformers
import transformers
from sentence_transformers.sentence_transformer import modules as st

import jsbert
from jsbert import encoders
from jsbert.checkpoint import read_bi_encoder
from jsbert.encoders import qwen3
from tests import models
from tests.parity import families, reference
from tests.parity.families import DECODER_VOCABULARY, FORWARD, STAGES, opened, written

VARIANTS = {
    "shared heads": {},
    "one head of keys": {
        "num_key_value_heads": 1,
        "head_dim": 4,
        "rope_parameters": {"rope_theta": 7.0},
    },
    "biases": {
        "num_key_value_heads": None,
        "attention_bias": True,
        "hidden_act": "gelu",
        "rms_norm_eps": 0.1,
    },
}
TEXTS = [*models.sentences(20, seed=3), "", "the red cat sat under " * 20]


build = functools.partial(families.build, "qwen3")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_stage_equals_transformers(tmp_path, variant):
    model = build(**VARIANTS[variant])
    config, params = opened(written(tmp_path, model))
    for side in ("right", "left"):
        ids, mask = reference.tokens(side=side, length=16)
        reference.assert_same_stages(
            STAGES(config, params, ids, mask), reference.hidden_states(model, ids, mask), mask
        )


def test_angles_hold_far_into_a_text(tmp_path):
    model = build(rope_parameters={"rope_theta": 1e6})
    config, params = opened(written(tmp_path, model))
    ids, mask = reference.tokens(batch=1, length=600)
    mask[:] = 1
    got = FORWARD(config, params, ids, mask)
    assert reference.largest_difference(got, reference.hidden_states(model, ids, mask)[-1]) <= 1e-5


def test_older_and_newer_configs_say_the_same(tmp_path):
    file = written(tmp_path / "older", build()) / "config.json"
    values = json.loads(file.read_text())
    del values["rope_parameters"], values["layer_types"]
    file.write_text(json.dumps(values | {"rope_theta": 9.0, "rope_scaling": None}))
    model = transformers.AutoModel.from_pretrained(tmp_path / "older").eval()
    written(tmp_path / "newer", model)
    ids, mask = reference.tokens()
    counted = mask.astype(bool)
    for name in ("older", "newer"):
        parts = read_bi_encoder(tmp_path / name, pooling="lasttoken")
        got = np.asarray(FORWARD(parts.config.encoder, parts.params["encoder"], ids, mask))
        assert (
            reference.largest_difference(
                got[counted], reference.hidden_states(model, ids, mask)[-1][counted]
            )
            <= 1e-5
        )
        back = parts.config.encoder.to_json()
        assert back["rope_theta"] == 9.0
        assert back["rope_parameters"] == model.config.rope_parameters


@pytest.mark.parametrize(
    "variant, pad", [("shared heads", "<pad>"), ("biases", "<end>")]
)  # Qwen pads with its end token
def test_left_padding_and_the_appended_end_give_the_same_vectors_both_ways(tmp_path, variant, pad):
    written(tmp_path / "trunk", build(**VARIANTS[variant]), pad=pad)
    transformer = st.Transformer(str(tmp_path / "trunk"), max_seq_length=15)
    prompts = {"query": "query : the cat ran on ", "document": ""}
    reference_model = sentence_transformers.SentenceTransformer(
        modules=[transformer, st.Pooling(24, "lasttoken"), st.Normalize()],
        device="cpu",
        prompts=prompts,
    )
    reference_model.save_pretrained(str(tmp_path / "there"), create_model_card=False)
    padded = reference_model.tokenize(["cat", "the red dog sat"])
    assert padded["input_ids"][0].tolist() == [
        *[DECODER_VOCABULARY.index(pad)] * 3,
        DECODER_VOCABULARY.index("cat"),
        2,
    ]

    ours = jsbert.SentenceTransformer(tmp_path / "there")
    wanted = reference_model.encode(TEXTS)
    assert reference.largest_difference(ours.encode(TEXTS, on_truncate="ignore"), wanted) <= 1e-5
    queries = reference_model.encode_query(TEXTS)
    assert np.abs(queries - wanted).max() > 0.1
    assert (
        reference.largest_difference(ours.encode_query(TEXTS, on_truncate="ignore"), queries)
        <= 1e-5
    )

    ours.save_pretrained(tmp_path / "back")
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "back"), device="cpu")
    assert again.tokenizer.padding_side == "left"
    assert reference.largest_difference(again.encode_query(TEXTS), queries) <= 1e-6
    assert type(transformers.AutoModel.from_pretrained(tmp_path / "back")).__name__ == "Qwen3Model"


def test_what_is_before_a_token_is_computed_once_for_all_layers():
    def masks(layers):
        config = qwen3.Config(vocab_size=9, hidden_size=64, num_hidden_layers=layers)
        ids = jax.ShapeDtypeStruct((5, 19), jnp.int32)
        program = jax.make_jaxpr(lambda *inputs: encoders.forward(config, *inputs))(
            encoders.shapes(config), ids, ids
        )
        return len(re.findall(r"bool\[1,1,19,19\]", str(program)))

    assert masks(2) == masks(5) > 0


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0}},
            "rope_scaling: rope_type is 'yarn'; only 'default'",
        ),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "rope_parameters: rope_type is 'dynamic'"),
        (
            {"rope_parameters": {"rope_theta": True}},
            "rope_theta is True; it must be a positive number",
        ),
        ({"rope_parameters": [1]}, r"rope_parameters is \[1\]; it must be of type dict"),
        ({"use_sliding_window": True}, "use_sliding_window is True; only False"),
        ({"is_causal": False}, "is_causal is False; only True"),
        (
            {"layer_types": ["sliding_attention"]},
            "layer_types has .'sliding_attention'.; only 'full_attention'",
        ),
        (
            {"num_key_value_heads": 5},
            "num_key_value_heads 5 does not divide num_attention_heads 32",
        ),
        ({"head_dim": 7}, "head_dim is 7; rotary positions need it even"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps is 'small'"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=f"there.json: .*{message}"):
        qwen3.Config.from_json(values, where="there.json")
