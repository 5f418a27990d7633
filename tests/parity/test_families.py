"""Every encoder family against transformers and sentence-transformers: vectors, heads, folders in
both directions."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentence_transformers
import torch
import transformers

import jsbert
from jsbert import encoders, siamese
from jsbert.checkpoint import read_bi_encoder, read_cross_encoder
from jsbert.cross import logits
from jsbert.engine import packed
from tests import models
from tests.parity import families, reference
from tests.parity.families import FAMILIES, FORWARD, STAGES, build, opened, tokens, written


def last_hidden(model, ids, mask):
    with torch.no_grad():
        return model(torch.tensor(ids), attention_mask=torch.tensor(mask)).last_hidden_state.numpy()


@pytest.mark.parametrize("side", ["right", "left"])
@families.each
def test_every_stage_equals_transformers(tmp_path, name, side):
    model = build(name)
    config, params = opened(written(tmp_path, model))
    assert config.model_type == name.partition(",")[0]
    ids, mask = tokens(model, side=side)
    types = np.random.default_rng(5).integers(0, 2, ids.shape) if takes_types(model) else None
    options = {} if types is None else {"token_type_ids": torch.tensor(types)}
    stages = reference.hidden_states(model, ids, mask, **options)
    assert len(stages) == 1 + config.num_layers
    reference.assert_same_stages(STAGES(config, params, ids, mask, token_types=types), stages, mask)


def takes_types(model):
    return getattr(model.config, "type_vocab_size", 1) > 1


@families.each
def test_folders_both_ways(tmp_path, name):
    texts = [*models.sentences(20, seed=3), "", "a" * 300, "the red cat sat under " * 20]
    folder = written(tmp_path / "there", build(name), model_max_length=20)
    ours = jsbert.SentenceTransformer(folder, pooling="mean")
    got = ours.encode(texts, on_truncate="ignore")
    wanted = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts)
    assert reference.largest_difference(got, wanted) <= 1e-5
    ours.save_pretrained(tmp_path / "back")
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "back"), device="cpu")
    assert reference.largest_difference(again.encode(texts), wanted) <= 1e-6
    architecture = f"{FAMILIES[name].prefix}{FAMILIES[name].trunk}"
    values = json.loads((tmp_path / "back/config.json").read_text())
    assert values["architectures"] == [architecture]
    trunk = getattr(transformers, architecture).from_pretrained(tmp_path / "back")
    assert trunk.config.model_type == values["model_type"]


@pytest.mark.parametrize("kind", ["language_model", "ForSequenceClassification"])
@families.each
def test_checkpoints_with_heads_open_as_trunks(tmp_path, name, kind):
    whole = build(name, getattr(FAMILIES[name], kind, kind))
    _, params = opened(written(tmp_path / "whole", whole))
    _, trunk = opened(written(tmp_path / "trunk", whole.base_model))
    assert jax.tree.all(jax.tree.map(np.array_equal, params, trunk))


@pytest.mark.parametrize("num_labels", [1, 3])
@families.each_classifier
def test_cross_encoders_both_ways(tmp_path, name, num_labels):
    first, second = models.sentences(12, seed=1), models.sentences(12, seed=2, longest=20)
    pairs = [*zip(first, second, strict=True), ("", ""), ("", "red " * 50)]
    whole = build(name, "ForSequenceClassification", num_labels=num_labels)
    folder = written(tmp_path / "there", whole, model_max_length=26)
    ours = jsbert.CrossEncoder(folder)
    got = ours.predict(pairs, on_truncate="ignore", activation_fn="identity")
    theirs = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    wanted = theirs.predict(pairs, activation_fn=torch.nn.Identity())
    assert reference.largest_difference(got, wanted) <= 1e-5
    ours.save_pretrained(tmp_path / "back")
    assert json.loads((tmp_path / "back/config.json").read_text())["architectures"] == [
        type(whole).__name__
    ]
    back = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "back")
    assert type(back) is type(whole)
    for parameter, other in zip(
        whole.state_dict().values(), back.state_dict().values(), strict=True
    ):
        assert torch.equal(parameter, other)


@families.each
def test_bfloat16_stays_near_float32(tmp_path, name):
    folder = written(tmp_path, build(name, seed=1))
    texts = models.sentences(50, seed=5)
    pooling = FAMILIES[name].pooling
    exact, rounded = (
        jsbert.SentenceTransformer(folder, pooling=pooling, dtype=dtype).encode(
            texts, normalize_embeddings=True
        )
        for dtype in ("float32", "bfloat16")
    )
    assert np.abs(exact - rounded).max() > 1e-4
    assert (exact * rounded).sum(axis=1).min() >= 0.999


@families.each
def test_packed_rows_give_the_same_vectors(tmp_path, name):
    model = build(name)
    parts = read_bi_encoder(written(tmp_path, model), pooling=FAMILIES[name].pooling)
    ids, mask = tokens(model, batch=9, length=25)
    lengths = mask.sum(axis=1)
    rows = packed(ids, lengths)
    assert rows["ids"].shape[0] < len(lengths)
    got = jax.jit(siamese.encode_packed, static_argnums=0)(
        parts.config, parts.params, rows, lengths
    )
    wanted = jax.jit(siamese.encode, static_argnums=0)(parts.config, parts.params, ids, mask)
    assert reference.largest_difference(got, wanted) <= 1e-5


FEW_LAYERS = {
    "distilbert": {"n_layers": 1},
    "t5": {"num_layers": 1},
    "t5, gated": {"num_layers": 1},
    "albert, groups": {"num_hidden_layers": 2},
}


@families.each
def test_dropout_draws_and_gradients_are_finite(tmp_path, name):
    model = build(
        name, **{**FAMILIES[name].dropout, **FEW_LAYERS.get(name, {"num_hidden_layers": 1})}
    )
    config, params = opened(written(tmp_path, model))
    ids, mask = map(jnp.asarray, tokens(model))
    mask = mask.at[0].set(0)  # a row that is all padding

    def total(params, key):
        return (encoders.forward(config, params, ids, mask, key) * mask[:, :, None]).sum()

    drawn = jax.jit(jax.value_and_grad(total))
    (one, gradient), (same, _), (other, _) = (
        drawn(params, jax.random.key(seed)) for seed in (1, 1, 2)
    )
    assert one == same
    assert len({float(jax.jit(total)(params, None)), float(one), float(other)}) == 3
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))


DROPOUT = {
    **{"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2},
    **{"dropout": 0.1, "attention_dropout": 0.2, "embedding_dropout": 0.15, "mlp_dropout": 0.25},
}
CLASSIFIER_DROPOUT = dict.fromkeys(
    ["classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout", "cls_dropout"], 0.3
)


@pytest.mark.parametrize(
    "rates", [DROPOUT, DROPOUT | CLASSIFIER_DROPOUT], ids=["default head", "own head"]
)
@families.each_classifier
def test_dropout_stands_where_transformers_has_it(tmp_path, monkeypatch, name, rates):
    model = build(name, "ForSequenceClassification", attn_implementation="eager", **rates)
    parts = read_cross_encoder(written(tmp_path, model))
    ids, mask = tokens(model)
    ours, theirs = families.noted_dropouts(monkeypatch)
    model.train()(torch.tensor(ids), attention_mask=torch.tensor(mask))
    jax.eval_shape(
        functools.partial(logits, parts.config), parts.params, ids, mask, jax.random.key(0)
    )
    # The reference drops entries of DeBERTa's table of distances, which all texts share.
    table = 2 * getattr(parts.config.encoder, "span", 0)
    theirs = [(shape, rate) for shape, rate in theirs if shape != [table, 24]]
    assert ours == theirs
    assert len(ours) > 1
    config = parts.config.encoder
    assert type(config).from_json(config.to_json()).classifier_rate == config.classifier_rate


def test_mpnet_distances_reach_beyond_their_last_bucket(tmp_path):
    # 200 tokens reach the edge of a bucket, where a logarithm decides.
    model = build("mpnet")
    config, params = opened(written(tmp_path, model))
    ids = np.random.default_rng(0).integers(5, config.vocab_size, (2, 200))
    mask = (np.arange(200)[None] < np.array([[200], [150]])).astype(np.int64)
    ids = np.where(mask, ids, model.config.pad_token_id)
    got = np.asarray(FORWARD(config, params, ids, mask))[mask.astype(bool)]
    assert (
        reference.largest_difference(got, last_hidden(model, ids, mask)[mask.astype(bool)]) <= 1e-5
    )


def test_roberta_can_use_all_positions_but_the_first(tmp_path):
    # Of the 32 positions, two are before the first token.
    reference_model = build("roberta")
    folder = written(tmp_path, reference_model, model_max_length=512)
    model = jsbert.SentenceTransformer(folder, pooling="mean")
    assert model.max_seq_length == 30
    text = "the cat " * 30
    ids = model.tokenizer([text]).ids[None]
    assert ids.shape == (1, 30)
    wanted = last_hidden(reference_model, ids, np.ones_like(ids)).mean(axis=1)
    assert reference.largest_difference(model.encode([text], on_truncate="ignore"), wanted) <= 1e-5
    with pytest.raises(ValueError, match="this model takes 3 to 30 tokens"):
        model.max_seq_length = 31


def test_a_text_that_spells_out_roberta_s_padding(tmp_path):
    model = build("roberta")
    config, params = opened(written(tmp_path, model))
    ids = np.array([[7, 1, 9, 1, 1, 20, 8]])
    got = FORWARD(config, params, ids, np.ones_like(ids))
    assert reference.largest_difference(got, last_hidden(model, ids, np.ones_like(ids))) <= 1e-5


def flax_tree(state):
    """Return the tree that transformers' Flax models saved, built by their own rules from a torch
    state."""
    tree = {}
    for name, tensor in state.items():
        *path, leaf = name.split(".")
        array = tensor.numpy()
        if leaf == "weight":
            leaf = (
                "scale"
                if "LayerNorm" in path[-1]
                else "embedding"
                if "embeddings" in path[-1]
                else "kernel"
            )
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[leaf] = array.T if leaf == "kernel" else array
    return tree


@pytest.mark.parametrize("kind", ["Model", "ForSequenceClassification"])
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_checkpoints_of_flax_models(tmp_path, name, kind):
    from flax.serialization import msgpack_serialize

    model = reference.perturb(getattr(transformers, f"{FLAX[name]}{kind}")(FLAX_CONFIGS[name]))
    written(tmp_path, model)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "flax_model.msgpack").write_bytes(msgpack_serialize(flax_tree(model.state_dict())))
    parts = read_bi_encoder(tmp_path, pooling="mean")
    ids, mask = tokens(model)
    got = np.asarray(FORWARD(parts.config.encoder, parts.params["encoder"], ids, mask))[
        mask.astype(bool)
    ]
    assert (
        reference.largest_difference(
            got, last_hidden(model.base_model, ids, mask)[mask.astype(bool)]
        )
        <= 1e-5
    )
    if kind != "Model":
        pair = ("the cat", "a dog")
        got = jsbert.CrossEncoder(tmp_path).predict(pair)
        model.save_pretrained(tmp_path)
        assert np.allclose(got, jsbert.CrossEncoder(tmp_path).predict(pair), atol=1e-6)
    (tmp_path / "model.safetensors").unlink(missing_ok=True)
    (tmp_path / "flax_model.msgpack").write_bytes(b"\xc1 not msgpack")
    with pytest.raises(ValueError, match="flax_model.msgpack: not a checkpoint of Flax"):
        read_bi_encoder(tmp_path, pooling="mean")


FLAX = {"bert": "Bert", "roberta": "Roberta"}
FLAX_CONFIGS = {
    "bert": transformers.BertConfig(**models.SIZES),
    "roberta": transformers.RobertaConfig(**FAMILIES["roberta"].sizes),
}
