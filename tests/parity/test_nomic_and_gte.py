"""Nomic BERT and GTE against transformers' classes, and against the original models, whose code is
remote.

The references for the originals are torch modules written here from their published descriptions
(the configs, tensor names and formulas of nomic-ai/contrastors and Alibaba-NLP/new-impl). Their
`state_dict` has the names of the checkpoints.
"""

import json

import jax
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from torch import nn

import jsbert
from jsbert.checkpoint import read_bi_encoder, read_cross_encoder
from tests import models
from tests.parity import reference
from tests.parity.families import STAGES, build, opened, written

ORIGINALS = {
    "nomic_bert": {
        "model_type": "nomic_bert",
        "activation_function": "swiglu",
        "attn_pdrop": 0.0,
        "causal": False,
        "embd_pdrop": 0.0,
        "layer_norm_epsilon": 1e-5,
        "max_trained_positions": 16,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "n_embd": 24,
        "n_head": 3,
        "n_inner": 40,
        "n_layer": 2,
        "n_positions": 256,
        "parallel_block": False,
        "prenorm": False,
        "qkv_proj_bias": False,
        "resid_pdrop": 0.0,
        "rotary_emb_base": 60,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "rotary_scaling_factor": None,
        "type_vocab_size": 2,
        "use_rms_norm": False,
        "vocab_size": models.SIZES["vocab_size"],
    },
    "new": {
        "model_type": "new",
        **{name: size for name, size in models.SIZES.items() if name != "max_position_embeddings"},
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "layer_norm_type": "layer_norm",
        "logn_attention_clip1": False,
        "logn_attention_scale": False,
        "max_position_embeddings": 256,
        "pack_qkv": True,
        "position_embedding_type": "rope",
        "rope_scaling": {"factor": 6.0, "type": "ntk"},
        "rope_theta": 70.0,
        "type_vocab_size": 1,
        "unpad_inputs": False,
        "use_memory_efficient_attention": False,
    },
}
"""The config.json of the originals, as published, with smaller sizes."""

each_original = pytest.mark.parametrize("name", ORIGINALS)


