"""LoRA adapters against peft: every option of LoraConfig, families, wrappers, and folders in both
directions."""

import dataclasses
import functools

import jax
import numpy as np
import peft
import pytest
import sentence_transformers
import torch
import transformers
from sentence_transformers.sentence_transformer import modules as st

import jsbert
from jsbert import encoders
from jsbert.adapters import load_adapter, save_adapter
from jsbert.checkpoint.adapter_config import LEFT_ASIDE, TYPES, AdapterConfig
from jsbert.cross import logits
from jsbert.data import Examples
from jsbert.train import Recipe, Source, fit, init_lora, merge
from tests import models
from tests.parity import families, reference
from tests.train_process import texts

pytestmark = pytest.mark.filterwarnings("ignore")  # peft warns about much
TEXTS = [*models.sentences(20, seed=3), "", "a" * 300]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a random BERT."""
    return reference.write_trunk(tmp_path_factory.mktemp("base"), reference.bert())


@pytest.fixture(scope="module")
def ours(base):
    """The same model, opened by jsbert."""
    return opened(base)


def torch_model(base):
    return transformers.AutoModel.from_pretrained(base)


def trained(model, seed=1, **options):
    """Return `model` with an adapter. All that peft trains is moved off its initial value."""
    return moved(peft.get_peft_model(model, peft.LoraConfig(**options)), seed)


def moved(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def opened(folder):
    return jsbert.SentenceTransformer(folder, pooling="mean")


@functools.lru_cache
def _forward(config):
    return jax.jit(functools.partial(encoders.forward, config))


def assert_same_tokens(ours, theirs, before):
    """Check that the token vectors of our model equal theirs, and are far from the vectors of the
    torch model `before`."""
    ids, mask = reference.tokens()
    ids, counted = np.where(mask, ids, before.config.pad_token_id), mask.astype(bool)
    got = np.asarray(_forward(ours.config.encoder)(ours.params["encoder"], ids, mask))[counted]
    with torch.no_grad():
        wanted, without = (
            model(torch.tensor(ids), attention_mask=torch.tensor(mask)).last_hidden_state.numpy()[
                counted
            ]
            for model in (theirs, before)
        )
    assert reference.largest_difference(got, wanted) <= 1e-5
    assert np.abs(without - wanted).max() > 0.05


OPTIONS = {
    "names": {"target_modules": ["query", "value"]},
    "several ends": {"target_modules": ["attention.output.dense", "encoder.layer.1.output.dense"]},
    "regex": {"target_modules": r".*layer\.[01]\.attention.*\.(query|dense)"},
    "all-linear": {"target_modules": "all-linear"},
    "excluded names": {"target_modules": "all-linear", "exclude_modules": ["key", "encoder.layer.0.output.dense"]},
    "excluded regex": {"target_modules": ["query", "key"], "exclude_modules": r".*layer\.1.*key"},
    "layer": {"target_modules": ["query"], "layers_to_transform": 1},
    "layers": {"target_modules": ["dense"], "layers_to_transform": [0], "layers_pattern": "layer"},
    "layers, patterns": {"target_modules": ["key"], "layers_to_transform": [1], "layers_pattern": ["blocks", "layer"]},
    "whole name before layers": {
        "target_modules": ["encoder.layer.0.attention.self.query", "value"],
        "layers_to_transform": [1],
    },
    "rank and alpha": {"target_modules": ["query", "value"], "r": 5, "lora_alpha": 3},
    "patterns": {
        "target_modules": ["query", "key", "output.dense"],
        "rank_pattern": {"query": 2, r"layer\.1\.output\.dense": 4, "^encoder.layer.0.attention.self.key": 6},
        "alpha_pattern": {r"\d+.attention.self.key": 5, "encoder.layer.1.attention.output.dense": 1},
    },
    "rslora": {"target_modules": ["query", "value"], "use_rslora": True, "rank_pattern": {"query": 3}},
    "embeddings": {"target_modules": ["word_embeddings", "position_embeddings", "token_type_embeddings", "key"]},
    "bias all": {"target_modules": ["query"], "bias": "all"},
    "bias lora_only": {"target_modules": ["query", "output.dense"], "bias": "lora_only"},
    "modules_to_save": {"target_modules": ["query", "dense"], "modules_to_save": ["embeddings.LayerNorm", "intermediate.dense", "1.output"]},
    "modules_to_save, bias all": {"target_modules": ["query"], "modules_to_save": ["output.dense"], "bias": "all"},
    "an embedding saved": {"target_modules": ["query"], "modules_to_save": ["word_embeddings"]},
    "lora_bias": {"target_modules": ["query", "output.dense"], "lora_bias": True, "bias": "lora_only"},
    "dora": {"target_modules": ["query", "intermediate.dense"], "use_dora": True, "lora_alpha": 20},
    "dora, embeddings": {"target_modules": ["word_embeddings", "value"], "use_dora": True, "use_rslora": True},
    "fan_in_fan_out": {"target_modules": ["query", "intermediate.dense"], "fan_in_fan_out": True},
    "lora_dropout": {"target_modules": ["query"], "lora_dropout": 0.5},
    **{f"starts {start}": {"target_modules": ["query"], "init_lora_weights": start, "r": 4}
       for start in (False, "gaussian", "orthogonal", "mica", "eva")},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_peft(tmp_path, base, ours, name):
    trained(torch_model(base), **OPTIONS[name]).save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(torch_model(base), tmp_path).eval()
    assert_same_tokens(load_adapter(ours, tmp_path), theirs, torch_model(base))


@pytest.mark.parametrize(
    "name",
    [
        "roberta",
        "mpnet",
        "deberta-v2, own",
        "albert",
        "modernbert",
        "qwen3",
        "qwen2",
        "gemma3_text",
    ],
)
def test_every_linear_layer_and_embedding_of_a_family(tmp_path, name):
    base = families.written(tmp_path / "base", families.build(name))
    kinds = (torch.nn.Linear, torch.nn.Embedding)
    targets = [
        module
        for module, kind in torch_model(base).named_modules()
        # DeBERTa reads the weight of this table, past what peft puts around it.
        if isinstance(kind, kinds) and not module.endswith("rel_embeddings")
    ]
    adapted = trained(torch_model(base), target_modules=targets, rank_pattern={targets[-1]: 3})
    adapted.save_pretrained(tmp_path / "adapter")
    assert_same_tokens(load_adapter(opened(base), tmp_path / "adapter"), adapted, torch_model(base))


@pytest.mark.parametrize("kind", ["ForMaskedLM", "ForSequenceClassification"])
@pytest.mark.parametrize("targets", ["all-linear", r"bert\.encoder.*(query|dense)"])
def test_adapters_of_models_with_heads(tmp_path, base, ours, kind, targets):
    task = "SEQ_CLS" if kind == "ForSequenceClassification" else None
    whole = getattr(transformers, f"Bert{kind}").from_pretrained(base)
    adapted = trained(whole, task_type=task, bias="all", target_modules=targets)
    adapted.save_pretrained(tmp_path)
    assert_same_tokens(
        load_adapter(ours, tmp_path), adapted.base_model.model.bert, torch_model(base)
    )


def test_an_adapter_of_a_whole_sentence_transformer(tmp_path, base):
    model = sentence_transformer(base)
    options = {"target_modules": ["query", "output.dense"], "layers_to_transform": [0]}
    trained(model, **options).save_pretrained(tmp_path)
    wanted = model.encode(TEXTS)
    ours = jsbert.SentenceTransformer(base, pooling="cls")
    ours.max_seq_length = 20
    assert (
        reference.largest_difference(
            load_adapter(ours, tmp_path).encode(TEXTS, on_truncate="ignore"), wanted
        )
        <= 1e-5
    )


def sentence_transformer(base, *head):
    modules = [st.Transformer(str(base), max_seq_length=20), st.Pooling(24, "cls"), *head]
    return sentence_transformers.SentenceTransformer(modules=modules, device="cpu")


@pytest.mark.parametrize("layout", ["sentence-transformers", "peft alone", "beside the base"])
def test_folders_with_an_adapter_open_as_models(tmp_path, base, layout):
    folder = tmp_path / "adapter"
    if layout == "sentence-transformers":
        model = sentence_transformer(base, reference.perturb(st.Dense(24, 10)))
        with reference.skips_what_the_reference_refuses():
            model.add_adapter(peft.LoraConfig(target_modules="all-linear", lora_bias=True))
        moved(model[0])
        model.save_pretrained(str(folder), create_model_card=False)
        assert not (folder / "config.json").exists()
        # The base in memory is moved too; the folder counts.
    else:
        trained(torch_model(base), target_modules=["query"]).save_pretrained(folder)
        models.write_vocabulary(folder)
        if layout == "beside the base":
            reference.write_trunk(
                folder, reference.bert(seed=8)
            )  # this base counts, not the base that is named
    wanted = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    pooling = "cls" if layout == "sentence-transformers" else "mean"
    got = jsbert.SentenceTransformer(folder, pooling=pooling).encode(TEXTS, on_truncate="ignore")
    assert reference.largest_difference(got, wanted) <= 1e-5
    assert (
        np.abs(
            wanted - opened(base).encode(TEXTS, on_truncate="ignore")[:, : wanted.shape[1]]
        ).max()
        > 0.05
    )


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_adapters_of_cross_encoders_both_ways(tmp_path, name):
    start = families.build(name, "ForSequenceClassification", num_labels=3)
    base = families.written(tmp_path / "base", start)
    ids, mask = families.tokens(start)

    def theirs(model):
        with torch.no_grad():
            return model(torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()

    def ours(model):
        return np.asarray(logits(model.config, model.params, ids, mask))

    def torch_base():
        return transformers.AutoModelForSequenceClassification.from_pretrained(base)

    before = jsbert.CrossEncoder(base)
    adapted = trained(torch_base(), task_type="SEQ_CLS", target_modules="all-linear")
    adapted.save_pretrained(tmp_path / "adapter")
    assert (
        reference.largest_difference(
            ours(load_adapter(before, tmp_path / "adapter")), theirs(adapted)
        )
        <= 1e-5
    )
    assert np.abs(ours(before) - theirs(adapted)).max() > 0.05

    assert (
        reference.largest_difference(
            ours(jsbert.CrossEncoder(tmp_path / "adapter")), theirs(adapted)
        )
        <= 1e-5
    )
    head = jax.tree.map(lambda leaf: leaf + 0.1, before.params["head"])
    lora = init_lora(before.params["encoder"], jax.random.key(0), rank=3)
    lora = jax.tree.map(lambda leaf: leaf + 0.1, lora)
    params = {"encoder": merge(before.params["encoder"], lora, 5), "head": head}
    after = jsbert.CrossEncoder.from_parts(dataclasses.replace(before.parts, params=params))
    save_adapter(after, lora, tmp_path / "saved", alpha=5)
    reopened = peft.PeftModel.from_pretrained(torch_base(), tmp_path / "saved").eval()
    assert reference.largest_difference(ours(after), theirs(reopened)) <= 1e-5
    assert (
        reference.largest_difference(ours(load_adapter(before, tmp_path / "saved")), ours(after))
        <= 1e-6
    )


def test_peft_opens_what_training_leaves(tmp_path, base):
    examples = Examples.from_columns({"a": texts(12, 1), "b": texts(12, 2)})
    recipe = Recipe(
        batch_size=4,
        learning_rate=0.1,
        lora_rank=3,
        lora_alpha=7,
        lora_targets=("attention", "layers/1/output"),
    )
    start = opened(base)
    merged = fit(start, Source(examples, "multiple-negatives-ranking"), tmp_path / "out", recipe)
    theirs = peft.PeftModel.from_pretrained(torch_model(base), tmp_path / "out" / "adapter").eval()
    assert_same_tokens(merged, theirs, torch_model(base))
    assert_same_tokens(load_adapter(start, tmp_path / "out" / "adapter"), theirs, torch_model(base))
    # and sentence-transformers opens the merged folder
    wanted = sentence_transformers.SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(
        TEXTS
    )
    assert reference.largest_difference(merged.encode(TEXTS, on_truncate="ignore"), wanted) <= 1e-5


def test_every_field_of_pefts_config_is_decided():
    refused = {
        "alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "megatron_config",
        "monteclora_config", "target_parameters", "trainable_token_indices", "use_bdlora", "use_qalora", "velora_config",
    }  # fmt: skip
    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert fields - TYPES.keys() - LEFT_ASIDE == refused
    assert TYPES.keys() | LEFT_ASIDE <= fields
    defaults = peft.LoraConfig()
    for name in TYPES.keys() - {"target_modules"}:
        ours, theirs = (getattr(config, name) for config in (AdapterConfig(), defaults))
        assert (ours or None) == (theirs or None), name
