"""Folders are read to params and written back; every way in which a folder can be wrong."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.serialization import msgpack_serialize
from safetensors.numpy import load_file, save_file

import jsbert
from jsbert.checkpoint import read_bi_encoder, read_cross_encoder, write_bi_encoder
from jsbert.config import Config
from jsbert.encoders import albert, modernbert, roberta
from jsbert.modules import Dense, Normalize
from tests import models


@pytest.fixture
def folder(tmp_path):
    return models.write_folder(tmp_path / "model", head=(Dense(24, 10), Normalize()))


def edit_json(file, **changes):
    values = json.loads(file.read_text())
    values.update(changes)
    file.write_text(json.dumps(values))


def edit_tensors(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def assert_same_params(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_params_survive_the_way_through_a_folder_exactly(tmp_path):
    parts = models.parts(tmp_path / "v", head=(Dense(24, 10), Normalize()))
    write_bi_encoder(tmp_path / "model", parts)
    again = read_bi_encoder(tmp_path / "model")
    assert again.config == parts.config
    assert_same_params(again.params, parts.params)


def test_all_misfits_come_in_one_message(folder):
    def edit(tensors):
        tensors["encoder.layer.0.surprise"] = np.zeros((2, 3), np.float32)
        tensors["bert.embeddings.LayerNorm.weight"] = tensors["embeddings.LayerNorm.weight"]
        tensors["encoder.layer.1.output.dense.weight"] = np.zeros((40, 24), np.float32)
        tensors["encoder.layer.1.output.dense.bias"] = np.zeros(24, np.int64)
        del tensors["encoder.layer.0.intermediate.dense.bias"]

    edit_tensors(folder, edit)
    with pytest.raises(
        ValueError, match="model.safetensors: the tensors do not fit the config"
    ) as caught:
        read_bi_encoder(folder)
    message = str(caught.value)
    assert "unknown: encoder.layer.0.surprise [2, 3]" in message
    assert "double: " in message
    assert "embeddings.LayerNorm.weight" in message
    assert (
        "misshapen: encoder.layer.1.output.dense.weight is [40, 24], config.json asks for [24, 40]"
        in message
    )
    assert "misshapen: encoder.layer.1.output.dense.bias holds int64" in message
    assert "missing: encoder.layer.0.intermediate.dense.bias" in message
    assert all(
        count in message.partition("\n")[0]
        for count in ("1 unknown", "1 double", "2 misshapen", "1 missing")
    )


def test_prefix_gamma_beta_buffers_and_heads(folder):
    wanted = read_bi_encoder(folder)

    def edit(tensors):
        for name in list(tensors):
            theirs = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            )
            tensors[f"bert.{theirs}"] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = np.arange(32)[None]
        tensors["bert.pooler.dense.weight"] = np.zeros((24, 24), np.float32)
        tensors["cls.predictions.bias"] = np.zeros(105, np.float32)

    edit_tensors(folder, edit)
    assert_same_params(read_bi_encoder(folder).params, wanted.params)


def test_shards_are_read_and_a_missing_one_is_named(folder):
    wanted = read_bi_encoder(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {f"model-0000{i + 1}-of-00003.safetensors": names[i::3] for i in range(3)}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, folder / shard)
    index = {"weight_map": {name: shard for shard, members in shards.items() for name in members}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same_params(read_bi_encoder(folder).params, wanted.params)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"lacks the shards \['model-00002-of-00003.safetensors'\]"
    ):
        read_bi_encoder(folder)
    index["weight_map"][names[0]] = "../elsewhere.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        ValueError, match=r"the path '../elsewhere.safetensors' leads out of the model's folder"
    ):
        read_bi_encoder(folder)


@pytest.mark.parametrize("content", [b"", b"\x10\x00", "cut"])
def test_broken_safetensors_name_the_file(folder, content):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000] if content == "cut" else content)
    with pytest.raises(ValueError, match="model.safetensors: not a readable safetensors file"):
        read_bi_encoder(folder)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"version https://git-lfs", "cut"])
def test_a_broken_bin_names_the_file_and_what_to_do(folder, content):
    file = (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    file.write_bytes(file.read_bytes()[:5000] if content == "cut" else content)
    with pytest.raises(
        ValueError,
        match=r"pytorch_model.bin: not a readable checkpoint of torch.save.*save_pretrained\(folder\)",
    ):
        read_bi_encoder(folder)


WRONG = {
    "unknown architecture": ("config.json", {"model_type": "bart"}, "config.json: unsupported model_type 'bart'; supported: albert, bert, camembert,"),
    "no architecture": ("config.json", {"model_type": None}, "config.json: lacks 'model_type'"),
    "heads": ("config.json", {"num_attention_heads": 7}, "config.json: num_attention_heads 7 does not divide hidden_size 24"),
    "activation": ("config.json", {"hidden_act": "mish"}, "config.json: unknown activation 'mish'; supported: gelu"),
    "width": ("config.json", {"hidden_size": 27}, "misshapen: .* config.json asks for"),
    "layers": ("config.json", {"num_hidden_layers": 3}, "missing: encoder.layer.2"),
    "vocabulary": ("config.json", {"vocab_size": 90}, "the tokenizer has ids up to 101, but config.json has vocab_size 90"),
    "pooling key": ("1_Pooling/config.json", {"pooling_mode_median": True}, r"unknown keys \['pooling_mode_median'\]"),
    "pooling mode": ("1_Pooling/config.json", {"pooling_mode": "median"}, r"unknown pooling \['median'\]; supported: cls"),
    "pooling width": ("1_Pooling/config.json", {"word_embedding_dimension": 48}, "word_embedding_dimension is 48, but"),
    "Dense activation": ("2_Dense/config.json", {"activation_function": "torch.nn.Mish"}, "unknown activation 'torch.nn.Mish'"),
    "Dense code": ("2_Dense/config.json", {"activation_function": "evil.Tanh"}, "only classes of torch.nn are supported"),
    "Dense width": ("2_Dense/config.json", {"in_features": 25}, "in_features is 25, but the module before gives 24"),
    "Dense size": ("2_Dense/config.json", {"out_features": None}, "2_Dense/config.json: out_features is None; it must be of type int"),
    "Dense residual": ("2_Dense/config.json", {"use_residual": True}, "missing: residual.weight"),
    "Dense of tokens": ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "only 'sentence_embedding'"),
    "limit": ("sentence_bert_config.json", {"max_seq_length": "long"}, "max_seq_length is 'long'"),
    "limit too short": ("sentence_bert_config.json", {"max_seq_length": 1}, "max_seq_length is 1; it must be at least 3"),
    "limit that is true": ("sentence_bert_config.json", {"max_seq_length": True}, "max_seq_length is True"),
    "case": ("sentence_bert_config.json", {"do_lower_case": "no"}, "do_lower_case is 'no'; it must be of type bool"),
    "case of the tokenizer": ("tokenizer_config.json", {"do_lower_case": "no"}, "tokenizer_config.json: do_lower_case is 'no'"),
    "epsilon": ("config.json", {"layer_norm_eps": "1e-12"}, "config.json: layer_norm_eps is '1e-12'"),
    "dropout": ("config.json", {"hidden_dropout_prob": "0.1"}, "config.json: hidden_dropout_prob is '0.1'"),
    "padding id": ("config.json", {"pad_token_id": [0]}, r"config.json: pad_token_id is \[0\]"),
    "activation of another kind": ("config.json", {"hidden_act": {}}, "config.json: unknown activation {}"),
    "pooling of another kind": ("1_Pooling/config.json", {"pooling_mode": {"mean": 1}}, "pooling_mode is {'mean': 1}"),
    "prompts": ("config_sentence_transformers.json", {"prompts": ["a"]}, r"prompts is \['a'\]; it must be of type dict"),
    "prompt text": ("config_sentence_transformers.json", {"prompts": {"a": 5}}, "prompts: a is 5"),
    "similarity": ("config_sentence_transformers.json", {"similarity_fn_name": "cos"}, "json: similarity_fn_name is 'cos'"),
    "dimension": ("config_sentence_transformers.json", {"truncate_dim": "64"}, "json: truncate_dim is '64'"),
    "epsilon that is not finite": ("config.json", {"layer_norm_eps": float("nan")}, "config.json: layer_norm_eps is nan; it must be a number from 0 to 1"),
    "padding id below 0": ("config.json", {"pad_token_id": -1}, "config.json: pad_token_id is -1; it must be an integer from 0 to 2.*31 - 1 or null"),
    "layers that are true": ("config.json", {"num_hidden_layers": True}, "num_hidden_layers is True; it must be an integer from 1 to 1,000"),
    "a switch that is 0": ("config.json", {"is_decoder": 0}, "config.json: is_decoder is 0; only False is supported"),
    "tokenizer class": ("config.json", {"tokenizer_class": ["x"]}, r"config.json: tokenizer_class is \['x'\]; it must be of type str"),
    "depth": ("config.json", {"hidden_size": [[[[[[[[1]]]]]]]]}, r"hidden_size is \[\[\[\[\[\.\.\.\]+; it must be a positive integer"),
    "modalities": ("sentence_bert_config.json", {"modality_config": "x"}, "sentence_bert_config.json: modality_config is 'x'; it must be of type dict"),
    "processing": ("sentence_bert_config.json", {"processing_kwargs": [1]}, r"processing_kwargs is \[1\]"),
    "inputs": ("tokenizer_config.json", {"model_input_names": 5}, "tokenizer_config.json: model_input_names is 5; it must be of type list of str"),
    "input": ("tokenizer_config.json", {"model_input_names": [5]}, r"model_input_names is \[5\]; it must be of type list of str"),
    "special token": ("tokenizer_config.json", {"cls_token": 5}, "tokenizer_config.json: cls_token is 5; it must be of type str or dict"),
    "special token's text": ("tokenizer_config.json", {"cls_token": {"content": 5}}, "cls_token: content is 5; it must be of type str"),
    "tokenizer's limit": ("tokenizer_config.json", {"model_max_length": "512"}, "tokenizer_config.json: model_max_length is '512'"),
    "tokenizer's limit too short": ("tokenizer_config.json", {"model_max_length": 2}, "tokenizer_config.json: model_max_length is 2; it must be at least 3"),
    "side": ("tokenizer_config.json", {"truncation_side": "up"}, "truncation_side is 'up'; it must be 'left' or 'right'"),
    "no dimensions": ("config_sentence_transformers.json", {"truncate_dim": 0}, "truncate_dim is 0; it must be a positive integer"),
    "prompt": ("config_sentence_transformers.json", {"default_prompt_name": "x"}, r"default_prompt_name is 'x', but the prompts"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_configs_that_are_wrong(folder, name):
    file, changes, message = WRONG[name]
    if name == "vocabulary":
        edit_tensors(folder, lambda tensors: tensors.update({
            "embeddings.word_embeddings.weight": tensors["embeddings.word_embeddings.weight"][:90].copy()}))  # fmt: skip
    edit_json(folder / file, **changes)
    with pytest.raises(ValueError, match=message):
        read_bi_encoder(folder)


@pytest.mark.parametrize(
    "modules, message",
    [
        ([("sentence_transformers.models.Transformer", ""), ("sentence_transformers.models.WordWeights", "1")], "'sentence_transformers.models.WordWeights'"),
        ([("sentence_transformers.models.Transformer", ""), ("custom.Pooling", "1_Pooling")], "unsupported module 'custom.Pooling'"),
        ([("sentence_transformers.models.Transformer", "../up")], "the path '../up' leads out"),
        ([("sentence_transformers.models.Transformer", "/etc")], "the path '/etc' leads out"),
        ([("sentence_transformers.models.Pooling", "1_Pooling")], r"modules \['Pooling'\]; supported: Transformer, Pooling, then"),
        ([("sentence_transformers.models.Transformer", ""), ("sentence_transformers.models.Dense", "2_Dense")], "supported: Transformer, Pooling"),
        ([], r"modules \[\]"),
    ],
)  # fmt: skip
def test_modules_that_are_not_supported(folder, modules, message):
    (folder / "modules.json").write_text(
        json.dumps([{"type": kind, "path": path} for kind, path in modules])
    )
    with pytest.raises(ValueError, match=message):
        read_bi_encoder(folder)


def test_the_newer_module_names_and_a_missing_normalize_folder(folder):
    wanted = jsbert.SentenceTransformer(folder).encode("a cat")
    entries = json.loads((folder / "modules.json").read_text())
    newer = [
        "base.modules.transformer",
        "sentence_transformer.modules.pooling",
        "base.modules.dense",
        "base.modules.normalize",
    ]
    for entry, module in zip(entries, newer, strict=True):
        entry["type"] = f"sentence_transformers.{module}.{entry['type'].rpartition('.')[2]}"
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "3_Normalize/config.json").unlink()
    (folder / "3_Normalize").rmdir()  # git keeps no empty folder
    assert np.array_equal(jsbert.SentenceTransformer(folder).encode("a cat"), wanted)


def test_the_trunk_in_a_folder_of_its_own(folder):
    wanted = jsbert.SentenceTransformer(folder).encode("a cat")
    trunk = folder / "0_Transformer"
    trunk.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "tokenizer.json",
                 "sentence_bert_config.json"):  # fmt: skip
        (folder / name).rename(trunk / name)
    (trunk / "sentence_bert_config.json").rename(
        trunk / "sentence_distilbert_config.json"
    )  # an older name
    entries = json.loads((folder / "modules.json").read_text())
    entries[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(entries))
    assert np.array_equal(jsbert.SentenceTransformer(folder).encode("a cat"), wanted)


@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        "modules.json",
        "1_Pooling/config.json",
        "tokenizer_config.json",
        "tokenizer.json",
    ],
)
def test_broken_json_names_the_file(folder, file):
    (folder / file).write_text("{" if file != "modules.json" else "{}")
    with pytest.raises(ValueError, match=file):
        read_bi_encoder(folder)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b'{"a": ' + b"9" * 5000 + b"}"])
def test_json_that_cannot_be_read_names_the_file(folder, content):
    (folder / "tokenizer_config.json").write_bytes(content)
    with pytest.raises(ValueError, match="tokenizer_config.json: broken json"):
        read_bi_encoder(folder)


@pytest.mark.parametrize("name", [
    "config.json", "modules.json", "model.safetensors", "model.safetensors.index.json", "adapter_config.json",
    "config_sentence_transformers.json", "sentence_bert_config.json", "sentence_xlnet_config.json", "1_Pooling/config.json",
    "2_Dense/config.json", "2_Dense/model.safetensors", "3_Normalize/config.json", "tokenizer.json", "vocab.txt",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
])  # fmt: skip
@pytest.mark.parametrize(
    "make",
    [lambda file: file.mkdir(), lambda file: file.symlink_to("nowhere")],
    ids=["folder", "link"],
)
def test_what_is_no_file_is_not_taken_as_absent(folder, name, make):
    if name.endswith("index.json"):
        (folder / "model.safetensors").unlink()
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    with pytest.raises(OSError, match=f"{name}( is a folder| is a link to nothing|')"):
        read_bi_encoder(folder)


@pytest.mark.parametrize("name", ["1_Pooling", "2_Dense", "3_Normalize"])
def test_a_file_in_a_folders_place_is_not_taken_as_absent(folder, name):
    (folder / name).rename(folder / "aside")
    (folder / name).write_text("{}")
    with pytest.raises(NotADirectoryError, match=name):
        read_bi_encoder(folder)


SIZES = {
    "num_hidden_layers": [900, 4_000, 10**12],
    "vocab_size": [10**5, 10**9, 10**12],
    "hidden_size": [24 * 10**4, 3 * 10**8, 10**9],
    "intermediate_size": [10**5, 10**9],
}


@pytest.mark.parametrize("form", ["model.safetensors", "flax_model.msgpack"])
@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_the_weights_cannot_have_are_refused_before_a_module_is_made(
    folder, monkeypatch, name, form
):
    if form != "model.safetensors":
        tree = load_file(folder / "model.safetensors")
        (folder / form).write_bytes(msgpack_serialize(tree))
        (folder / "model.safetensors").unlink()
    monkeypatch.setattr("jsbert.encoders.shapes", lambda config: pytest.fail("a module was made"))
    monkeypatch.setattr(
        "jsbert.encoders.tensor_names", lambda config: pytest.fail("a module was made")
    )
    for size in SIZES[name]:
        edit_json(folder / "config.json", **{name: size})
        with pytest.raises(ValueError, match=rf"config\.json: .*{name} (is )?{size}"):
            read_bi_encoder(folder)


def test_the_header_is_compared_before_the_tensors_are_read(folder, monkeypatch):
    edit_json(folder / "config.json", vocab_size=10**9)
    monkeypatch.setattr(
        "jsbert.checkpoint.tensors._read_safetensors",
        lambda file: pytest.fail("the tensors were read"),
    )
    with pytest.raises(
        ValueError,
        match=r"vocab_size is 1000000000, but the largest tensor has 2,520 elements \(in .*/model.saf",
    ):
        read_bi_encoder(folder)


def test_the_layers_of_albert_are_bounded_though_the_weights_do_not_say_their_number():
    with pytest.raises(
        ValueError,
        match="there.json: num_hidden_layers is 4000; it must be an integer from 1 to 1,000",
    ):
        albert.Config.from_json({"num_hidden_layers": 4000}, where="there.json")


@pytest.mark.parametrize("name, value, allowed", [
    ("attention_bias", "x", "of type bool"), ("mlp_bias", 1, "of type bool"), ("classifier_bias", [], "of type bool"),
    ("classifier_activation", {}, "of type str"), ("layer_types", "full", "of type list of str"),
    ("rope_parameters", [1], "of type dict"), ("rope_parameters", {"full_attention": 3}, "of type dict"),
    ("global_rope_theta", float("inf"), "a positive number"), ("local_attention", 2**31, "a positive integer below"),
    ("local_attention", 1.5, "a positive integer below"),
])  # fmt: skip
def test_every_value_of_a_config_has_its_type(name, value, allowed):
    with pytest.raises(ValueError, match=rf"there\.json: .* is .*; it must be {allowed}"):
        modernbert.Config.from_json({name: value}, where="there.json")


def test_positions_that_the_padding_token_leaves_none_of(folder):
    config = roberta.Config(**models.SIZES, pad_token_id=31)
    write_bi_encoder(folder, dataclasses.replace(read_bi_encoder(folder), config=Config(config)))
    with pytest.raises(
        ValueError,
        match="config.json: max_position_embeddings is 32 and pad_token_id 31, which leaves 0",
    ):
        read_bi_encoder(folder)


def test_missing_files_and_folders(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        jsbert.SentenceTransformer(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no config.json; is this a model folder"):
        jsbert.SentenceTransformer(tmp_path / "empty", pooling="mean")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no weights; expected model.safetensors"):
        jsbert.SentenceTransformer(folder)
    with pytest.raises(NotADirectoryError, match="is a file"):
        jsbert.SentenceTransformer(folder / "config.json")


def test_a_folder_without_modules_warns_once_unless_told(folder, recwarn):
    (folder / "modules.json").unlink()
    with pytest.warns(UserWarning, match="mean pooling, as sentence-transformers does") as caught:
        model = jsbert.SentenceTransformer(folder)
    assert (len(caught), caught[0].filename) == (1, __file__)
    assert model.config.pooling == ("mean",)
    recwarn.clear()
    assert jsbert.SentenceTransformer(folder, pooling="cls").config.pooling == ("cls",)
    assert not recwarn.list


def test_writing_keeps_other_files_and_overwrites_its_own(tmp_path, tiny):
    target = tmp_path / "deep" / "er"
    tiny.save_pretrained(target)
    (target / "notes.txt").write_text("mine")
    (target / "config.json").write_text("{}")
    tiny.save_pretrained(target)
    assert (target / "notes.txt").read_text() == "mine"
    assert jsbert.SentenceTransformer(target).config == tiny.config
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["er"]


def test_the_weights_can_be_read_by_whoever_can_read_the_configs(tmp_path, tiny):
    tiny.save_pretrained(tmp_path / "model")
    modes = {file.stat().st_mode for file in (tmp_path / "model").rglob("*") if file.is_file()}
    assert len(modes) == 1


def test_an_interrupted_write_leaves_nothing_half_written(tmp_path, tiny, monkeypatch):
    target = tmp_path / "model"
    tiny.save_pretrained(target)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jsbert.checkpoint.write.write_tensors", fail)
    for place in (target, tmp_path / "new"):
        with pytest.raises(OSError, match="No space left"):
            tiny.save_pretrained(place)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file; give a folder"):
        tiny.save_pretrained(tmp_path / "file")


def test_a_bfloat16_model_is_saved_in_float32(tmp_path, tiny_folder):
    half = jsbert.SentenceTransformer(tiny_folder, dtype="bfloat16")
    half.save_pretrained(tmp_path / "model")
    assert {
        tensor.dtype
        for tensor in safetensors.numpy.load_file(tmp_path / "model/model.safetensors").values()
    } == {np.dtype("float32")}
    again = jsbert.SentenceTransformer(tmp_path / "model", dtype="bfloat16")
    assert np.array_equal(again.encode("a cat"), half.encode("a cat"))


def test_ids_with_gaps_beyond_the_vocabulary_are_refused(folder):
    values = json.loads((folder / "tokenizer.json").read_text())
    values["model"]["vocab"]["cat"] = 105
    (folder / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(
        ValueError, match="the tokenizer has ids up to 105, but config.json has vocab_size 105"
    ):
        read_bi_encoder(folder)


def test_a_folder_in_a_files_place_stops_the_write_before_it_begins(tmp_path, tiny):
    target = models.write_folder(tmp_path / "model", seed=9)
    (target / "tokenizer.json").unlink()
    (target / "tokenizer.json").mkdir()
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    with pytest.raises(IsADirectoryError, match="tokenizer.json is a folder"):
        tiny.save_pretrained(target)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_written_to_stops_the_write_before_it_begins(
    tmp_path, tiny, monkeypatch
):
    target = models.write_folder(tmp_path / "model", seed=9)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    monkeypatch.setattr(
        "os.access", lambda path, mode: path.name != "1_Pooling"
    )  # also if root runs the tests
    with pytest.raises(
        PermissionError, match="1_Pooling cannot be written to; files have to go there"
    ):
        tiny.save_pretrained(target)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


def test_a_cross_encoder_may_replace_any_model(tmp_path, folder):
    cross = jsbert.CrossEncoder(models.write_cross_folder(tmp_path / "cross"), activation_fn="tanh")
    for target in (folder, tmp_path / "cross"):
        cross.save_pretrained(target)
        again = jsbert.CrossEncoder(target)
        assert again.activation_fn == "tanh"
        assert np.array_equal(again.predict(("a cat", "a dog")), cross.predict(("a cat", "a dog")))
    with pytest.warns(UserWarning, match="names no pooling"):
        jsbert.SentenceTransformer(folder)


def test_what_torch_has_no_name_for_cannot_be_saved(tmp_path):
    cross = jsbert.CrossEncoder(
        models.write_cross_folder(tmp_path / "cross"), activation_fn="gelu_new"
    )
    with pytest.raises(ValueError, match="activation 'gelu_new' has no class in torch"):
        cross.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    "file, changes, message",
    [
        ("config.json", {"id2label": 3}, "id2label is 3; it must be of type dict or list"),
        (
            "config.json",
            {"id2label": {"no": "x"}},
            r"config.json: id2label has the keys \['no'\]; they must be numbers",
        ),
        ("config.json", {"sentence_transformers": "x"}, "sentence_transformers is 'x'"),
        (
            "config_sentence_transformers.json",
            {"activation_fn": "my.pkg.Sigmoid"},
            "only classes of torch.nn are supported",
        ),
        (
            "config_sentence_transformers.json",
            {"activation_fn": "torch.nn.Mish"},
            "unknown activation 'torch.nn.Mish'",
        ),
    ],
)
def test_cross_encoder_configs_that_are_wrong(tmp_path, file, changes, message):
    folder = models.write_cross_folder(tmp_path / "cross")
    if "sentence_transformers" in changes:
        (folder / "config_sentence_transformers.json").unlink()
    edit_json(folder / file, **changes)
    with pytest.raises(ValueError, match=message):
        read_cross_encoder(folder)


def test_a_bi_encoder_is_no_cross_encoder(folder):
    with pytest.raises(ValueError, match="Is this a bi-encoder"):
        read_cross_encoder(folder)
    (folder / "modules.json").unlink()
    with pytest.raises(ValueError, match="(?s)missing: pooler.dense.weight"):
        read_cross_encoder(folder)


def test_the_older_limits_are_capped_by_the_positions(folder):
    edit_json(folder / "sentence_bert_config.json", max_seq_length=128)
    assert jsbert.SentenceTransformer(folder).max_seq_length == 32
    (folder / "sentence_bert_config.json").unlink()
    assert jsbert.SentenceTransformer(folder).max_seq_length == 32  # tokenizer: 512, positions: 32
    edit_json(folder / "tokenizer_config.json", model_max_length=20)
    assert jsbert.SentenceTransformer(folder).max_seq_length == 20
    edit_json(folder / "tokenizer_config.json", model_max_length=1e30)
    assert jsbert.SentenceTransformer(folder).max_seq_length == 32


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"query_length": 6}, "query_length would change"),
        ({"processing_kwargs": {"text": {"max_length": 6}}}, "text would change"),
        ({"modality_config": {"text": {}, "message": {}}}, "the modality 'message'"),
    ],
)
def test_settings_that_give_the_encoder_other_tokens_are_refused(folder, settings, message):
    file = folder / "sentence_bert_config.json"
    edit_json(
        file,
        query_length=None,
        unpad_inputs=True,
        processing_kwargs={},
        modality_config={"text": {}},
    )
    read_bi_encoder(folder)
    edit_json(file, **settings)
    with pytest.raises(ValueError, match=f"sentence_bert_config.json: .*{message}"):
        read_bi_encoder(folder)


def test_a_plain_folder_with_a_chat_template_is_refused(folder):
    edit_json(folder / "tokenizer_config.json", chat_template="{{ messages }}")
    read_bi_encoder(folder)  # modules.json says how the model was used
    (folder / "modules.json").unlink()
    with pytest.raises(ValueError, match="the tokenizer has a chat template"):
        read_bi_encoder(folder)


def test_another_tokenizers_files_do_not_stay_behind(tmp_path):
    parts = models.parts(tmp_path / "v")
    write_bi_encoder(tmp_path / "model", parts)
    for name in ("added_tokens.json", "special_tokens_map.json"):
        (tmp_path / "model" / name).write_text("{}")
    (tmp_path / "model/mine.txt").write_text("kept")
    write_bi_encoder(tmp_path / "model", parts)
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert not names & {"added_tokens.json", "special_tokens_map.json"}
    assert "mine.txt" in names


def test_the_users_own_files_stay_whatever_their_names(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    own = ["vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json"]
    for name in own:
        (folder / name).write_text("mine")
    parts = models.parts(tmp_path / "v")
    write_bi_encoder(folder, parts)
    assert {(folder / name).read_text() for name in own} == {"mine"}
    (folder / "added_tokens.json").unlink()
    write_bi_encoder(
        folder, parts
    )  # now the folder is a model's, and transformers would read added_tokens.json
    assert {(folder / name).read_text() for name in own[:-1]} == {"mine"}
    assert_same_params(read_bi_encoder(folder).params, parts.params)


def test_the_names_of_labels_are_kept(tmp_path):
    folder = models.write_cross_folder(tmp_path / "cross", num_labels=3)
    names = ["contradiction", "entailment", "neutral"]
    edit_json(folder / "config.json", id2label=dict(enumerate(names)))
    jsbert.CrossEncoder(folder).save_pretrained(tmp_path / "saved")
    values = json.loads((tmp_path / "saved/config.json").read_text())
    assert values["id2label"] == {str(i): name for i, name in enumerate(names)}
    assert values["label2id"]["neutral"] == 2


def test_labels_stand_in_the_order_of_their_numbers(tmp_path):
    folder = models.write_cross_folder(tmp_path / "cross", num_labels=11)
    shuffled = {str(i): f"label {i}" for i in (2, 10, 0, 1, 9, 3, 8, 4, 7, 5, 6)}
    edit_json(folder / "config.json", id2label=shuffled)
    jsbert.CrossEncoder(folder).save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/config.json").read_text())["id2label"] == shuffled
