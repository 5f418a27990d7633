"""DeBERTa v2 and v3 against transformers and sentence-transformers: buckets, variants, packed rows
under a convolution, the tokenizer, cross-encoders."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import sentence_transformers
import tokenizers
import torch
import transformers
from tokenizers import models as models_of
from tokenizers import normalizers, pre_tokenizers, processors
from transformers.models.deberta_v2 import modeling_deberta_v2

import jsbert
from jsbert.encoders import deberta
from jsbert.tokenizer import Tokenizer
from tests import models
from tests.parity import reference
from tests.parity.families import FORWARD, STAGES, build, opened, written

VARIANTS = {
    "v3": {},
    "only the query's": {"pos_att_type": ["c2p"]},
    "only the key's": {"pos_att_type": "p2c", "share_att_key": False},
    "no scores of distances": {"pos_att_type": None},
    "no distances": {"relative_attention": False, "position_biased_input": True},
    "no distances, but their divisor": {"relative_attention": False},
    "a bucket for each distance": {"position_buckets": -1},
    "distances up to three": {"position_buckets": -1, "max_relative_positions": 3},
    "few buckets": {"position_buckets": 4, "max_relative_positions": 9},
    "layers of their own": {"share_att_key": False, "norm_rel_ebd": "none"},
    "types and places": {"type_vocab_size": 3, "position_biased_input": True},
    "a convolution": {"conv_kernel_size": 3},
    "a wide convolution": {"conv_kernel_size": 5, "conv_act": "relu", "layer_norm_eps": 0.1},
    "a wide convolution, one layer": {"conv_kernel_size": 7, "num_hidden_layers": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_stage_equals_transformers(tmp_path, variant):
    model = build("deberta-v2", **VARIANTS[variant])
    config, params = opened(written(tmp_path, model))
    for side, length in (("right", 21), ("left", 13)):
        ids, mask = reference.tokens(side=side, length=length)
        reference.assert_same_stages(
            STAGES(config, params, ids, mask), reference.hidden_states(model, ids, mask), mask
        )
    assert type(config).from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "buckets, farthest", [(256, 512), (256, 200), (8, 32), (4, 9), (32, 128), (6, 5), (128, 4096)]
)
def test_buckets_are_those_of_transformers_far_beyond_the_last(buckets, farthest):
    config = deberta.Config(position_buckets=buckets, max_relative_positions=farthest)
    distances = 2999 - torch.arange(5999)
    got = np.asarray(deberta.distance_rows(config, jnp.asarray(distances.numpy())))
    wanted = modeling_deberta_v2.make_log_bucket_position(distances, buckets, farthest)
    wanted = torch.clamp(wanted.long() + buckets, 0, 2 * buckets - 1).numpy()
    assert np.array_equal(got, wanted)


def test_long_texts(tmp_path):
    sizes = {"position_buckets": 32, "max_position_embeddings": 512}
    model = build("deberta-v2, convolution", **sizes)
    config, params = opened(written(tmp_path, model))
    ids, mask = reference.tokens(batch=2, length=500)
    mask[0] = 1
    got = np.asarray(FORWARD(config, params, ids, mask))[mask.astype(bool)]
    wanted = reference.hidden_states(model, ids, mask)[-1][mask.astype(bool)]
    assert reference.largest_difference(got, wanted) <= 1e-5


def test_a_large_config_of_version_3_is_read(tmp_path):
    values = {
        **{"model_type": "deberta-v2", "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu"},
        **{"hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02},
        **{"intermediate_size": 3072, "max_position_embeddings": 512, "relative_attention": True},
        **{"position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True},
        **{"pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7, "max_relative_positions": -1},
        **{"position_biased_input": False, "num_attention_heads": 12, "num_hidden_layers": 12},
        **{"type_vocab_size": 0, "vocab_size": 128100, "pooler_dropout": 0, "pad_token_id": 0},
        **{"pooler_hidden_act": "gelu", "pooler_hidden_size": 768, "legacy": True},
    }
    config = deberta.Config.from_json(values)
    assert (config.span, config.farthest, config.max_tokens) == (256, 512, 512)
    assert config.pos_att_type == ("p2c", "c2p")


def pieces_tokenizer(folder, **settings):
    """Write a tokenizer.json whose steps are not those of the class."""
    pieces = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "▁", *(f"▁{w}" for w in models.WORDS[:20])]
    pieces += [*models.LETTERS, ".", "'", "é", "▁Cat"]
    vocabulary = [(piece, -2.0 - i / 7 if i > 3 else 0.0) for i, piece in enumerate(pieces)]
    backend = tokenizers.Tokenizer(models_of.Unigram(vocabulary, unk_id=3))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A $B", special_tokens=[("[CLS]", 1)]
    )
    backend.add_special_tokens([*pieces[:4], "[MASK]"])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(pieces) + 1


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "DebertaV2Tokenizer"},
        {"tokenizer_class": "DebertaV2TokenizerFast", "do_lower_case": True},
        {"tokenizer_class": "DebertaV2Tokenizer", "split_by_punct": True},
        {"tokenizer_class": "DebertaV2Tokenizer", "add_prefix_space": False},
        {"tokenizer_class": "PreTrainedTokenizerFast", "cls_token": "[CLS]"},
        {},
    ],
    ids=str,
)
def test_tokens_are_those_of_transformers(tmp_path, settings):
    pieces_tokenizer(tmp_path, **settings)
    theirs, ours = (
        transformers.AutoTokenizer.from_pretrained(tmp_path),
        Tokenizer.from_folder(tmp_path),
    )
    texts = ["the cat sat", "", " Cat  the\n\tdog's tree.  ", "e\u0301 é 中 [SEP] x", "[MASK] a"]
    pairs = list(zip(texts, texts[::-1], strict=True))
    for inputs in (texts, pairs):
        tokens = ours(inputs)
        rows = list(zip(tokens.starts, tokens.starts[1:], strict=False))
        wanted = theirs(inputs)
        assert [tokens.ids[a:b].tolist() for a, b in rows] == wanted["input_ids"]
        if tokens.token_types is not None:
            got = [tokens.token_types[a:b].tolist() for a, b in rows]
            assert got == wanted["token_type_ids"]
    if settings.get("tokenizer_class", "").startswith("Deberta"):
        kinds = ("cls", "sep", "pad", "mask", "unk")
        assert {kind: ours.special_ids[kind] for kind in kinds} == {
            kind: getattr(theirs, f"{kind}_token_id") for kind in kinds
        }


@pytest.mark.parametrize("num_labels", [1, 3])
@pytest.mark.parametrize("variant", ["deberta-v2", "deberta-v2, own"])
def test_nli_and_rerankers_with_types_and_another_activation(tmp_path, variant, num_labels):
    sizes = {"num_labels": num_labels, "pooler_hidden_act": "relu", "cls_dropout": 0.2}
    model = build(variant, "ForSequenceClassification", **sizes)
    folder = written(tmp_path / "there", model, model_max_length=26)
    pairs = list(zip(models.sentences(20, seed=1), models.sentences(20, seed=2), strict=True))
    ours = jsbert.CrossEncoder(folder)
    theirs = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    wanted = theirs.predict(pairs, activation_fn=torch.nn.Identity())
    got = ours.predict(pairs, activation_fn="identity", on_truncate="ignore")
    assert reference.largest_difference(got, wanted) <= 1e-5
    ours.save_pretrained(tmp_path / "back")
    again = sentence_transformers.CrossEncoder(str(tmp_path / "back"), device="cpu")
    got = again.predict(pairs, activation_fn=torch.nn.Identity())
    assert reference.largest_difference(got, wanted) <= 1e-6


def test_a_folder_with_a_sentencepiece_model_alone(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}')
    (tmp_path / "spm.model").write_bytes(b"no model")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="reads spm.model only with the packages sentencepiece"):
        Tokenizer.from_folder(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "there")
    with pytest.raises(ValueError, match="AutoTokenizer cannot read the tokenizer files"):
        Tokenizer.from_folder(tmp_path)
    monkeypatch.undo()
    (tmp_path / "spm.model").unlink()
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "DebertaV2Tokenizer"}')
    with pytest.raises(FileNotFoundError, match="no tokenizer files"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"unk_id": 0}, "model has .*'unk_id': 0.*DebertaV2Tokenizer has unk_id 3"),
        ({"byte_fallback": True}, "model has .*'byte_fallback': True"),
    ],
)
def test_tokenizers_that_transformers_would_change_are_refused(tmp_path, changes, message):
    pieces_tokenizer(tmp_path, tokenizer_class="DebertaV2Tokenizer")
    file = tmp_path / "tokenizer.json"
    values = json.loads(file.read_text())
    values["model"] |= changes
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=f"tokenizer.json: {message}"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"pos_att_type": ["p2p"]}, "pos_att_type has .'p2p'.; supported: c2p, p2c"),
        ({"pos_att_type": 3}, "pos_att_type is 3"),
        ({"norm_rel_ebd": "batch"}, "norm_rel_ebd is 'batch'"),
        ({"conv_groups": 2}, "conv_groups is 2; only 1"),
        ({"conv_kernel_size": 4}, "conv_kernel_size is 4; it must be odd"),
        ({"conv_kernel_size": 3, "conv_act": "mish"}, "unknown activation 'mish'"),
        ({"embedding_size": 128}, "embedding_size is 128; only hidden_size, 1536"),
        ({"attention_head_size": 3}, "attention_head_size is 3"),
        ({"pooler_dropout": 0.1}, "pooler_dropout is 0.1; only 0"),
        ({"position_buckets": "many"}, "position_buckets is 'many'"),
        ({"position_buckets": 2}, "position_buckets is 2 for distances up to 512; it must be even"),
        ({"position_buckets": 9}, "position_buckets is 9"),
        ({"position_buckets": 64, "max_relative_positions": 32}, "distances up to 32"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=f"there.json: .*{message}"):
        deberta.Config.from_json(values, where="there.json")
