"""T5's encoder against transformers and sentence-transformers: stages, dropout, whole checkpoints,
tokenizers, folders in both directions."""

import base64
import functools
import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import safetensors.numpy
import sentence_transformers
import torch
import transformers
from sentence_transformers.sentence_transformer import modules as st

import jsbert
from jsbert import encoders
from jsbert.checkpoint import read_bi_encoder
from jsbert.checkpoint.adapter import merge_adapter
from jsbert.encoders import t5
from jsbert.encoders.distances import bucket_bounds, distance_buckets
from jsbert.tokenizer import Tokenizer
from tests import models
from tests.parity import families, reference
from tests.parity.families import FORWARD, STAGES, opened, written

TEXTS = [*models.sentences(20, seed=3), "", "Ünknown   cat", "the red cat sat under " * 20]
VARIANTS = {
    "gelu": {"feed_forward_proj": "gelu"},
    "gated silu": {"feed_forward_proj": "gated-silu", "layer_norm_epsilon": 0.1},
    "published buckets": {
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
    },
    "odd buckets": {"relative_attention_num_buckets": 7, "relative_attention_max_distance": 300},
}
build = functools.partial(families.build, "t5")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_stage_equals_transformers(tmp_path, variant):
    model = build(**VARIANTS[variant])
    config, params = opened(written(tmp_path, model))
    for side in ("right", "left"):
        ids, mask = reference.tokens(side=side, length=16)
        reference.assert_same_stages(
            STAGES(config, params, ids, mask), reference.hidden_states(model, ids, mask), mask
        )


def test_long_texts_reach_beyond_the_last_bucket(tmp_path):
    model = build(**VARIANTS["published buckets"])
    config, params = opened(written(tmp_path, model))
    ids, mask = reference.tokens(batch=2, length=200)
    mask[:] = np.arange(200)[None] < np.array([[200], [150]])
    got = np.asarray(FORWARD(config, params, ids, mask))[mask.astype(bool)]
    wanted = reference.hidden_states(model, ids, mask)[-1][mask.astype(bool)]
    assert reference.largest_difference(got, wanted) <= 1e-5


@pytest.mark.parametrize("num_buckets", [4, 7, 32, 34, 38, 72, 102])
def test_buckets_of_distances_are_those_of_transformers(num_buckets):
    buckets_of = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket
    for farthest in (*range(num_buckets // 4 + 1, 220, 3), 27, 50, 81, 196, 1024):
        distance = torch.arange(-farthest - 9, farthest + 10)
        wanted = buckets_of(distance, True, num_buckets, farthest).numpy()
        bounds = bucket_bounds(num_buckets // 2, farthest)
        got = np.searchsorted(bounds, np.abs(distance.numpy()), side="right")
        got += np.where(distance.numpy() > 0, num_buckets // 2, 0)
        assert np.array_equal(got, wanted), farthest
    places = torch.arange(60)
    wanted = buckets_of(places[None] - places[:, None], True, num_buckets, 50)
    got = distance_buckets(jnp.arange(60)[None], num_buckets=num_buckets, farthest=50)[0]
    assert np.array_equal(got, wanted)


@pytest.mark.parametrize("proj", ["relu", "gated-gelu"])
def test_dropout_stands_where_transformers_has_it(tmp_path, monkeypatch, proj):
    model = build(attn_implementation="eager", dropout_rate=0.15, feed_forward_proj=proj)
    config, params = opened(written(tmp_path, model))
    ids, mask = reference.tokens()
    ours, theirs = families.noted_dropouts(monkeypatch)
    model.train()(torch.tensor(ids), attention_mask=torch.tensor(mask))
    jax.eval_shape(
        functools.partial(encoders.forward, config), params, ids, mask, jax.random.key(0)
    )
    assert ours == theirs
    assert len(ours) == 2 + 2 * 4


@pytest.mark.parametrize("proj", ["relu", "gated-gelu"])
def test_folders_of_sentence_transformers_both_ways(tmp_path, proj):
    written(tmp_path / "trunk", build(feed_forward_proj=proj))
    transformer = st.Transformer(str(tmp_path / "trunk"), max_seq_length=15)
    dense = st.Dense(24, 17, bias=False, activation_function=torch.nn.Identity())
    theirs = sentence_transformers.SentenceTransformer(
        modules=[transformer, st.Pooling(24, "mean"), dense, st.Normalize()], device="cpu"
    )
    theirs.save_pretrained(str(tmp_path / "there"), create_model_card=False)
    ours = jsbert.SentenceTransformer(tmp_path / "there")
    wanted = theirs.encode(TEXTS)
    assert reference.largest_difference(ours.encode(TEXTS, on_truncate="ignore"), wanted) <= 1e-5
    ours.save_pretrained(tmp_path / "back")
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "back"), device="cpu")
    assert type(again[0].auto_model).__name__ == "T5EncoderModel"
    assert again.max_seq_length == 15
    assert reference.largest_difference(again.encode(TEXTS), wanted) <= 1e-6
    config = again[0].auto_model.config
    for name in ("feed_forward_proj", "dense_act_fn", "is_gated_act", "dropout_rate", "d_kv"):
        assert getattr(config, name) == getattr(theirs[0].auto_model.config, name)


def test_texts_have_no_limit_but_the_tokenizer_s(tmp_path):
    model = build()
    folder = written(tmp_path, model)
    ours = jsbert.SentenceTransformer(folder, pooling="mean")
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    text = ["the red cat sat under a tree " * 100]
    assert ours.tokenizer(text).ids.shape == (701,)
    assert reference.largest_difference(ours.encode(text), theirs.encode(text)) <= 1e-5
    assert "max_position_embeddings" not in ours.config.encoder.to_json()
    ours.save_pretrained(tmp_path / "back")
    assert jsbert.SentenceTransformer(tmp_path / "back").max_seq_length == ours.max_seq_length
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "back"), device="cpu")
    assert reference.largest_difference(again.encode(text), theirs.encode(text)) <= 1e-6


