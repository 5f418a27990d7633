"""The cross-encoder against sentence_transformers.CrossEncoder."""

import json

import numpy as np
import pytest
import sentence_transformers
import torch
import transformers

import jsbert
from tests import models
from tests.parity import reference

FIRST, SECOND = models.sentences(30, seed=1), models.sentences(30, seed=2, longest=20)
PAIRS = [
    *zip(FIRST, SECOND, strict=True),
    ("", ""),
    ("the cat", ""),
    ("", "red " * 50),
    ("a " * 40, "b " * 30),
]


def write_reference(folder, num_labels=1, **config):
    sizes = transformers.BertConfig(**models.SIZES, num_labels=num_labels, **config)
    model = reference.perturb(transformers.BertForSequenceClassification(sizes), 4)
    return reference.write_trunk(folder, model, model_max_length=30)


def theirs(folder):
    return sentence_transformers.CrossEncoder(str(folder), device="cpu")


@pytest.mark.parametrize("num_labels", [1, 3])
def test_scores_are_the_same_both_ways(tmp_path, num_labels):
    folder = write_reference(tmp_path / "there", num_labels)
    ours = jsbert.CrossEncoder(folder)
    assert ours.max_seq_length == theirs(folder).max_seq_length == 30
    scores = ours.predict(PAIRS, on_truncate="ignore")
    assert scores.shape == ((len(PAIRS),) if num_labels == 1 else (len(PAIRS), num_labels))
    assert reference.largest_difference(scores, theirs(folder).predict(PAIRS)) <= 1e-5
    ours.save_pretrained(tmp_path / "back")
    assert reference.largest_difference(scores, theirs(tmp_path / "back").predict(PAIRS)) <= 1e-5
    assert theirs(tmp_path / "back").max_seq_length == 30


def test_softmax_over_labels(tmp_path):
    folder = write_reference(tmp_path, 3)
    got = jsbert.CrossEncoder(folder).predict(PAIRS, apply_softmax=True, on_truncate="ignore")
    assert (
        reference.largest_difference(got, theirs(folder).predict(PAIRS, apply_softmax=True)) <= 1e-5
    )


@pytest.mark.parametrize(
    "keys, activation",
    [
        ({}, "sigmoid"),
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
            "identity",
        ),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Tanh"}, "tanh"),
    ],
    ids=["default", "new key", "older key"],
)
def test_activation_rules(tmp_path, keys, activation):
    folder = write_reference(tmp_path / "there")
    values = json.loads((folder / "config.json").read_text()) | keys
    (folder / "config.json").write_text(json.dumps(values))
    ours = jsbert.CrossEncoder(folder)
    assert ours.activation_fn == activation
    wanted = theirs(folder).predict(PAIRS)
    assert reference.largest_difference(ours.predict(PAIRS, on_truncate="ignore"), wanted) <= 1e-5
    ours.save_pretrained(tmp_path / "back")
    assert (
        reference.largest_difference(
            jsbert.CrossEncoder(tmp_path / "back").predict(PAIRS, on_truncate="ignore"), wanted
        )
        <= 1e-5
    )


def test_folders_that_sentence_transformers_saved(tmp_path):
    folder = write_reference(tmp_path / "there")
    theirs(folder).save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    got = jsbert.CrossEncoder(tmp_path / "saved").predict(PAIRS, on_truncate="ignore")
    assert reference.largest_difference(got, theirs(folder).predict(PAIRS)) <= 1e-5


def test_rank(tmp_path):
    folder = write_reference(tmp_path)
    documents = [*dict.fromkeys(models.sentences(20, seed=9))]
    got = jsbert.CrossEncoder(folder).rank("the red cat", documents, top_k=7, return_documents=True)
    wanted = theirs(folder).rank("the red cat", documents, top_k=7, return_documents=True)
    assert [(entry["corpus_id"], entry["text"]) for entry in got] == [
        (entry["corpus_id"], entry["text"]) for entry in wanted
    ]
    assert [entry["score"] for entry in got] == pytest.approx(
        [entry["score"] for entry in wanted], abs=1e-5
    )


def test_token_types_matter(tmp_path):
    folder = write_reference(tmp_path)
    model = jsbert.CrossEncoder(folder)
    tokens = model.tokenizer([("a cat", "a dog")])
    with_types = model.predict(("a cat", "a dog"), activation_fn="identity")
    from jsbert.cross import logits

    without = logits(
        model.config, model.params, tokens.ids[None], np.ones((1, len(tokens.ids)), bool)
    )
    assert abs(float(without[0, 0]) - float(with_types)) > 1e-3


@pytest.mark.parametrize(
    "tokenizer_class", ["BertTokenizer", "TokenizersBackend", "PreTrainedTokenizerFast"]
)
def test_the_tokenizers_class_decides_on_token_types(tmp_path, tokenizer_class):
    folder = write_reference(tmp_path)
    transformers.BertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    values = json.loads((folder / "tokenizer_config.json").read_text()) | {
        "tokenizer_class": tokenizer_class
    }
    values.pop("model_input_names", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(values))
    got = jsbert.CrossEncoder(folder).predict(PAIRS, on_truncate="ignore", activation_fn="identity")
    wanted = theirs(folder).predict(PAIRS, activation_fn=torch.nn.Identity())
    assert reference.largest_difference(got, wanted) <= 1e-5
