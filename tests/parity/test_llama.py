"""Llama, Mistral and Qwen2 against transformers and sentence-transformers: stages, scaled rotary
positions, windows, attention to both sides, last-token vectors with instructions, tokenizers."""

import json

import numpy as np
import pytest
import sentence_transformers
import tokenizers
import transformers
from sentence_transformers.sentence_transformer import modules as st
from tokenizers import models as models_of
from tokenizers import normalizers, pre_tokenizers, processors

import jsbert
from jsbert.encoders import llama
from jsbert.tokenizer import Tokenizer
from tests import models
from tests.parity import reference
from tests.parity.families import FORWARD, LLAMA3, STAGES, build, opened, written

VARIANTS = {
    "llama, one head of keys": ("llama", {"num_key_value_heads": 1, "attention_bias": False}),
    "llama, default heads": ("llama", {"num_key_value_heads": None, "mlp_bias": False}),
    "llama, linear": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 90.0, "factor": 1.7}},
    ),
    "llama, both ways": ("llama", {"is_causal": False, "hidden_act": "gelu"}),
    "mistral, no window": ("mistral", {"sliding_window": None, "rms_norm_eps": 0.1}),
    "mistral, window of one": ("mistral", {"sliding_window": 1}),
    "mistral, own size of heads": ("mistral", {"head_dim": 14, "num_key_value_heads": 3}),
    "qwen2, llama3": ("qwen2", {"rope_parameters": LLAMA3}),
}
TEXTS = [*models.sentences(20, seed=3), "", "the red cat sat under " * 20]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_stage_equals_transformers(tmp_path, variant):
    name, sizes = VARIANTS[variant]
    model = build(name, **sizes)
    config, params = opened(written(tmp_path, model))
    for side in ("right", "left"):
        ids, mask = reference.tokens(side=side, length=16)
        reference.assert_same_stages(
            STAGES(config, params, ids, mask), reference.hidden_states(model, ids, mask), mask
        )
    again = type(config).from_json(config.to_json())
    assert again == config


@pytest.mark.parametrize("rope", [LLAMA3, {"rope_type": "linear", "rope_theta": 1e4, "factor": 4}])
def test_scaled_angles_hold_far_into_a_text(tmp_path, rope):
    if rope["rope_type"] == "llama3":
        rope = rope | {"rope_theta": 5e5, "original_max_position_embeddings": 100}
    model = build("llama", rope_parameters=rope)
    config, params = opened(written(tmp_path, model))
    ids, mask = reference.tokens(batch=1, length=600)
    mask[:] = 1
    got = FORWARD(config, params, ids, mask)
    assert reference.largest_difference(got, reference.hidden_states(model, ids, mask)[-1]) <= 1e-5
    plain = build("llama", rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    wanted = reference.hidden_states(plain, ids, mask)[-1]
    assert reference.largest_difference(got, wanted) > 1e-2


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2"])
def test_older_configs_say_the_same(tmp_path, name):
    file = written(tmp_path, build(name)) / "config.json"
    values = json.loads(file.read_text())
    scaling = {
        key: value for key, value in LLAMA3.items() if key not in ("rope_type", "rope_theta")
    }
    for key in ("rope_parameters", "layer_types", "head_dim", "num_key_value_heads"):
        if key not in ("head_dim", "num_key_value_heads") or name == "llama":
            values.pop(key, None)
    values |= {"rope_theta": 9.0, "rope_scaling": scaling | {"type": "llama3"}}
    if name == "llama":
        values["num_key_value_heads"] = 2
    file.write_text(json.dumps(values))
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    config, params = opened(tmp_path)
    ids, mask = reference.tokens()
    reference.assert_same_stages(
        STAGES(config, params, ids, mask), reference.hidden_states(model, ids, mask), mask
    )
    assert config.rope_theta == 9.0


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen2, both ways"])
def test_the_last_token_s_vector_with_instructions_both_ways(tmp_path, name):
    written(tmp_path / "trunk", build(name))
    transformer = st.Transformer(str(tmp_path / "trunk"), max_seq_length=15)
    prompts = {"query": "query : the cat ran on ", "document": ""}
    theirs = sentence_transformers.SentenceTransformer(
        modules=[transformer, st.Pooling(24, "lasttoken"), st.Normalize()],
        device="cpu",
        prompts=prompts,
    )
    theirs.save_pretrained(str(tmp_path / "there"), create_model_card=False)
    ours = jsbert.SentenceTransformer(tmp_path / "there")
    for method in ("encode", "encode_query", "encode_document"):
        wanted = getattr(theirs, method)(TEXTS)
        got = getattr(ours, method)(TEXTS, on_truncate="ignore")
        assert reference.largest_difference(got, wanted) <= 1e-5
    ours.save_pretrained(tmp_path / "back")
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "back"), device="cpu")
    assert reference.largest_difference(again.encode(TEXTS), theirs.encode(TEXTS)) <= 1e-6


