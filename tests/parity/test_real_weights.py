"""The bundled models against sentence-transformers on real and nasty inputs.

The environment variable JSBERT_REAL_MODELS adds folders of other models, with ":" between them, such
as that of all-mpnet-base-v2.
"""

import os

import numpy as np
import pytest
import sentence_transformers

import jsbert
from benchmarks.lib.sentences import docstring_sentences, shuffled
from tests import test_bundled
from tests.parity import reference

NASTY = [
    "",
    " ",
    "\t\n \r\n",
    "\u00a0\u2003\u200b",
    "\x00\x01\x07\x1b[0m",
    "a\x00b",
    "🙂🙃👩‍👩‍👧‍👦🏳️‍🌈",
    "I ❤️ 🍕!!!",
    "مرحبا بالعالم",
    "שלום עולם, how are you?",
    "\u202eright-to-left override\u202c",
    "北京是中国的首都。",
    "こんにちは世界",
    "Ça va? Über naïve façade Ångström",
    "e\u0301 versus \u00e9",
    "ﬁnancial ﬂow ½ ²",
    "[CLS] [SEP] [PAD] [MASK] [UNK]",
    "[SEP]" * 40,
    "UPPER lower MiXeD",
    "word " * 10_000,
    "x" * 5_000,
    "." * 400,
    "http://example.com/a?b=c&d=%20#e",
    "SELECT * FROM t WHERE a='b'; --",
    "3.14159 1,000,000 -7e-12 0xFF",
    "'quoted' \"twice\" `code` <tag/>",
    "\ufeffbyte order mark",
    "\ud7ff\ue000\uffff",
    "zero\u200dwidth\u200cjoiners",
    "a" + "\u0301" * 300,
]


@pytest.fixture(
    scope="module",
    params=[
        "jsbert-mini-en",
        pytest.param("all-MiniLM-L6-v2", marks=pytest.mark.weights),
        *filter(None, os.environ.get("JSBERT_REAL_MODELS", "").split(os.pathsep)),
    ],
)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def theirs(name):
    return sentence_transformers.SentenceTransformer(
        str(jsbert.checkpoint.find_folder(name)), device="cpu"
    )


@pytest.fixture(scope="module")
def texts():
    real = shuffled(docstring_sentences(3000), seed=1)
    documents = [" ".join(real[i : i + 25]) for i in range(300, 700, 25)]
    return [*NASTY, *real[:280], *documents]


@pytest.fixture(scope="module")
def vectors(theirs, texts):
    assert next(theirs.parameters()).dtype.itemsize == 4  # float16 in the file, float32 when opened
    return theirs.encode(texts)


def test_vectors_are_the_same(name, theirs, texts, vectors):
    assert len(texts) >= 300
    model = jsbert.SentenceTransformer(name)
    limit = theirs.max_seq_length
    with pytest.warns(UserWarning, match=f"texts are longer than {limit} tokens"):
        ours = model.encode(texts)
    assert reference.largest_difference(ours, vectors) <= 1e-5
    # One by one, and spread over devices.
    assert (
        np.abs(
            np.stack([model.encode(text, on_truncate="ignore") for text in texts[:30:3]])
            - ours[:30:3]
        ).max()
        <= 1e-6
    )
    wide = jsbert.SentenceTransformer(name, device=["cpu:0", "cpu:1", "cpu:2"])
    assert np.abs(wide.encode(texts[:60], on_truncate="ignore") - ours[:60]).max() <= 1e-6


def test_bfloat16_vectors_point_the_same_way(name, texts, vectors):
    half = jsbert.SentenceTransformer(name, dtype="bfloat16").encode(texts, on_truncate="ignore")
    assert (half * vectors).sum(axis=1).min() > 0.999


def test_lone_surrogates_are_refused(name):
    with pytest.raises(ValueError, match="text 1 is no valid Unicode"):
        jsbert.SentenceTransformer(name).encode(["fine", "\udfff"])


def test_saved_it_opens_there_with_the_same_vectors(name, theirs, tmp_path, texts, vectors):
    jsbert.SentenceTransformer(name).save_pretrained(tmp_path / "model")
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert again.max_seq_length == theirs.max_seq_length
    assert reference.largest_difference(again.encode(texts[:60]), vectors[:60]) <= 1e-6


def test_mining_finds_the_same_paraphrases(name, theirs):
    from sentence_transformers import util

    sentences = shuffled(docstring_sentences(3000), seed=2)[:120]
    wanted = util.paraphrase_mining(theirs, sentences)
    ours = jsbert.util.paraphrase_mining(jsbert.SentenceTransformer(name), sentences)
    assert [pair[1:] for pair in ours[:50]] == [pair[1:] for pair in wanted[:50]]
    assert [pair[0] for pair in ours] == pytest.approx([pair[0] for pair in wanted], abs=1e-5)


def test_the_golden_vectors_are_still_those_of_torch():
    assert np.abs(test_bundled.by_torch() - np.load(test_bundled.GOLDEN)["vectors"]).max() < 1e-6