def test_the_embeddings_may_have_both_names_or_the_other(tmp_path):
    model = build()
    folder = written(tmp_path, model)
    _, wanted = opened(folder)
    file = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    word = tensors.pop("shared.weight")

    def write(**more):
        named = {name.replace("__", "."): tensor for name, tensor in more.items()}
        safetensors.numpy.save_file(tensors | named, file, metadata={"format": "pt"})

    write(shared__weight=word, encoder__embed_tokens__weight=word)
    assert jax.tree.all(jax.tree.map(np.array_equal, opened(folder)[1], wanted))
    write(encoder__embed_tokens__weight=word)
    assert jax.tree.all(jax.tree.map(np.array_equal, opened(folder)[1], wanted))
    assert torch.equal(
        transformers.T5EncoderModel.from_pretrained(folder).shared.weight, model.shared.weight
    )
    write(shared__weight=word, encoder__embed_tokens__weight=word + 1)
    with pytest.raises(ValueError, match="differs from another tensor for shared.weight"):
        opened(folder)


def test_a_whole_model_s_decoder_is_left_out(tmp_path):
    whole = families.build("t5", "ForConditionalGeneration", tie_word_embeddings=False)
    folder = written(tmp_path, whole)
    ids, mask = reference.tokens()
    config, params = opened(folder)
    assert not config.to_json()["is_encoder_decoder"]
    encoder = transformers.T5EncoderModel.from_pretrained(folder).eval()
    reference.assert_same_stages(
        STAGES(config, params, ids, mask), reference.hidden_states(encoder, ids, mask), mask
    )


def adapted(folder, **options):
    """Return T5EncoderModel of a folder with an adapter whose params are moved off their start."""
    base = transformers.T5EncoderModel.from_pretrained(folder)
    model = peft.get_peft_model(base, peft.LoraConfig(**options)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.filterwarnings("ignore")  # peft warns about much
def test_adapters_of_linear_layers_and_distances(tmp_path):
    config, params = opened(written(tmp_path / "base", build()))
    targets = ["q", "k", "v", "o", "wi", "wo", "relative_attention_bias"]
    theirs = adapted(tmp_path / "base", target_modules=targets)
    theirs.save_pretrained(tmp_path / "adapter")
    merged = merge_adapter(config, params, tmp_path / "adapter")
    ids, mask = reference.tokens()
    reference.assert_same_stages(
        STAGES(config, merged, ids, mask), reference.hidden_states(theirs, ids, mask), mask
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{"target_modules": ["shared"]},
                                     {"target_modules": ["q"], "modules_to_save": ["shared"]}])  # fmt: skip
def test_adapters_of_the_tied_embeddings_are_refused(tmp_path, options):
    # In peft's model such an adapter has no effect: the encoder reads the embeddings' other name.
    config, params = opened(written(tmp_path / "base", build()))
    adapted(tmp_path / "base", **options).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="the adapter changes shared, which has two names in a t5"):
        merge_adapter(config, params, tmp_path / "adapter")


CHARACTER_MAP = [0] * 512
CHARACTER_MAP[ord("Q")] = ord("Q") | 1 << 8 | 256 << 10
CHARACTER_MAP[ord("Q") ^ 256] = 1 << 31
CHARACTER_MAP = struct.pack("<513I", 4 * 512, *CHARACTER_MAP) + b"cat\0"
"""SentencePiece's form of a map that replaces "Q" by "cat"."""

