"""The cross-encoder as an object; the numbers are compared in parity/."""

import jax
import numpy as np
import pytest

import jsbert
from jsbert import CrossEncoder
from tests import models

PAIRS = list(zip(models.sentences(50, seed=1), models.sentences(50, seed=2), strict=True))


@pytest.fixture(scope="module")
def model(tiny_cross_folder):
    return jsbert.CrossEncoder(tiny_cross_folder)


def test_shapes_order_and_types(model):
    scores = model.predict(PAIRS)
    assert (scores.shape, scores.dtype) == ((50,), np.float32)
    assert ((scores > 0) & (scores < 1)).all()
    assert scores == pytest.approx([float(model.predict(pair)) for pair in PAIRS], abs=1e-6)
    assert model.predict(PAIRS[0]).shape == ()
    assert model.predict([]).shape == (0,)
    scores.copy()[:] = 0
    model.predict(PAIRS).sort()  # the result belongs to the caller
    assert model.predict(np.array(PAIRS)).tolist() == scores.tolist()
    assert model.predict([list(pair) for pair in PAIRS]).tolist() == scores.tolist()
    assert isinstance(model.predict(PAIRS, convert_to_tensor=True), jax.Array)
    assert len(model.predict(PAIRS, convert_to_numpy=False)) == 50


def test_a_score_depends_on_its_pair_alone(model):
    whole = model.predict(PAIRS)
    for batch_size in (1, 7):
        assert np.abs(model.predict(PAIRS, batch_size=batch_size) - whole).max() <= 1e-6
    assert np.abs(model.predict(PAIRS[::-1])[::-1] - whole).max() <= 1e-6


def test_activations(model):
    logits = model.predict(PAIRS, activation_fn="identity")
    assert model.predict(PAIRS) == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)
    assert model.predict(PAIRS, activation_fn=lambda x: 2 * x) == pytest.approx(2 * logits)
    with pytest.raises(ValueError, match="activation_fn: unknown activation 'step'"):
        model.predict(PAIRS, activation_fn="step")


def test_several_labels(tmp_path):
    model = jsbert.CrossEncoder(
        models.write_cross_folder(tmp_path / "model", num_labels=3, activation="identity")
    )
    assert model.predict(PAIRS).shape == (50, 3)
    assert model.predict(PAIRS[0]).shape == (3,)
    assert model.predict([]).shape == (0, 3)
    assert model.predict(PAIRS, apply_softmax=True).sum(axis=1) == pytest.approx(1)
    with pytest.raises(ValueError, match="rank needs a model with one label, this one has 3"):
        model.rank("a", ["b"])


