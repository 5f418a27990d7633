"""Models put together from modules: the same vectors as the peer's, and the same modules back."""

import numpy as np
import pytest
import sentence_transformers as peer
import torch
from sentence_transformers.sentence_transformer import modules as theirs

from jsbert.sentence_transformers import SentenceTransformer, modules

pytestmark = pytest.mark.parity

TEXTS = ["a cat", "the old house", "green hills and rain", ""]


@pytest.fixture(scope="module")
def encoder_folder(tiny_folder, tmp_path_factory):
    """A folder of the tiny model's encoder alone, as transformers writes it."""
    folder = tmp_path_factory.mktemp("encoder")
    peer.SentenceTransformer(str(tiny_folder), device="cpu")[0].save(str(folder))
    return folder


def both(folder, *behind, mode="mean", include_prompt=True, **settings):
    """The same model twice; `behind` are functions of the package that give a module."""
    found = []
    for package, cls in ((modules, SentenceTransformer), (theirs, peer.SentenceTransformer)):
        trunk = package.Transformer(str(folder), max_seq_length=7)
        width = trunk.get_embedding_dimension()
        pooling = package.Pooling(width, mode, include_prompt)
        parts = [trunk, pooling, *(make(package, width) for make in behind)]
        found.append(cls(modules=parts, device="cpu", **settings))
    return found


def compare(mine, other, **options):
    np.testing.assert_allclose(
        mine.encode(TEXTS, on_truncate="ignore", **options),
        other.encode(TEXTS, **options),
        atol=1e-5,
    )
    names = [[type(module).__name__ for module in model] for model in (mine, other)]
    assert names[0] == names[1]
    assert len(mine) == len(names[1])


@pytest.mark.parametrize("mode", ["mean", "cls", "max", ("cls", "mean")])
def test_an_encoder_and_a_pooling(encoder_folder, mode):
    compare(*both(encoder_folder, mode=mode))


def test_dense_layer_norm_and_normalize(encoder_folder):
    def dense(package, width):
        generator = np.random.default_rng(5)
        weight, bias = (
            torch.tensor(generator.standard_normal(shape).astype(np.float32))
            for shape in ((9, width), 9)
        )
        activation = torch.nn.GELU()
        return package.Dense(width, 9, True, activation, init_weight=weight, init_bias=bias)

    mine, other = both(
        encoder_folder,
        dense,
        lambda package, width: package.LayerNorm(9),
        lambda package, width: package.Dropout(0.3),
        lambda package, width: package.Normalize(),
    )
    compare(mine, other)
    assert mine.get_embedding_dimension() == other.get_embedding_dimension() == 9
    assert mine[2].get_embedding_dimension() == other[2].get_embedding_dimension()


def test_prompts_outside_the_pooling(encoder_folder):
    mine, other = both(encoder_folder, include_prompt=False, prompts={"query": "the "})
    compare(mine, other, prompt_name="query")


def test_the_weighted_mean_of_layers(encoder_folder):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(encoder_folder)
    width, layers = config.hidden_size, config.num_hidden_layers
    weights = np.linspace(1, 3, layers, dtype=np.float32)
    mine = SentenceTransformer(
        modules=[
            modules.Transformer(encoder_folder),
            modules.WeightedLayerPooling(width, layers, 1, weights),
            modules.Pooling(width),
        ]
    )
    trunk = theirs.Transformer(str(encoder_folder), config_kwargs={"output_hidden_states": True})
    other = peer.SentenceTransformer(
        modules=[
            trunk,
            theirs.WeightedLayerPooling(
                width, layers, 1, torch.nn.Parameter(torch.tensor(weights))
            ),
            theirs.Pooling(width),
        ],
        device="cpu",
    )
    compare(mine, other)


def test_static_embeddings(tiny_folder):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))
    weights = np.random.default_rng(3).standard_normal((tokenizer.get_vocab_size(), 6))
    weights = weights.astype(np.float32)
    mine = SentenceTransformer(
        modules=[modules.StaticEmbedding(tokenizer, embedding_weights=weights)]
    )
    other = peer.SentenceTransformer(
        modules=[theirs.StaticEmbedding(tokenizer, embedding_weights=weights)], device="cpu"
    )
    texts = TEXTS[:3]
    np.testing.assert_allclose(mine.encode(texts), other.encode(texts), atol=1e-5)
    assert mine[0].get_embedding_dimension() == 6


def test_former_flags_choose_the_same_poolings():
    for flags in (
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False},
    ):
        mine = modules.Pooling(word_embedding_dimension=8, **flags)
        with pytest.warns(FutureWarning, match="deprecated"):
            other = theirs.Pooling(8, **flags)
        assert mine.pooling_mode == other.pooling_mode, flags
        assert mine.get_embedding_dimension() == other.get_embedding_dimension()


def test_a_saved_model_is_read_by_the_peer(encoder_folder, tmp_path):
    mine, _ = both(encoder_folder, lambda package, width: package.Dense(width, 5))
    mine.save_pretrained(tmp_path / "model")
    other = peer.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    compare(mine, other)
