"""Gemma 3 as an embedder against transformers and sentence-transformers: stages, windows, old and
new configs, the modules and prompts of EmbeddingGemma, folders in both directions."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentence_transformers
import torch
import transformers
from sentence_transformers.sentence_transformer import modules as st

import jsbert
from jsbert import encoders
from jsbert.checkpoint import read_bi_encoder
from jsbert.encoders import gemma3
from jsbert.encoders.rope import rotated
from tests import models
from tests.parity import families, reference
from tests.parity.families import FORWARD, STAGES, opened, written

VARIANTS = {
    "an even window": {"sliding_window": 8, "query_pre_attn_scalar": 10},
    "a token sees itself alone": {"sliding_window": 1},
    "no period": {
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 7.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 90.0},
        },
    },
    "one head of keys": {"num_key_value_heads": 1, "head_dim": 4, "rms_norm_eps": 0.1},
    "biases": {"num_key_value_heads": 6, "attention_bias": True, "hidden_activation": "silu"},
}
TEXTS = [*models.sentences(20, seed=3), "", "the red cat sat under " * 20]
PROMPTS = {
    "query": "task: search result | query: ",
    "document": "title: none | text: ",
    "Clustering": "task: clustering | query: ",
    "STS": "task: sentence similarity | query: ",
}
EMBEDDING_GEMMA = {
    "vocab_size": 262144,
    "hidden_size": 768,
    "intermediate_size": 1152,
    "num_hidden_layers": 24,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "max_position_embeddings": 2048,
    "sliding_window": 512,
    "use_bidirectional_attention": True,
}


build = functools.partial(families.build, "gemma3_text")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_stage_equals_transformers(tmp_path, variant):
    model = build(**VARIANTS[variant])
    config, params = opened(written(tmp_path, model))
    for side in ("right", "left"):
        ids, mask = reference.tokens(side=side, length=24, batch=9)
        reference.assert_same_stages(
            STAGES(config, params, ids, mask), reference.hidden_states(model, ids, mask), mask
        )


def test_angles_hold_far_into_a_text(tmp_path):
    model = build()
    config, params = opened(written(tmp_path, model))
    ids, mask = reference.tokens(batch=1, length=600)
    mask[:] = 1
    got = FORWARD(config, params, ids, mask)
    assert reference.largest_difference(got, reference.hidden_states(model, ids, mask)[-1]) <= 1e-5


def test_angles_of_real_heads_are_those_of_torch_at_far_places():
    # A difference in the last digit of a speed gives a difference of 2e-4 here.
    config = transformers.Gemma3TextConfig(head_dim=128)
    place, ones = np.array([[8000]]), np.ones((1, 1, 1, 128), np.float32)
    turn = transformers.models.gemma3.modeling_gemma3.Gemma3RotaryEmbedding(config)
    cos, sin = turn(torch.tensor(ones), torch.tensor(place), "sliding_attention")
    wanted = (cos + sin * torch.tensor([-1.0] * 64 + [1.0] * 64))[None]
    got = rotated(jnp.asarray(ones), jnp.asarray(place), theta=1e4)
    assert reference.largest_difference(got, wanted) <= 1e-6


def test_word_vectors_in_place_of_ids(tmp_path):
    config, params = opened(written(tmp_path, build()))
    ids, mask = reference.tokens()
    words = params["embeddings"]["word"]["embedding"][ids]
    wanted, got = (FORWARD(config, params, x, mask) for x in (ids, words))
    assert reference.largest_difference(got, wanted) <= 1e-6


def test_older_and_newer_configs_say_the_same(tmp_path):
    file = written(tmp_path / "older", build()) / "config.json"
    values = json.loads(file.read_text())
    for key in ("rope_parameters", "layer_types", "_sliding_window_pattern"):
        values.pop(key)
    older = {"rope_theta": 9.0, "rope_local_base_freq": 30.0, "rope_scaling": None}
    file.write_text(json.dumps(values | older | {"sliding_window_pattern": 3}))
    model = transformers.AutoModel.from_pretrained(tmp_path / "older").eval()
    assert model.config.layer_types == ["sliding_attention"] * 2 + ["full_attention"]
    written(tmp_path / "newer", model)
    ids, mask = reference.tokens()
    for name in ("older", "newer"):
        config, params = opened(tmp_path / name)
        reference.assert_same_stages(
            STAGES(config, params, ids, mask), reference.hidden_states(model, ids, mask), mask
        )
        back = config.to_json()
        assert {key: back[key] for key in ("rope_theta", "rope_local_base_freq")} == {
            "rope_theta": 9.0,
            "rope_local_base_freq": 30.0,
        }
        assert back["rope_parameters"] == model.config.rope_parameters
        assert back["layer_types"] == model.config.layer_types
        assert back["sliding_window"] == model.config.to_dict()["sliding_window"]


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_modules_and_prompts_of_embeddinggemma_both_ways(tmp_path, side):
    written(tmp_path / "trunk", build(), padding_side=side)
    identity = torch.nn.Identity()
    head = [
        reference.perturb(st.Dense(24, 40, bias=False, activation_function=identity)),
        reference.perturb(st.Dense(40, 24, bias=False, activation_function=identity)),
    ]
    theirs = sentence_transformers.SentenceTransformer(
        modules=[
            st.Transformer(str(tmp_path / "trunk"), max_seq_length=60),
            st.Pooling(24, "mean"),
            *head,
            st.Normalize(),
        ],
        device="cpu",
        prompts=PROMPTS,
    )
    theirs.save_pretrained(str(tmp_path / "there"), create_model_card=False)
    assert theirs.tokenizer.padding_side == side

    ours = jsbert.SentenceTransformer(tmp_path / "there")
    ours.save_pretrained(tmp_path / "back")
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "back"), device="cpu")
    assert again.prompts == theirs.prompts
    found = set()
    for name in PROMPTS:
        wanted = theirs.encode(TEXTS, prompt_name=name)
        found.add(wanted.tobytes())
        got = ours.encode(TEXTS, prompt_name=name, on_truncate="ignore")
        assert reference.largest_difference(got, wanted) <= 1e-5
        assert reference.largest_difference(again.encode(TEXTS, prompt_name=name), wanted) <= 1e-6
    assert len(found) == len(PROMPTS)
    assert (
        reference.largest_difference(
            ours.encode_document(TEXTS, on_truncate="ignore"), theirs.encode_document(TEXTS)
        )
        <= 1e-5
    )
    short = ours.encode_query(TEXTS, truncate_dim=6, on_truncate="ignore")
    assert reference.largest_difference(short, theirs.encode_query(TEXTS, truncate_dim=6)) <= 1e-5


def test_every_tensor_at_the_sizes_of_embeddinggemma_has_its_place():
    with torch.device("meta"):
        model = transformers.Gemma3TextModel(transformers.Gemma3TextConfig(**EMBEDDING_GEMMA))
    theirs = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    config = gemma3.Config.from_json(EMBEDDING_GEMMA | {"layer_types": model.config.layer_types})
    shapes = {
        tuple(entry.key for entry in path): leaf.shape
        for path, leaf in jax.tree_util.tree_flatten_with_path(encoders.shapes(config))[0]
    }
    ours = {
        name: shapes[path][::-1] if path[-1] == "kernel" else shapes[path]
        for path, name in encoders.tensor_names(config).items()
    }
    assert ours == theirs
    assert encoders.repetition_of(config) == (0, 6, 4)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"use_bidirectional_attention": None}, "use_bidirectional_attention is None; only True"),
        ({"use_bidirectional_attention": False}, "use_bidirectional_attention is False; only True"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0; only None"),
        ({"is_causal": False}, "is_causal is False; only True"),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
            "rope_parameters of full_attention: rope_type is 'linear'; only 'default'",
        ),
        (
            {"rope_parameters": {"sliding_attention": {"rope_type": "yarn"}}},
            "rope_parameters of sliding_attention: rope_type is 'yarn'",
        ),
        (
            {"rope_parameters": {"rope_theta": 5.0}},
            r"rope_parameters has \['rope_theta'\]; its keys must be \['full_attention'",
        ),
        ({"rope_local_base_freq": 0}, "rope_theta is 0; it must be a positive number"),
        ({"sliding_window": None}, "sliding_window is None; it must be an integer from 0"),
        ({"sliding_window_pattern": 0}, "sliding_window_pattern is 0; it must be a positive"),
        ({"layer_types": ["full_attention"]}, "layer_types is .*; it must name each of 26 layers"),
        ({"layer_types": ["chunked_attention"] * 26}, "layer_types is .*; it must name each of 26"),
        ({"num_key_value_heads": 5}, "num_key_value_heads 5 does not divide num_attention_heads 8"),
        ({"head_dim": 7}, "head_dim is 7; rotary positions need it even"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0; it must be a positive"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps is 'small'"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(values, message):
    given = {"use_bidirectional_attention": True} | values
    with pytest.raises(ValueError, match=f"there.json: .*{message}"):
        gemma3.Config.from_json(given, where="there.json")


def test_a_causal_gemma_is_refused(tmp_path):
    model = build(use_bidirectional_attention=False)
    with pytest.raises(ValueError, match="use_bidirectional_attention is False; only True"):
        read_bi_encoder(written(tmp_path, model), pooling="mean")
    with pytest.raises(ValueError, match="use_bidirectional_attention is False; only True"):
        gemma3.Config.from_json({})


def test_caps_of_a_language_model_s_scores_do_not_matter():
    values = {"use_bidirectional_attention": True, "final_logit_softcapping": 30.0}
    assert gemma3.Config.from_json(values) == gemma3.Config()


def test_new_params_start_where_transformers_starts():
    config = gemma3.Config(
        vocab_size=30, hidden_size=24, num_hidden_layers=1, num_attention_heads=6,
        num_key_value_heads=2, head_dim=4, intermediate_size=40,
    )  # fmt: skip
    params = encoders.init(config, jax.random.key(0))
    assert not np.any(params["norm"]["scale"])
    assert not np.any(params["layers"][0]["attention"]["query_norm"]["scale"])
