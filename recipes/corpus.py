"""Sentences for training, without the sentences of test sets."""

import gzip
import json
import pathlib
import re

import numpy as np

from jsbert.data import Examples, read_examples

WORDS = range(2, 49)
"""The numbers of words that a sentence may have, counted by spaces."""

OF_EVALUATION_SETS = ("ir_cisi", "ir_cranfield")
"""The sources of the corpus that are documents of the sets on which search is evaluated."""

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


def retrieval_sentences(data: pathlib.Path) -> set[str]:
    """Return, normalised, the sentences of 6 words and more of the documents and queries on which
    search is evaluated."""
    found: set[str] = set()
    for file in [
        *data.glob("retrieval/*/corpus.jsonl.gz"),
        *data.glob("retrieval/*/queries.jsonl"),
    ]:
        with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
            for line in lines:
                row = json.loads(line)
                found.update(long_sentences(row.get("title", "")), long_sentences(row["text"]))
    return found


def long_sentences(text: str) -> list[str]:
    """Return the sentences of 6 words and more, normalised."""
    parts = map(normalized, re.split(r"[.?!]\s", text))
    return [part for part in parts if len(part.split()) >= 6]


def corpus_sentences(data: pathlib.Path) -> tuple[list[str], dict[str, int]]:
    """Return the sentences of corpus/ and of the NLI triplets, each once, shuffled; and counts.

    Sentences of evaluation sets, and sentences with too few or too many words, are left out.
    """
    file = data / "corpus/english-sentences.tsv.gz"
    sources, corpus = read_examples(file, columns=["source", "sentence"]).texts
    corpus = [
        text
        for source, text in zip(sources, corpus, strict=True)
        if source not in OF_EVALUATION_SETS
    ]
    distinct: dict[str, str] = {}
    for column in (corpus, *nli_triplets(data)[0].texts):
        for text in column:
            distinct.setdefault(normalized(text), text)
    evaluation = evaluation_sentences(data) | retrieval_sentences(data)
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


def passages(data: pathlib.Path) -> list[tuple[str, str]]:
    """Return (title, passage) of corpus/passages.tsv.gz, shuffled; see `recipes.passages`."""
    titles, texts = read_examples(
        data / "corpus/passages.tsv.gz", columns=["title", "passage"]
    ).texts
    return [(titles[i], texts[i]) for i in np.random.default_rng(0).permutation(len(titles))]


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