class Nomic(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner, epsilon = config["n_embd"], config["n_inner"], config["layer_norm_epsilon"]
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(config["vocab_size"], width),
                "token_type_embeddings": nn.Embedding(config["type_vocab_size"], width),
            }
        )
        self.emb_ln = nn.LayerNorm(width, epsilon)
        layers = [
            nn.ModuleDict(
                {
                    "attn": nn.ModuleDict(
                        {
                            "Wqkv": nn.Linear(width, 3 * width, False),
                            "out_proj": nn.Linear(width, width, False),
                        }
                    ),
                    "mlp": nn.ModuleDict(
                        {
                            "fc11": nn.Linear(width, inner, False),
                            "fc12": nn.Linear(width, inner, False),
                            "fc2": nn.Linear(inner, width, False),
                        }
                    ),
                    "norm1": nn.LayerNorm(width, epsilon),
                    "norm2": nn.LayerNorm(width, epsilon),
                }
            )
            for _ in range(config["n_layer"])
        ]
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.heads = config["n_head"]
        self.speeds = speeds(width // self.heads, config["rotary_emb_base"])

    def forward(self, ids, mask, types):
        embeddings = self.embeddings
        hidden = self.emb_ln(
            embeddings["word_embeddings"](ids) + embeddings["token_type_embeddings"](types)
        )
        yield hidden
        for layer in self.encoder["layers"]:
            attention, mlp = layer["attn"], layer["mlp"]
            mixed = mixture(attention["Wqkv"](hidden), mask, self.heads, self.speeds)
            hidden = layer["norm1"](hidden + attention["out_proj"](mixed))
            inner = mlp["fc11"](hidden) * nn.functional.silu(mlp["fc12"](hidden))
            hidden = layer["norm2"](hidden + mlp["fc2"](inner))
            yield hidden


class New(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner, epsilon = (
            config["hidden_size"],
            config["intermediate_size"],
            config["layer_norm_eps"],
        )
        tables = {
            "word_embeddings": config["vocab_size"],
            "token_type_embeddings": config["type_vocab_size"],
        }
        self.embeddings = nn.ModuleDict(
            {name: nn.Embedding(size, width) for name, size in tables.items() if size}
        )
        self.embeddings["LayerNorm"] = nn.LayerNorm(width, epsilon)
        layers = [
            nn.ModuleDict(
                {
                    "attention": nn.ModuleDict(
                        {"qkv_proj": nn.Linear(width, 3 * width), "o_proj": nn.Linear(width, width)}
                    ),
                    "mlp": nn.ModuleDict(
                        {
                            "up_gate_proj": nn.Linear(width, 2 * inner, False),
                            "down_proj": nn.Linear(inner, width),
                        }
                    ),
                    "attn_ln": nn.LayerNorm(width, epsilon),
                    "mlp_ln": nn.LayerNorm(width, epsilon),
                }
            )
            for _ in range(config["num_hidden_layers"])
        ]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        self.heads = config["num_attention_heads"]
        size, factor = width // self.heads, (config["rope_scaling"] or {"factor": 1.0})["factor"]
        # https://kexue.fm/archives/9706, equation 6
        self.speeds = speeds(size, config["rope_theta"] * factor) / factor ** (2 / size)

    def forward(self, ids, mask, types):
        hidden = self.embeddings["word_embeddings"](ids)
        if "token_type_embeddings" in self.embeddings:
            hidden = hidden + self.embeddings["token_type_embeddings"](types)
        hidden = self.embeddings["LayerNorm"](hidden)
        yield hidden
        for layer in self.encoder["layer"]:
            attention, mlp = layer["attention"], layer["mlp"]
            mixed = mixture(attention["qkv_proj"](hidden), mask, self.heads, self.speeds)
            hidden = layer["attn_ln"](hidden + attention["o_proj"](mixed))
            up, gate = mlp["up_gate_proj"](hidden).chunk(2, dim=-1)
            hidden = layer["mlp_ln"](hidden + mlp["down_proj"](up * nn.functional.gelu(gate)))
            yield hidden


def speeds(size, theta):
    return 1 / theta ** (torch.arange(0, size, 2) / size)


def mixture(qkv, mask, heads, speeds):
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in qkv.chunk(3, dim=-1))
    angles = torch.arange(qkv.shape[1])[:, None] * speeds
    turn = torch.polar(
        torch.ones_like(angles), angles
    )  # entry i and entry i + d/2 as a complex number
    query, key = (torch.complex(*x.chunk(2, dim=-1)) * turn for x in (query, key))
    scores = (query @ key.conj().transpose(-1, -2)).real / value.shape[-1] ** 0.5
    weights = scores.masked_fill(mask[:, None, None] == 0, -1e30).softmax(-1)
    return (weights @ value).transpose(1, 2).flatten(2)


def write_original(folder, name, prefix="", **keys):
    """Write the original's folder, and return the torch reference for the folder."""
    config = ORIGINALS[name] | keys
    model = reference.perturb({"nomic_bert": Nomic, "new": New}[name](config))
    tokenizer = (
        {"model_input_names": ["input_ids", "attention_mask"]}
        if config["type_vocab_size"] == 1
        else {}
    )
    models.write_vocabulary(folder, **tokenizer)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {prefix + key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    return model


def same_arrays(params, others):
    return jax.tree.all(jax.tree.map(np.array_equal, params, others))


def assert_same_stages(folder, stages, ids, mask, types):
    config, params = opened(folder)
    assert len(stages) == 1 + config.num_hidden_layers
    reference.assert_same_stages(STAGES(config, params, ids, mask, token_types=types), stages, mask)


@pytest.mark.parametrize(
    "name, keys, side",
    [
        ("nomic_bert", {}, "left"),
        # the angles are changed beyond 128 tokens only
        ("nomic_bert", {"rotary_scaling_factor": 2.0, "max_trained_positions": 128}, "right"),
        ("new", {}, "right"),
        ("new", {"rope_scaling": None}, "right"),
        ("new", {"type_vocab_size": 0}, "left"),
    ],
    ids=str,
)
def test_every_stage_equals_the_original(tmp_path, name, keys, side):
    model = write_original(tmp_path, name, **keys)
    ids, mask = reference.tokens(batch=30, length=60, side=side)
    types = np.random.default_rng(5).integers(0, ORIGINALS[name]["type_vocab_size"], ids.shape)
    with torch.no_grad():
        stages = list(model(*map(torch.tensor, (ids, mask, types))))
    assert_same_stages(tmp_path, stages, ids, mask, types)


@each_original
def test_originals_are_saved_so_that_transformers_opens_them_without_remote_code(tmp_path, name):
    model = write_original(tmp_path / "there", name)
    ours = jsbert.SentenceTransformer(tmp_path / "there", pooling="mean")
    ours.save_pretrained(tmp_path / "back")
    again = transformers.AutoModel.from_pretrained(tmp_path / "back")
    ids, mask = reference.tokens(batch=30, length=60)
    ids, mask = torch.tensor(ids), torch.tensor(mask)
    with torch.no_grad():
        *_, wanted = model(ids, mask, torch.zeros_like(ids))
        got = again(ids, attention_mask=mask).last_hidden_state
    assert reference.largest_difference(got[mask > 0], wanted[mask > 0]) <= 1e-5
    config, _ = opened(tmp_path / "back")
    assert config == ours.config.encoder


def test_saved_nomic_folders_have_the_keys_of_the_original_too(tmp_path):
    write_original(tmp_path, "nomic_bert")
    config, _ = opened(tmp_path)
    saved = config.to_json()
    differing = {
        key for key, value in ORIGINALS["nomic_bert"].items() if saved.get(key, "none") != value
    }
    assert differing == {"embd_pdrop"}  # no code reads this key
    assert saved["n_positions"] == saved["max_position_embeddings"] == config.max_tokens == 256
    # Published are the positions of use and the positions of training.
    assert type(config).from_json(saved | {"max_position_embeddings": 128}).max_tokens == 256
    assert type(config).from_json(saved | {"rotary_scaling_factor": 2.0}).max_tokens == 16


def test_original_rerankers_are_read_with_their_head(tmp_path):
    whole = build("gte", "ForSequenceClassification", num_labels=1)
    theirs = read_cross_encoder(written(tmp_path, whole))
    values = json.loads((tmp_path / "config.json").read_text())
    values |= {
        "model_type": "new",
        "rope_theta": values.pop("rope_parameters")["rope_theta"],
        "rope_scaling": None,
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    renamed = {key.replace("gte.", "new."): tensor for key, tensor in tensors.items()}
    safetensors.torch.save_file(renamed, tmp_path / "model.safetensors")
    original = read_cross_encoder(tmp_path)
    assert original.config == theirs.config
    assert same_arrays(original.params, theirs.params)


@each_original
def test_remote_code_is_not_run(tmp_path, name):
    auto = {"AutoConfig": "modeling.Config", "AutoModel": "modeling.Model"}
    write_original(tmp_path, name, prefix="new." if name == "new" else "", auto_map=auto)
    (tmp_path / "modeling.py").write_text("raise SystemExit('run')")
    config, _ = opened(tmp_path)
    assert config.hidden_size == 24


@pytest.mark.parametrize(
    "name, keys, message",
    [
        (
            "nomic_bert",
            {"activation_function": "gelu"},
            "activation_function is 'gelu'; supported: swiglu",
        ),
        (
            "nomic_bert",
            {"moe_every_n_layers": 2, "num_experts": 8},
            "moe_every_n_layers is 2; layers of experts",
        ),
        ("nomic_bert", {"prenorm": True}, "prenorm is True; only False"),
        ("nomic_bert", {"causal": True}, "causal is True"),
        ("nomic_bert", {"use_rms_norm": True}, "use_rms_norm is True"),
        ("nomic_bert", {"parallel_block": True}, "parallel_block is True"),
        ("nomic_bert", {"qkv_proj_bias": True}, "qkv_proj_bias is True"),
        ("nomic_bert", {"mlp_fc1_bias": True}, "mlp_fc1_bias is True"),
        ("nomic_bert", {"rotary_emb_fraction": 0.5}, "rotary_emb_fraction is 0.5; only 1.0"),
        ("nomic_bert", {"rotary_emb_interleaved": True}, "rotary_emb_interleaved is True"),
        (
            "nomic_bert",
            {"rotary_emb_base": 0},
            "rotary_emb_base is 0; it must be a positive number",
        ),
        (
            "nomic_bert",
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
            "rope_type is 'yarn'",
        ),
        ("nomic_bert", {"n_head": 8}, "is odd; rotary positions need it even"),
        (
            "nomic_bert",
            {"hidden_act": "relu"},
            "hidden_act is 'relu'; it must be 'silu', 'gelu' or 'sigmoid'",
        ),
        (
            "new",
            {"layer_norm_type": "rms_norm"},
            "layer_norm_type is 'rms_norm'; only 'layer_norm'",
        ),
        ("new", {"position_embedding_type": "absolute"}, "position_embedding_type is 'absolute'"),
        ("new", {"logn_attention_scale": True}, "logn_attention_scale is True"),
        ("new", {"pack_qkv": False}, "pack_qkv is False"),
        (
            "new",
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "only type 'ntk' without mixed_b",
        ),
        (
            "new",
            {"rope_scaling": {"type": "ntk", "factor": 2.0, "mixed_b": 0.6}},
            "only type 'ntk' without mixed_b",
        ),
        (
            "new",
            {"rope_scaling": {"type": "ntk", "factor": 0.5}},
            "rope_scaling: factor is 0.5; it must be a number from 1",
        ),
        ("new", {"type_vocab_size": -1}, "type_vocab_size is -1"),
        (
            "new",
            {"model_type": "gte", "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
            "'dynamic'; only",
        ),
        (
            "new",
            {"model_type": "gte", "rope_scaling": {"rope_type": "linear"}},
            "rope_scaling: factor is None; it must be a number from 1",
        ),
    ],
    ids=str,
)
def test_what_is_not_computed_is_refused_by_name(tmp_path, name, keys, message):
    (tmp_path / "config.json").write_text(json.dumps(ORIGINALS[name] | keys))
    with pytest.raises(ValueError, match=rf"config\.json: .*{message}"):
        read_bi_encoder(tmp_path, pooling="mean")