PRECOMPILED = {
    "type": "Precompiled",
    "precompiled_charsmap": base64.b64encode(CHARACTER_MAP).decode(),
}


@pytest.mark.parametrize("normalizer", [None, "lowercase", "map", "both"])
@pytest.mark.parametrize(
    "tokenizer_class", ["T5Tokenizer", "T5TokenizerFast", "PreTrainedTokenizerFast", None]
)
def test_the_class_decides_whether_tokenizer_json_s_steps_hold(
    tmp_path, tokenizer_class, normalizer
):
    written(tmp_path, build())
    file = tmp_path / "tokenizer.json"
    values = json.loads(file.read_text())
    lowercase = {"type": "Lowercase"}
    values["normalizer"] = {
        None: None,
        "lowercase": lowercase,
        "map": PRECOMPILED,
        "both": {"type": "Sequence", "normalizers": [lowercase, PRECOMPILED]},
    }[normalizer]
    values["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    values["post_processor"]["single"].pop()
    file.write_text(json.dumps(values))
    settings = {"extra_ids": 0} | ({"tokenizer_class": tokenizer_class} if tokenizer_class else {})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs, ours = (
        transformers.AutoTokenizer.from_pretrained(tmp_path),
        Tokenizer.from_folder(tmp_path),
    )
    texts = ["the cat", "", " The Q  sat ", "QQ é\tdog", "<pad> the </s> red<unk>"]
    tokens = ours(texts)
    rows = [
        tokens.ids[a:b].tolist() for a, b in zip(tokens.starts, tokens.starts[1:], strict=False)
    ]
    assert rows == theirs(texts)["input_ids"]
    pair = ours([("the cat", "a dog")])
    assert pair.ids.tolist() == theirs("the cat", "a dog")["input_ids"]
    assert pair.token_types is None


def test_tokenizer_files_that_t5_s_class_would_not_follow_are_refused(tmp_path):
    folder = written(tmp_path, build())
    file = folder / "tokenizer.json"
    text = file.read_text()
    values = json.loads(text)
    values["model"]["unk_id"] = 3
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="tokenizer.json: model has {'unk_id': 3"):
        read_bi_encoder(folder, pooling="mean")
    file.write_text(text)
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"eos_token": "<end>"}))
    with pytest.raises(ValueError, match="tokenizer.json: lacks the special tokens .'<end>'"):
        read_bi_encoder(folder, pooling="mean")


def test_a_cross_encoder_is_refused(tmp_path):
    whole = families.build("t5", "ForSequenceClassification")
    with pytest.raises(ValueError, match="T5 cannot be a cross-encoder here: its classifier reads"):
        jsbert.CrossEncoder(written(tmp_path, whole))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"feed_forward_proj": "gated-"}, "feed_forward_proj is 'gated-'; only an activation"),
        ({"feed_forward_proj": "glu-gelu"}, "feed_forward_proj is 'glu-gelu'; only"),
        ({"feed_forward_proj": 3}, "feed_forward_proj is 3"),
        ({"dense_act_fn": "gelu"}, "dense_act_fn is 'gelu', but feed_forward_proj 'relu' says"),
        ({"is_gated_act": True}, "is_gated_act is True, but feed_forward_proj 'relu' says False"),
        ({"is_decoder": True}, "is_decoder is True; only False"),
        ({"relative_attention_num_buckets": 3}, "relative_attention_num_buckets is 3 and"),
        ({"relative_attention_max_distance": 8}, "relative_attention_max_distance is 8; at least"),
        ({"relative_attention_max_distance": 10**7}, "relative_attention_max_distance is 10000000"),
        ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon is 'small'"),
        ({"initializer_factor": 0}, "initializer_factor is 0"),
        ({"d_kv": 0}, "d_kv is 0"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=f"there.json: .*{message}"):
        t5.Config.from_json(values, where="there.json")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"hidden_dropout_prob": 0.2}, "T5 has one dropout_rate"),
        ({"hidden_act": "gelu", "is_gated_act": True}, "'gated-gelu' is 'gelu_new'"),
    ],
)
def test_what_t5_s_json_cannot_say_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        t5.Config(**values)


def test_new_params_have_the_deviations_of_transformers():
    config = t5.Config(vocab_size=500, hidden_size=64, head_dim=30, intermediate_size=99)
    params = jax.jit(encoders.init, static_argnums=0)(config, jax.random.key(0))
    model = transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=500, d_model=64, d_kv=30, d_ff=99)
    )
    names = encoders.tensor_names(config)
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        wanted = model.state_dict()[names[tuple(entry.key for entry in path)]]
        assert np.isclose(float(np.std(leaf)), float(wanted.std(correction=0)), rtol=0.2)
