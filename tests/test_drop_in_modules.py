"""The drop-in's modules and the peer's long module paths: what is taken, and what is refused."""

import importlib

import numpy as np
import pytest

from jsbert.sentence_transformers import SentenceTransformer, losses, modules
from jsbert.sentence_transformers.modules import Dense, Normalize, Pooling, Transformer

TEXTS = ["a cat", "the old house", "green hills and rain"]


def test_a_folder_is_put_together_again(tiny_folder):
    model = SentenceTransformer(tiny_folder)
    again = SentenceTransformer(modules=list(model), prompts={"query": "the "})
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))
    assert again.prompts["query"] == "the "
    assert again
    assert [type(module).__name__ for module in again] == ["Transformer", "Pooling", "Normalize"]


def test_the_first_module_sets_the_limit_of_the_model(tiny_folder):
    model = SentenceTransformer(tiny_folder)
    model[0].max_seq_length = 5
    assert model.max_seq_length == 5
    assert model[0].tokenizer.max_length == 5
    assert model[-1].module.normalizes(False)
    assert model[1].get_pooling_mode_str() == "mean"
    with pytest.raises(IndexError):
        model[3]
    with pytest.raises(AttributeError, match=r"no auto_model: model\.params"):
        model[0].auto_model  # noqa: B018


def test_two_random_layers_differ_and_options_reach_the_model(tiny_folder):
    trunk = Transformer(tiny_folder, model_kwargs={"dtype": "bfloat16"}, max_seq_length=6)
    width = trunk.get_word_embedding_dimension()
    layers = [Dense(width, width), Dense(width, width)]
    assert not np.array_equal(layers[0].params["kernel"], layers[1].params["kernel"])
    model = SentenceTransformer(modules=[trunk, Pooling(width, "cls"), *layers])
    assert (model.dtype, model.max_seq_length) == ("bfloat16", 6)
    assert np.isfinite(model.encode(TEXTS, on_truncate="ignore")).all()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], r"modules \[\]; give Transformer"),
        (["trunk"], r"modules \['Transformer'\]; give"),
        (["pooling", "trunk"], "give Transformer"),
        (["trunk", "normalize", "pooling"], "give Transformer"),
        (["trunk", "pooling", "pooling"], "give Transformer"),
        (["trunk", "wide"], "embedding_dimension is 7, but the encoder's token vectors have"),
        (["trunk", "pooling", "dense"], r"modules\[2\], Dense: in_features is 5"),
    ],
)
def test_other_orders_and_widths_are_refused(tiny_folder, parts, message):
    trunk = Transformer(tiny_folder)
    known = {
        "trunk": trunk,
        "pooling": Pooling(trunk.get_embedding_dimension()),
        "wide": Pooling(7),
        "normalize": Normalize(),
        "dense": Dense(5, 5),
    }
    with pytest.raises(ValueError, match=message):
        SentenceTransformer(modules=[known[name] for name in parts])


def test_what_is_no_module_is_refused(tiny_folder):
    with pytest.raises(TypeError, match="'a' is str; give objects"):
        SentenceTransformer(modules=["a"])
    with pytest.raises(ValueError, match="model_name_or_path or modules, not both"):
        SentenceTransformer(tiny_folder, modules=[Normalize()])
    with pytest.raises(TypeError, match="no argument 'pooling_mode_middle'"):
        Pooling(4, pooling_mode_middle=True)
    with pytest.raises(ValueError, match="config_kwargs=.* change the config.json"):
        Transformer(tiny_folder, config_kwargs={"a": 1})
    with pytest.raises(TypeError, match="no argument 'colour'"):
        Transformer(tiny_folder, colour="red")
    with pytest.raises(ValueError, match=r"init_weight is \(2, 3\), but \(3, 2\) is needed"):
        Dense(2, 3, init_weight=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="there is no bias"):
        Dense(2, 3, bias=False, init_bias=np.zeros(3))
    with pytest.raises(ImportError, match="no CNN"):
        modules.CNN  # noqa: B018


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("models", "Pooling"),
        ("sentence_transformer", "SentenceTransformer"),
        ("sentence_transformer.evaluation", "TripletEvaluator"),
        ("sentence_transformer.losses", "CosineSimilarityLoss"),
        ("sentence_transformer.modules", "Dense"),
        ("sentence_transformer.readers", "InputExample"),
        ("sentence_transformer.trainer", "SentenceTransformerTrainer"),
        ("sentence_transformer.training_args", "BatchSamplers"),
        ("base.sampler", "MultiDatasetBatchSamplers"),
        ("cross_encoder.model", "CrossEncoder"),
        ("cross_encoder.trainer", "CrossEncoderTrainer"),
        ("util.quantization", "quantize_embeddings"),
        ("util.similarity", "SimilarityFunction"),
    ],
)
def test_the_peers_long_paths_lead_to_the_same_objects(place, name):
    found = importlib.import_module(f"jsbert.sentence_transformers.{place}")
    assert getattr(found, name).__name__ == name
    with pytest.raises((AttributeError, ImportError)):
        found.nothing  # noqa: B018


def test_a_long_path_gives_the_class_itself():
    place = importlib.import_module("jsbert.sentence_transformers.sentence_transformer.losses")
    assert place.CosineSimilarityLoss is losses.CosineSimilarityLoss


@pytest.mark.parametrize("package", ["sparse_encoder", "multi_vector_encoder", "datasets"])
def test_packages_that_jsbert_lacks_say_what_to_use(package):
    with pytest.raises(ModuleNotFoundError, match="jsbert has"):
        importlib.import_module(f"jsbert.sentence_transformers.{package}")