def llama_tokenizer(folder, model_type, **settings):
    """Write a tokenizer such as Llama 2's: BPE with "▁" for a space, and with bytes."""
    pieces = ["<unk>", "<s>", "</s>", *[f"<0x{i:02X}>" for i in range(256)], "▁"]
    pieces += [*"abcdefghijklmnopqrstuvwxyz", "▁c", "ca", "▁ca", "b▁"]
    merges = [("▁", "c"), ("c", "a"), ("▁c", "a"), ("b", "▁")]
    backend = tokenizers.Tokenizer(
        models_of.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>")
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    backend.add_special_tokens(pieces[:3])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names | settings))


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "LlamaTokenizer"},
        {"tokenizer_class": "LlamaTokenizerFast", "legacy": True},
        {"tokenizer_class": "LlamaTokenizer", "legacy": False},
        {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False, "add_eos_token": True},
        {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False},
        {"tokenizer_class": "PreTrainedTokenizerFast", "legacy": True},
        {"tokenizer_class": "Qwen2Tokenizer"},
        {},
    ],
    ids=str,
)
def test_tokens_are_those_of_transformers(tmp_path, model_type, settings):
    llama_tokenizer(tmp_path, model_type, **settings)
    theirs, ours = (
        transformers.AutoTokenizer.from_pretrained(tmp_path),
        Tokenizer.from_folder(tmp_path),
    )
    texts = ["ca b ca", "", "é caf\u00e9 <s> ca", " ca  b\n\tc", "b b", "中ca's 12"]
    tokens = ours(texts)
    got = [tokens.ids[a:b].tolist() for a, b in zip(tokens.starts, tokens.starts[1:], strict=False)]
    assert got == theirs(texts)["input_ids"]


@pytest.mark.parametrize(
    "values, message",
    [
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_scaling: rope_type is 'yarn'"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "rope_parameters: rope_type is 'dynamic'"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling: factor is None"),
        ({"rope_scaling": LLAMA3 | {"factor": 0}}, "rope_scaling: factor is 0"),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            "rope_scaling: low_freq_factor is None",
        ),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; only 1"),
        ({"use_sliding_window": True}, "use_sliding_window is True; only False"),
        (
            {"model_type": "qwen2", "layer_types": ["sliding_attention"]},
            "layer_types has .'sliding_attention'.; only 'full_attention'",
        ),
        (
            {"model_type": "mistral", "is_causal": False},
            "sliding_window is 4096 and is_causal False",
        ),
        (
            {"model_type": "qwen2", "auto_map": {"AutoModel": "modeling_qwen.Qwen2Model"}},
            'auto_map names code of the folder.*"is_causal": false',
        ),
        ({"is_causal": "no"}, "is_causal is 'no'; it must be of type bool"),
        ({"num_key_value_heads": 5}, "num_key_value_heads 5 does not divide"),
        ({"head_dim": 7}, "head_dim is 7; rotary positions need it even"),
        ({"sliding_window": 0, "model_type": "mistral"}, "sliding_window is 0"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=f"there.json: .*{message}"):
        llama.Config.from_json(values, where="there.json")


def test_code_of_a_folder_is_no_obstacle_once_the_direction_is_told():
    values = {"model_type": "qwen2", "auto_map": {"AutoModel": "x.Y"}, "is_causal": False}
    assert llama.Config.from_json(values).is_bidirectional


def test_a_window_that_no_text_reaches_is_no_window():
    sizes = {"model_type": "mistral", "max_position_embeddings": 40}
    assert llama.Config(**sizes, sliding_window=40).window is None
    assert llama.Config(**sizes, sliding_window=39).window == 38


def test_vectors_of_both_directions_differ(tmp_path):
    one, other = (
        jsbert.SentenceTransformer(
            written(tmp_path / str(causal), build("qwen2", is_causal=causal)), pooling="mean"
        )
        for causal in (True, False)
    )
    assert np.abs(one.encode("the red cat") - other.encode("the red cat")).max() > 1e-3
