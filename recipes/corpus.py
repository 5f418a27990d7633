"""Sentences for training, without the sentences of test sets."""

import pathlib
import re

import numpy as np

from jsbert.data import Examples, read_examples

WORDS = range(2, 49)
"""The numbers of words that a sentence may have, counted by spaces."""

HELD_OUT = 1_000
"""The number of NLI triplets that are kept out of training."""


def normalized(text: str) -> str:
    """Return a text without case and punctuation, for matching.

    >>> normalized("A man's hat -- in Paris.")
    'a man s hat in paris'
    """
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def evaluation_sentences(data: pathlib.Path) -> set[str]:
    """Return, normalised, every sentence of the STS benchmark, and the captions that are in STS
    test sets."""
    files = [*(data / "sts").glob("stsb-*.tsv"), data / "paraphrase/flickr30k-exclude.tsv"]
    return {
        normalized(text)
        for file in files
        for column in read_examples(file).texts
        for text in column
    }


def corpus_sentences(data: pathlib.Path) -> tuple[list[str], dict[str, int]]:
    """Return the sentences of corpus/ and of the NLI triplets, each once, shuffled; and counts.

    Sentences of evaluation sets, and sentences with too few or too many words, are left out.
    """
    corpus = read_examples(data / "corpus/english-sentences.tsv.gz", columns=["sentence"])
    distinct: dict[str, str] = {}
    for column in (*corpus.texts, *nli_triplets(data)[0].texts):
        for text in column:
            distinct.setdefault(normalized(text), text)
    evaluation = evaluation_sentences(data)
    kept = [
        text
        for key, text in distinct.items()
        if key not in evaluation and len(text.split()) in WORDS
    ]
    counts = {
        "distinct": len(distinct),
        "of evaluation sets": len(evaluation & distinct.keys()),
        "usable": len(kept),
    }
    return [kept[i] for i in np.random.default_rng(0).permutation(len(kept))], counts


def nli_triplets(data: pathlib.Path) -> tuple[Examples, Examples]:
    """Return (triplets for training, the last `HELD_OUT`), without triplets that have a sentence of
    an evaluation set."""
    evaluation, found = evaluation_sentences(data), read_examples(data / "nli/nli-triplets.tsv.gz")
    rows = [
        row for row in zip(*found.texts, strict=True) if not evaluation & set(map(normalized, row))
    ]

    def examples(rows):
        return Examples.from_columns(
            dict(zip(found.names, map(list, zip(*rows, strict=True)), strict=True))
        )

    return examples(rows[:-HELD_OUT]), examples(rows[-HELD_OUT:])
