"""`jsbert.sentence_transformers`: what is honoured, and what is refused by name."""

import pickle

import jax
import numpy as np
import pytest

import jsbert
from jsbert.sentence_transformers import (
    CrossEncoder,
    InputExample,
    SentenceTransformer,
    SimilarityFunction,
    util,
)
from jsbert.sentence_transformers.evaluation import EmbeddingSimilarityEvaluator

TEXTS = ["a cat", "the old house", "green hills and rain"]
PAIRS = [("a cat", "a dog"), ("the old house", "rain")]


@pytest.fixture(scope="module")
def model(tiny_folder):
    return SentenceTransformer(tiny_folder)


@pytest.fixture(scope="module")
def cross(tiny_cross_folder):
    return CrossEncoder(tiny_cross_folder, model_kwargs={"attn_implementation": "sdpa"})


def test_a_model_gives_the_vectors_of_jsbert(model, tiny):
    np.testing.assert_array_equal(model.encode(TEXTS), tiny.encode(TEXTS))
    np.testing.assert_array_equal(model.encode_document(TEXTS), tiny.encode_document(TEXTS))
    assert isinstance(model.encode(TEXTS, convert_to_tensor=True), jax.Array)
    assert pickle.loads(pickle.dumps(model)).encode("a cat").shape == model.encode("a cat").shape


def test_a_cross_encoder_gives_the_scores_of_jsbert(cross, tiny_cross):
    np.testing.assert_array_equal(cross.predict(PAIRS), tiny_cross.predict(PAIRS))
    arguments = ("a cat", TEXTS, 2, True)
    assert cross.rank(*arguments) == tiny_cross.rank(*arguments)


def test_options_of_transformers_become_those_of_jsbert(tiny_folder):
    model = SentenceTransformer(
        tiny_folder,
        model_kwargs={"torch_dtype": "bfloat16", "attn_implementation": "eager"},
        tokenizer_kwargs={"model_max_length": 9},
        similarity_fn_name=SimilarityFunction.DOT_PRODUCT,
    )
    assert (model.dtype, model.attn_implementation, model.max_seq_length) == (
        "bfloat16",
        "eager",
        9,
    )
    assert model.similarity_fn_name == "dot"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trust_remote_code": True}, "never runs code from a checkpoint"),
        ({"backend": "onnx"}, "jsbert.export writes ONNX"),
        ({"model_kwargs": {"dtype": "float16"}}, "choose float32, bfloat16 or auto"),
        ({"model_kwargs": {"quantization_config": 4}}, "quantization_config=4 is not supported"),
        ({"processor_kwargs": {"padding_side": "left"}}, "allowed is model_max_length"),
        ({"config_kwargs": {"num_labels": 3}}, "change the config.json"),
        ({"model_card_data": {"license": "mit"}}, "edit its README.md"),
        ({"modules": [1]}, "SentenceTransformer.from_parts"),
    ],
)
def test_an_option_that_jsbert_lacks_is_refused_by_name(tiny_folder, options, message):
    with pytest.raises(ValueError, match=message):
        SentenceTransformer(tiny_folder, **options)


def test_a_method_that_jsbert_lacks_is_refused_by_name(model, cross, tmp_path):
    with pytest.raises(AttributeError, match=r"has no fit: train with jsbert\.train\.fit"):
        model.fit()
    with pytest.raises(AttributeError, match="has no to: open the model with device="):
        cross.to("cuda")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        model.nothing  # noqa: B018
    with pytest.raises(ValueError, match="put the prompt in front"):
        cross.predict(PAIRS, prompt="query: ")
    with pytest.raises(ValueError, match="jsbert writes safetensors"):
        model.save(tmp_path / "x", safe_serialization=False)
    with pytest.raises(ValueError, match="local_model_path='x' is not supported"):
        model.push_to_hub("owner/name", local_model_path="x")


def test_a_name_that_jsbert_lacks_says_what_to_use():
    with pytest.raises(ImportError, match=r"has no SparseEncoder: jsbert has bi-encoders"):
        from jsbert.sentence_transformers import SparseEncoder  # noqa: F401
    with pytest.raises(ImportError, match="has no losses: the objectives of jsbert.train"):
        from jsbert.sentence_transformers import losses  # noqa: F401
    assert not hasattr(util, "no_such_name")


def test_a_model_is_saved_evaluated_and_searched(model, tmp_path):
    model.save(str(tmp_path / "copy"), None, False)
    copy = SentenceTransformer.load(str(tmp_path / "copy")).eval()
    np.testing.assert_allclose(copy.encode(TEXTS), model.encode(TEXTS), atol=1e-6)
    evaluator = EmbeddingSimilarityEvaluator(
        TEXTS, TEXTS[::-1], [0.0, 1.0, 0.2], main_similarity=SimilarityFunction.COSINE
    )
    assert model.evaluate(evaluator) == jsbert.SentenceTransformer(tmp_path / "copy").evaluate(
        evaluator
    )
    assert util.semantic_search(model.encode(TEXTS), model.encode(TEXTS))[1][0]["corpus_id"] == 1
    assert model.supports("text")
    assert not model.supports("image")
    assert model.get_backend() == "jax"


def test_similarity_functions_have_the_peers_names():
    assert SimilarityFunction.possible_values() == ["cosine", "dot", "euclidean", "manhattan"]
    assert SimilarityFunction.to_similarity_fn("dot") is util.dot_score
    assert SimilarityFunction.to_similarity_pairwise_fn("cosine") is util.pairwise_cos_sim


def test_an_input_example_holds_texts_and_a_label():
    assert InputExample(texts=["a", "b"], label=0.5) == InputExample("", ["a", "b"], 0.5)