def test_rank_sorts_and_keeps_the_order_of_equals(model):
    documents = ["a cat", "the red tree", "a cat", "dog"]
    ranked = model.rank("a cat sat", documents, return_documents=True)
    assert sorted(entry["corpus_id"] for entry in ranked) == [0, 1, 2, 3]
    scores = [entry["score"] for entry in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(documents[entry["corpus_id"]] == entry["text"] for entry in ranked)
    places = [entry["corpus_id"] for entry in ranked]
    assert places.index(0) < places.index(2)
    assert model.rank("a cat sat", documents, top_k=2) == [
        {k: e[k] for k in ("corpus_id", "score")} for e in ranked[:2]
    ]
    assert model.rank("a cat sat", documents, 2) == model.rank("a cat sat", documents, top_k=2)
    assert model.rank("a", []) == []
    with pytest.raises(TypeError, match="documents is one string"):
        model.rank("a", "a dog")


@pytest.mark.parametrize(
    "pairs, message",
    [
        (None, "the input is None"),
        ("a pair", "the input is str"),
        (["a", "b", "c"], "pair 0 is str 'a'"),
        ([("a", "b"), ("c",)], "pair 1 is a tuple of str"),
        ([("a", None)], "a text of pair 0 is None, a missing value"),
        ([("a", "b"), b"cd"], "pair 1 is bytes"),
    ],
)
def test_inputs_that_are_no_pairs(model, pairs, message):
    with pytest.raises(TypeError, match=message):
        model.predict(pairs)


def test_truncation_limits_and_options(model, tiny_cross_folder):
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than 32 tokens"):
        model.predict([("the " * 40, "a"), ("a", "b")])
    with pytest.raises(ValueError, match="text 0 is longer than 32 tokens"):
        model.predict([("the " * 40, "a")], on_truncate="error")
    with pytest.raises(ValueError, match="batch_size is 0"):
        model.predict(PAIRS, batch_size=0)
    short = jsbert.CrossEncoder(tiny_cross_folder, max_length=8)
    assert short.max_seq_length == 8
    assert (
        jsbert.CrossEncoder(tiny_cross_folder, activation_fn="identity").activation_fn == "identity"
    )
    with pytest.raises(ValueError, match="text 0 is no valid Unicode"):
        model.predict([("\ud800", "a")])


def test_devices_dtypes_and_warm_up(model, tiny_cross_folder):
    wanted = model.predict(PAIRS)
    spread = jsbert.CrossEncoder(tiny_cross_folder, device=jax.devices("cpu"))
    assert np.abs(spread.predict(PAIRS) - wanted).max() <= 1e-6
    assert (
        np.abs(
            jsbert.CrossEncoder(tiny_cross_folder, dtype="bfloat16").predict(PAIRS) - wanted
        ).max()
        < 0.02
    )
    fresh = jsbert.CrossEncoder(tiny_cross_folder)
    made = fresh.warmup(lengths=[9])
    assert made == fresh.num_compilations > 0


def test_saved_and_opened_again_it_is_the_same(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    again = jsbert.CrossEncoder(tmp_path / "model")
    assert (again.config, again.num_labels, again.activation_fn) == (model.config, 1, "sigmoid")
    assert again.max_seq_length == model.max_seq_length
    assert np.array_equal(again.predict(PAIRS), model.predict(PAIRS))


def test_a_new_classifier_on_an_encoder_without_one(tiny_folder, tiny_cross_folder, tmp_path):
    model = CrossEncoder(tiny_folder, num_labels=3)
    pairs = [("the cat", "a dog"), ("a red house", "it ran")]
    scores = model.predict(pairs)
    assert scores.shape == (2, 3)
    assert np.array_equal(CrossEncoder(tiny_folder, num_labels=3).predict(pairs), scores)
    assert not np.allclose(CrossEncoder(tiny_folder, num_labels=3, seed=1).predict(pairs), scores)
    model.save_pretrained(tmp_path / "new")
    assert np.array_equal(CrossEncoder(tmp_path / "new").predict(pairs), scores)
    with pytest.raises(ValueError, match="num_labels is 3, but its classifier has 1"):
        CrossEncoder(tiny_cross_folder, num_labels=3)


def test_a_default_prompt_stands_before_the_first_text_everywhere(tiny_cross_folder):
    from jsbert.serve.models import Scorer

    prompts = {"prompts": {"q": "query : "}, "default_prompt_name": "q"}
    model = jsbert.CrossEncoder(tiny_cross_folder, **prompts)
    plain = jsbert.CrossEncoder(tiny_cross_folder)
    pairs = [("the cat", "a dog"), ("red", "")]
    written = [(f"query : {first}", second) for first, second in pairs]
    assert np.array_equal(model.predict(pairs), plain.predict(written))
    assert np.array_equal(model.predict(pairs, prompt=""), plain.predict(pairs))
    assert np.array_equal(plain.predict(pairs, prompt="query : "), plain.predict(written))
    tokens = model.tokenize(pairs)
    assert np.array_equal(tokens["input_ids"], plain.tokenize(written)["input_ids"])
    served = Scorer("name", model).tokenize(pairs, field="texts")
    assert np.array_equal(served.ids, plain.tokenizer(written).ids)
    with pytest.raises(
        ValueError, match=r"unknown prompt_name 'x'; the model's prompts are \['q'\]"
    ):
        model.predict(pairs, prompt_name="x")
    with pytest.raises(ValueError, match="unknown prompt_name 'x'"):
        jsbert.CrossEncoder(tiny_cross_folder, default_prompt_name="x")
