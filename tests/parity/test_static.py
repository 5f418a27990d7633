"""Static embeddings against sentence-transformers' StaticEmbedding, and model2vec's own folders."""

import json

import numpy as np
import pytest
import safetensors.numpy
import sentence_transformers
import tokenizers
from sentence_transformers.sentence_transformer import modules as st

import jsbert
from tests import models
from tests.parity import reference

TEXTS = [*models.sentences(30, seed=4), "", "   ", "a" * 300, "the cat " * 400, "日本"]


def wordpiece():
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            {piece: i for i, piece in enumerate(models.VOCABULARY)}, unk_token="[UNK]"
        )
    )
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return backend


def table(rows=None):
    return (
        np.random.default_rng(0)
        .standard_normal((rows or len(models.VOCABULARY), 10))
        .astype(np.float32)
    )


def theirs(folder):
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize(
    "head", [(), (st.Normalize(),), (st.Dense(10, 7), st.Normalize())], ids=["", "1", "Dense"]
)
def test_folders_both_ways(tmp_path, head):
    head = [reference.perturb(module, i) for i, module in enumerate(head)]
    modules = [st.StaticEmbedding(wordpiece(), embedding_weights=table()), *head]
    sentence_transformers.SentenceTransformer(modules=modules, device="cpu").save_pretrained(
        str(tmp_path / "there"), create_model_card=False
    )
    wanted = theirs(tmp_path / "there").encode(TEXTS)
    model = jsbert.SentenceTransformer(tmp_path / "there")
    got = model.encode(TEXTS)
    assert reference.largest_difference(got, wanted) <= 1e-5
    assert np.array_equal(got[30], got[31])  # no token, no vector
    model.save_pretrained(tmp_path / "back")
    assert reference.largest_difference(theirs(tmp_path / "back").encode(TEXTS), wanted) <= 1e-6


@pytest.mark.parametrize("with_modules", [True, False])
def test_model2vec_s_mapping_and_weights(tmp_path, with_modules):
    generator = np.random.default_rng(1)
    count = len(models.VOCABULARY)
    tensors = {
        "embeddings": table(20).astype(np.float16),
        "mapping": generator.integers(0, 20, count),
    }
    tensors["weights"] = generator.uniform(0.5, 2, count)
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    wordpiece().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "model2vec", "normalize": True})
    )
    kinds = [
        (kind, f"sentence_transformers.models.{kind}") for kind in ("StaticEmbedding", "Normalize")
    ]
    entries = [{"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": name}
               for i, (kind, name) in enumerate(kinds)]  # fmt: skip
    (tmp_path / "modules.json").write_text(json.dumps(entries))
    wanted = theirs(tmp_path).encode(TEXTS)
    if not with_modules:
        (tmp_path / "modules.json").unlink()
    # sentence-transformers rounds the products to float16 again
    assert (
        reference.largest_difference(jsbert.SentenceTransformer(tmp_path).encode(TEXTS), wanted)
        <= 1e-3
    )


@pytest.mark.parametrize(
    "tensors, message",
    [
        ({"embeddings": table(5)}, "the tokenizer has ids up to"),
        ({"embeddings": table(), "mapping": np.array([900])}, "'mapping' leads out"),
        ({"embeddings": table(), "weights": np.ones(3)}, "'weights' for"),
        ({"embeddings": table(), "other": np.ones(3)}, r"unknown tensors \['other'\]"),
        ({"vectors": table()}, "no matrix 'embedding.weight'"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path, tensors, message):
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    wordpiece().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "model2vec"}))
    with pytest.raises(ValueError, match=message):
        jsbert.SentenceTransformer(tmp_path)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_limit_in_tokenizer_json_stays(tmp_path, side):
    backend = wordpiece()
    backend.enable_truncation(4, direction=side)
    modules = [st.StaticEmbedding(backend, embedding_weights=table())]
    sentence_transformers.SentenceTransformer(modules=modules, device="cpu").save_pretrained(
        str(tmp_path / "there"), create_model_card=False
    )
    model = jsbert.SentenceTransformer(tmp_path / "there")
    assert model.max_seq_length == 4
    got = model.encode(TEXTS, on_truncate="ignore")
    assert reference.largest_difference(got, theirs(tmp_path / "there").encode(TEXTS)) <= 1e-5
    # Only tokenizer.json has the limit, and the reference reads it there.
    model.max_seq_length = 6
    model.save_pretrained(tmp_path / "back")
    again = jsbert.SentenceTransformer(tmp_path / "back")
    assert again.max_seq_length == 6
    got = again.encode(TEXTS, on_truncate="ignore")
    assert reference.largest_difference(got, model.encode(TEXTS, on_truncate="ignore")) == 0
    assert reference.largest_difference(got, theirs(tmp_path / "back").encode(TEXTS)) <= 1e-5


def test_switches_in_tokenizer_config_do_not_touch_tokenizer_json(tmp_path):
    modules = [st.StaticEmbedding(wordpiece(), embedding_weights=table())]
    sentence_transformers.SentenceTransformer(modules=modules, device="cpu").save_pretrained(
        str(tmp_path), create_model_card=False
    )
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": False,
        "truncation_side": "left",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    texts = ["The CAT sat", "DOG"]
    got = jsbert.SentenceTransformer(tmp_path).encode(texts)
    assert reference.largest_difference(got, theirs(tmp_path).encode(texts)) <= 1e-5
