"""The bundled model's recipe, on tiny models and made-up data."""

import dataclasses
import gzip
import json
import random
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

import jsbert
from recipes import corpus, passages, pretrain, student
from tests import models

pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore:.*texts are longer than 32 tokens"),
]


DOCUMENT = "a long sentence of a document that is searched"
OTHER_DOCUMENT = "a sentence of a source that is left out"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return jsbert.SentenceTransformer(
        models.write_folder(tmp_path_factory.mktemp("teacher") / "model")
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of data in the form of the real data. The first sentence of the corpus is also in
    the STS benchmark."""
    folder = tmp_path_factory.mktemp("data")
    texts = [
        f"{text} {word}" for text, word in zip(models.sentences(90), models.WORDS * 4, strict=False)
    ]
    files = {
        "corpus/english-sentences.tsv.gz": [
            "source\tsentence",
            *(f"made\t{text}" for text in texts[:60]),
            f"made\t{DOCUMENT}.",
            f"ir_cisi\t{OTHER_DOCUMENT}",
        ],
        "nli/nli-triplets.tsv.gz": [
            "anchor\tpositive\tnegative",
            *("\t".join(texts[i : i + 3]) for i in range(20, 60)),
        ],
        "corpus/passages.tsv.gz": [
            "source\ttitle\tpassage",
            *(f"made\t{texts[i]}\t{texts[i + 1]} {texts[i + 2]}" for i in range(60, 88)),
        ],
        "paraphrase/flickr30k-exclude.tsv": ["caption_normalised", "a cat"],
        "retrieval/small/corpus.jsonl.gz": [
            json.dumps({"_id": "1", "title": "", "text": f"{DOCUMENT.title()}! And more."})
        ],
        "retrieval/small/queries.jsonl": [json.dumps({"_id": "1", "text": "which cat"})],
    }
    for name in ("snli-dev", "mnli-dev-matched"):
        rows = [f"neutral\t{texts[i]}\t{texts[i + 1]}" for i in range(60, 80)]
        files[f"nli/{name}.tsv.gz"] = ["label\tpremise\thypothesis", *rows]
    for part in ("train", "dev", "test"):
        rows = [f"{i % 6}\t{texts[80 + i % 9].upper()}!\tA {texts[i]}" for i in range(8)]
        files[f"sts/stsb-{part}.tsv"] = [
            "score\tsentence1\tsentence2",
            f"5\t{texts[0].upper()}!\tit was",
            *rows,
        ]
    for name, lines in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        content = ("\n".join(lines) + "\n").encode()
        file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def test_sentences_of_evaluation_sets_are_left_out_whatever_their_case_and_punctuation(data):
    first = corpus.read_examples(
        data / "corpus/english-sentences.tsv.gz", columns=["sentence"]
    ).texts[0][0]
    texts, counts = corpus.corpus_sentences(data)
    kept = {corpus.normalized(text) for text in texts}
    assert corpus.normalized(first) not in kept
    assert not kept & corpus.evaluation_sentences(data)
    assert not kept & {DOCUMENT, OTHER_DOCUMENT}
    assert counts["of evaluation sets"] >= 2
    assert len(kept) == len(texts) == counts["usable"]


def test_with_all_layers_and_pieces_the_student_is_the_teacher(teacher):
    texts = models.sentences(20)
    same = student.pruned(teacher, texts, (0, 1), teacher.tokenizer.largest_id + 1)
    assert np.abs(same.encode(texts) - teacher.encode(texts)).max() < 1e-6


def test_a_pruned_vocabulary_keeps_common_pieces_and_all_letters(teacher, tmp_path):
    texts = ["the cat sat", "the cat ran", "the dog sat"] * 5 + ["quickly"]
    small = student.pruned(teacher, texts, (1,), 84)
    assert small.config.encoder.num_hidden_layers == 1
    assert small.tokenizer.largest_id + 1 == small.config.encoder.vocab_size == 84
    pieces = small.tokenizer.backend.get_vocab()
    assert {"the", "cat", "sat", "[PAD]", "a", "##z"} <= set(pieces)
    assert "quickly" not in pieces
    assert pieces["[PAD]"] == 0
    words = teacher.params["encoder"]["embeddings"]["word"]["embedding"]
    old = teacher.tokenizer.backend.get_vocab()
    for piece, i in pieces.items():
        assert np.array_equal(
            small.params["encoder"]["embeddings"]["word"]["embedding"][i], words[old[piece]]
        )
    ids = small.tokenizer(["quickly", "the cat"]).ids
    assert pieces["[UNK]"] not in ids
    small.save_pretrained(tmp_path / "small")
    again = jsbert.SentenceTransformer(tmp_path / "small")
    assert np.array_equal(again.encode(texts), small.encode(texts))


def test_half_of_the_bytes_and_read_to_float32_exactly(teacher, tmp_path):
    teacher.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole, size = safetensors.numpy.load_file(file), file.stat().st_size
    student.halve(file)
    assert file.stat().st_size < 0.6 * size
    model = jsbert.SentenceTransformer(tmp_path)
    name = "embeddings.word_embeddings.weight"
    found = model.params["encoder"]["embeddings"]["word"]["embedding"]
    assert found.dtype == np.float32
    assert np.array_equal(found, whole[name].astype(np.float16).astype(np.float32))
    safetensors.numpy.save_file({"x": np.float32([1e6])}, file)
    with pytest.raises(ValueError, match="too large for float16"):
        student.halve(file)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Make the held-out part and the batches as small as the made-up data need."""
    monkeypatch.setattr(corpus, "HELD_OUT", 4)
    monkeypatch.setattr(student, "HELD_OUT", 20)
    for module, names in ((student, ("DISTIL", "ASSIST", "TUNE")), (pretrain, ("RECIPE",))):
        for name in names:
            recipe = dataclasses.replace(getattr(module, name), batch_size=8, log_steps=1)
            monkeypatch.setattr(module, name, recipe)


def test_the_recipe_makes_a_model_and_goes_on_where_it_stopped(
    teacher, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(student, "LAYERS", (1,))
    monkeypatch.setattr(student, "VOCABULARY", 90)
    teacher.save_pretrained(tmp_path / "teacher")
    work = tmp_path / "work"
    argv = (
        f"--data {data} --work {work} --teacher {tmp_path / 'teacher'} --sentences 32 "
        "--tuning-sentences 16 --passages 8"
    ).split()
    results = student.main([*argv, "--out", str(tmp_path / "out")])
    assert results["sentences"]["passages"] == 8
    assert (results["sentences"]["to distil"], results["sentences"]["to tune"]) == (48, 16)
    assert 0 < results["scores"]["held-out passages by their titles"]["model"] <= 1
    agreement = results["scores"]["agreement with the teacher"]
    assert set(agreement) == {"start", "distilled", "assistant", "tuned", "model", "teacher"}
    assert agreement["teacher"] > 0.999 > agreement["distilled"]
    parts = [
        jsbert.SentenceTransformer(work / name).params
        for name in ("start", "distilled", "tuned", "model")
    ]
    for start, first, second, mean in zip(*map(jax.tree.leaves, parts), strict=True):
        assert np.abs(start - first).max() > 0
        assert np.abs((first + second) / 2 - mean).max() < 1e-3 * np.abs(mean).max()
    assert results["bytes"] == sum(
        file.stat().st_size for file in (work / "model").rglob("*") if file.is_file()
    )
    vectors = jsbert.SentenceTransformer(work / "model").encode(["the cat sat"])
    steps = [
        json.loads(line)["step"]
        for line in (work / "distilled/metrics.jsonl").read_text().splitlines()
    ]
    assert max(steps) == 6
    again = student.main([*argv, "--out", str(tmp_path / "out")])
    assert again["sha256"] == results["sha256"]
    assert np.array_equal(
        jsbert.SentenceTransformer(work / "model").encode(["the cat sat"]), vectors
    )


def test_a_raw_bert_learns_words_from_nothing(data, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "SIZES", {name: models.SIZES[name] for name in pretrain.SIZES})
    monkeypatch.setattr(pretrain, "VOCABULARY", 60)
    argv = f"--data {data} --work {tmp_path / 'work'} --out {tmp_path} --sentences 40".split()
    results = pretrain.main(argv)
    model = jsbert.SentenceTransformer(tmp_path / "work/model")
    assert results["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(model.params))
    assert model.config.pooling == ("mean",)
    assert model.encode(["the cat"]).shape == (1, models.SIZES["hidden_size"])
    entries = [
        json.loads(line)
        for line in (tmp_path / "work/trained/metrics.jsonl").read_text().splitlines()
    ]
    assert len(entries) == 5
    assert all(np.isfinite(entry["loss"]) for entry in entries)


def test_word_pieces_are_learned_from_the_texts():
    words = ["banana", "bandana", "cabana"]
    texts = [" ".join(random.Random(i).choices(words, k=5)) for i in range(50)]
    pieces = pretrain.word_pieces(texts, 40)
    assert pieces[:5] == pretrain.SPECIAL
    assert "banana" in pieces


def paragraph(word):
    return " ".join(f"{word}{i}" for i in range(50))


def test_passages_of_textbooks_questions_dictionaries_and_manuals(tmp_path, data):
    raw = tmp_path / "raw"
    book = f"""<document xmlns="http://cnx.rice.edu/cnxml"><title>Heat</title><content>
        <section><title>Work &amp; heat</title><para>{paragraph("a")}</para><para>{paragraph("b")}</para>
        </section><para>{DOCUMENT.title()}! {paragraph("c")}</para>
        </content>
        <glossary><definition><term>heat</term><meaning>energy that moves from hot to cold</meaning>
        </definition></glossary></document>"""
    answers = f"""<Document><QAPairs><QAPair><Question>What is (are) a cold?</Question>
        <Answer>{paragraph("answer")}</Answer></QAPair><QAPair><Question>Why?</Question><Answer></Answer>
        </QAPair></QAPairs></Document>"""
    page = f"""<html><head><title>No</title></head><body><h1>1.2 Sorting</h1><p>{paragraph("page")}</p>
        <pre>code</pre><h2>Of rows</h2><p>{DOCUMENT}. {paragraph("other")}</p></body></html>"""
    for name, content in {
        "openstax/osbooks-physics/modules/m1/index.cnxml": book,
        "medquad/1/1.xml": answers,
        "debian/usr/share/doc/tool/html/index.html": page,
        "debian/usr/share/doc/tool/html/index.de.html": page.replace("page", "seite"),
    }.items():
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_text(content, encoding="utf8")
    dictionary = raw / "debian/usr/share/dictd/gcide.dict.dz"
    dictionary.parent.mkdir(parents=True)
    entry = "Calorie \\Cal*o*rie\\, n. (Physics)\n   " + paragraph("heat").replace(" ", "\n   ")
    dictionary.write_bytes(gzip.compress(f"Caloric, a.\n   Short.\n\n{entry}".encode()))
    folder = tmp_path / "data"
    for part in ("sts", "paraphrase", "retrieval"):
        shutil.copytree(data / part, folder / part)
    (folder / "corpus").mkdir()
    passages.main(["--raw", str(raw), "--data", str(folder)])
    rows = corpus.read_examples(
        folder / "corpus/passages.tsv.gz", columns=["source", "title", "passage"]
    )
    assert sorted(zip(*rows.texts, strict=True)) == [
        ("gcide", "Calorie", paragraph("heat")),
        ("manual/tool", "Sorting", paragraph("page")),
        ("medquad", "What is (are) a cold?", paragraph("answer")),
        ("openstax/physics", "Work & heat", f"{paragraph('a')} {paragraph('b')}"),
        ("openstax/physics", "heat", "energy that moves from hot to cold"),
    ]
