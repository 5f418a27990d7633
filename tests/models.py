"""Made-up tokenizers, models and sentences, written with jsbert alone."""

import json
import pathlib
import random

import jax
import numpy as np

from jsbert import encoders
from jsbert.checkpoint import (
    BiEncoderParts,
    CrossEncoderParts,
    Settings,
    write_bi_encoder,
    write_cross_encoder,
)
from jsbert.config import Config, CrossConfig
from jsbert.encoders import bert
from jsbert.modules import Normalize
from jsbert.tokenizer import Tokenizer

WORDS = [
    "the", "a", "cat", "dog", "sat", "ran", "on", "under", "red", "blue", "tree", "house",
    "quickly", "slowly", "and", "of", "to", "in", "is", "was", "it", "query", "passage", ":", ".",
    ",",
]  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, *dict.fromkeys([*WORDS, *LETTERS]), *[f"##{letter}" for letter in LETTERS]]

NORMALIZE = (Normalize(),)

SIZES = dict(
    vocab_size=len(VOCABULARY) + 3,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
    max_position_embeddings=32,
    type_vocab_size=2,
)
"""A tiny BERT; all dimensions differ, so a swapped axis fails."""


def write_vocabulary(folder: pathlib.Path, **settings) -> None:
    """Write a WordPiece tokenizer that has a `vocab.txt` only."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf8")
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": 512,
    } | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf8")


def tokenizer(folder: pathlib.Path, max_length: int = 32) -> Tokenizer:
    """Write the tokenizer above to `folder`, and open the tokenizer."""
    write_vocabulary(folder)
    return Tokenizer.from_folder(folder, max_length=max_length)


def perturbed(shapes, seed: int = 0, scale: float = 0.2):
    """Return random params of these shapes. Every value is moved off its usual initial value;
    scales of LayerNorm are around 1."""
    generator = np.random.default_rng(seed)

    def draw(path, leaf):
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return (centre + scale * generator.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def parts(
    folder: pathlib.Path, *, pooling=("mean",), head=NORMALIZE, seed=0, settings=None, **config
) -> BiEncoderParts:
    """Return a random tiny bi-encoder, and leave its vocabulary in `folder`."""
    encoder = bert.Config(**SIZES)
    params = {"encoder": perturbed(encoders.shapes(encoder), seed)}
    own = {
        i: perturbed(module.shapes(), seed + i + 100)
        for i, module in enumerate(head)
        if module.shapes()
    }
    params |= {"head": own} if own else {}
    return BiEncoderParts(
        Config(encoder, pooling, modules=head, **config),
        params,
        tokenizer(folder),
        settings or Settings(),
    )


def write_folder(folder: pathlib.Path, **options) -> pathlib.Path:
    """Write `parts` as a sentence-transformers folder."""
    write_bi_encoder(folder, parts(folder.parent / "vocabulary", **options))
    return folder


def cross_parts(
    folder: pathlib.Path, num_labels: int = 1, activation: str = "sigmoid"
) -> CrossEncoderParts:
    """Return a random tiny cross-encoder."""
    encoder = bert.Config(**SIZES)
    shapes = {
        "encoder": encoders.shapes(encoder),
        "head": bert.head(encoder).shapes(encoder, num_labels),
    }
    config = CrossConfig(encoder, num_labels, activation)
    return CrossEncoderParts(config, perturbed(shapes, 7), tokenizer(folder))


def write_cross_folder(folder: pathlib.Path, **options) -> pathlib.Path:
    """Write `cross_parts` as a folder."""
    write_cross_encoder(folder, cross_parts(folder.parent / "vocabulary", **options))
    return folder


def sentences(count: int, seed: int = 0, longest: int = 12) -> list[str]:
    """Return random sentences of 0 to `longest` words."""
    generator = random.Random(seed)
    return [
        " ".join(generator.choices(WORDS, k=generator.randint(0, longest))) for _ in range(count)
    ]
