"""A raw BERT: a small BERT trained from nothing by masked language modelling. The ablation starts
from this BERT.

python -m recipes.pretrain --data DATA --work WORK

DATA holds corpus/english-sentences.tsv.gz (and the files of `recipes.corpus`, to leave test
sentences out). The word pieces are learned from the corpus as well. If the command was stopped, the
same command continues. The model is WORK/model, with mean pooling and float16 tensors.
"""

import argparse
import json
import pathlib
from typing import Any

import jax
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from benchmarks.lib import report
from jsbert import SentenceTransformer, encoders
from jsbert.checkpoint import BiEncoderParts, Settings
from jsbert.config import Config
from jsbert.data import Examples
from jsbert.encoders import bert
from jsbert.tokenizer import Tokenizer
from jsbert.train import Recipe, Source, fit
from recipes.corpus import corpus_sentences
from recipes.student import halve

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = 8_000
SIZES = dict(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024)
LENGTH = 128
RECIPE = Recipe(
    batch_size=64,
    learning_rate=1e-3,
    warmup=0.05,
    dropout=False,
    dtype="bfloat16",
    checkpoint_steps=500,
)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the stages that are missing, and return what is written as JSON."""
    options = _options(argv)
    values = report.circumstances()
    report.print_circumstances(values)
    start = options.work / "start"
    texts, counts = corpus_sentences(options.data)
    if not start.is_dir():
        _untrained(texts, options.work / "pieces").save_pretrained(start)
    learned = texts[: options.sentences]
    model = fit(
        SentenceTransformer(start),
        Source(Examples.from_columns({"sentence": learned}), "masked-lm"),
        options.work / "trained",
        RECIPE,
        show_progress_bar=True,
    )
    model.save_pretrained(options.work / "model")
    halve(options.work / "model" / "model.safetensors")
    size = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    results = counts | {"sentences": len(learned), "parameters": size}
    print("written:", report.write_json("pretrain", values | {"results": results}, options.out))
    return results


def word_pieces(texts: list[str], vocabulary: int) -> list[str]:
    """Return the vocabulary that WordPiece learns from texts, special tokens first."""
    learner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizers.BertNormalizer(lowercase=True)
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    learner.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=SPECIAL)
    )
    pieces = learner.get_vocab()
    return sorted(pieces, key=pieces.get)


def _untrained(texts, folder):
    folder.mkdir(parents=True)
    pieces = word_pieces(texts, VOCABULARY)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": LENGTH}
        ),
        encoding="utf8",
    )
    encoder = bert.Config(vocab_size=len(pieces), max_position_embeddings=LENGTH, **SIZES)
    params = {"encoder": encoders.init(encoder, jax.random.key(0))}
    tokenizer = Tokenizer.from_folder(folder, max_length=LENGTH)
    return SentenceTransformer.from_parts(
        BiEncoderParts(Config(encoder), params, tokenizer, Settings())
    )


def _options(argv) -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument(
        "--data",
        type=pathlib.Path,
        required=True,
        help="folder with corpus/, nli/, paraphrase/, sts/",
    )
    parser.add_argument(
        "--work", type=pathlib.Path, required=True, help="folder for the stages and the model"
    )
    parser.add_argument(
        "--sentences",
        type=int,
        default=400_000,
        help="sentences to learn from, once each (400,000)",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
