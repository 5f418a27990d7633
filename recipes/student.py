"""The bundled model, made from its teacher in five stages. Layers and vocabulary are pruned. The
student is distilled. An assistant (the teacher itself) is tuned on NLI triplets. The student is
tuned with the assistant. The model is the mean of the distilled and the tuned student.

python -m recipes.student --data DATA --work WORK

DATA holds corpus/english-sentences.tsv.gz, corpus/passages.tsv.gz (`recipes.passages` writes it),
nli/nli-triplets.tsv.gz, nli/{snli-dev,mnli-dev-matched}.tsv.gz, paraphrase/flickr30k-exclude.tsv,
sts/stsb-{train,dev,test}.tsv and retrieval/*/. All sentences of paraphrase/, sts/ and retrieval/
are kept out of training. Every stage leaves its result in WORK. A stage whose result is there is
skipped. If the command was stopped within a stage, the same command continues that stage. The model
is WORK/model. The STS benchmark's test set is scored once, at the end.
"""

import argparse
import dataclasses
import hashlib
import json
import pathlib
import re
import tempfile
from typing import Any

import jax
import numpy as np
import safetensors.numpy
import tokenizers
from tokenizers import processors
from tqdm.auto import tqdm

from benchmarks import sts
from benchmarks.lib import report
from jsbert import SentenceTransformer, losses
from jsbert.checkpoint.tensors import write_tensors
from jsbert.data import Examples, read_examples
from jsbert.evaluate import (
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    TripletEvaluator,
)
from jsbert.tokenizer import Tokenizer
from jsbert.train import Recipe, Source, fit, objective, of_embeddings
from recipes.corpus import corpus_sentences, nli_triplets, passages

STAGES = ("start", "distilled", "assistant", "tuned", "model")
LAYERS = (0, 2, 5)
"""The layers of the teacher with which the student begins."""

VOCABULARY = 10_500
HELD_OUT = 1_000
"""The number of pairs of each NLI development set on which student and teacher are compared."""

SIMILARITY_WEIGHT = 10.0
DISTIL = Recipe(
    batch_size=128,
    learning_rate=4e-4,
    warmup=0.05,
    dropout=False,
    eval_steps=500,
    checkpoint_steps=250,
)
ASSIST = Recipe(batch_size=64, learning_rate=5e-5, checkpoint_steps=100)
TUNE = Recipe(
    batch_size=128,
    learning_rate=2e-4,
    warmup=0.05,
    dropout=False,
    checkpoint_steps=250,
)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the stages that are missing, and return what is written as JSON."""
    options = _options(argv)
    values = report.circumstances()
    report.print_circumstances(values)
    options.work.mkdir(parents=True, exist_ok=True)
    teacher = SentenceTransformer(options.teacher)
    distil, assist, tune = (
        dataclasses.replace(recipe, dtype=options.dtype) for recipe in (DISTIL, ASSIST, TUNE)
    )
    texts, counts = corpus_sentences(options.data)
    few, more = texts[: options.sentences], texts[options.sentences :][: options.tuning_sentences]
    pairs = passages(options.data)
    finding, pairs = _finding(pairs[:HELD_OUT]), pairs[HELD_OUT:][: options.passages]
    few += dict.fromkeys(text for number, pair in enumerate(pairs) for text in _both(pair, number))
    few = [few[i] for i in np.random.default_rng(0).permutation(len(few))]
    start = options.work / "start"
    if not start.is_dir():
        pruned(teacher, few, LAYERS, VOCABULARY).save_pretrained(start)
    agreement = _agreement(teacher, options.data)
    vectors = _taught(options.teacher, few, options.work / "teacher-vectors", options.dtype)
    distilled = fit(
        SentenceTransformer(start),
        Source(_labelled(few, vectors), distillation, "distil"),
        options.work / "distilled",
        distil,
        evaluator=agreement,
        show_progress_bar=True,
    )
    triplets, held_out = nli_triplets(options.data)
    ranking = Source(triplets, objective("multiple-negatives-ranking"), "triplets")
    fit(teacher, ranking, options.work / "assistant", assist, show_progress_bar=True)
    vectors = _taught(
        options.work / "assistant", more, options.work / "assistant-vectors", options.dtype
    )
    tuned = fit(
        distilled,
        [ranking, Source(_labelled(more, vectors), distillation, "distil")],
        options.work / "tuned",
        tune,
        show_progress_bar=True,
    )
    folder = options.work / "model"
    halfway(distilled, tuned).save_pretrained(folder)
    halve(folder / "model.safetensors")
    counts |= {
        "passages": len(pairs),
        "to distil": len(few),
        "to tune": len(more),
        "triplets": len(triplets),
    }
    choices = {
        "agreement with the teacher": agreement,
        "held-out triplets": TripletEvaluator(*held_out.texts),
        "held-out passages by their titles": finding,
    }
    stages = {name: SentenceTransformer(options.work / name) for name in STAGES} | {
        "teacher": teacher
    }
    scores = {
        kind: {name: _score(judge, model) for name, model in stages.items()}
        for kind, judge in choices.items()
    }
    results = {"sentences": counts, "scores": scores} | _facts(folder)
    results["stsb_test_spearman"] = sts.evaluator(options.data, "STSb")(stages["model"])[
        "spearman_cosine"
    ]
    print(json.dumps(results, indent=1))
    print("written:", report.write_json("student", values | {"results": results}, options.out))
    return results


def pruned(
    teacher: SentenceTransformer, texts: list[str], layers: tuple[int, ...], vocabulary: int
) -> SentenceTransformer:
    """Return the teacher with these of its layers, and the word pieces that are most common in
    `texts`."""
    parts = teacher.parts
    kept = _most_common_pieces(teacher.tokenizer, texts, vocabulary)
    encoder = parts.params["encoder"]
    words = np.asarray(encoder["embeddings"]["word"]["embedding"])[kept]
    params = parts.params | {
        "encoder": encoder
        | {"embeddings": encoder["embeddings"] | {"word": {"embedding": words}}}
        | {"layers": {new: encoder["layers"][old] for new, old in enumerate(layers)}}
    }
    config = dataclasses.replace(
        parts.config.encoder, num_hidden_layers=len(layers), vocab_size=len(kept)
    )
    return SentenceTransformer.from_parts(
        dataclasses.replace(
            parts,
            config=dataclasses.replace(parts.config, encoder=config),
            params=params,
            tokenizer=_with_pieces(parts.tokenizer, kept),
        )
    )


def distillation(config: Any, *, name: str) -> Any:
    """Return the objective: the squared distance to the teacher's vector, and the distance of the
    batch's cosines to the teacher's cosines."""

    def loss(embeddings, labels):
        distance = embeddings.shape[-1] * losses.embedding_mse(embeddings, labels)
        return distance + SIMILARITY_WEIGHT * losses.similarity_distillation(embeddings, labels)

    return of_embeddings(
        config,
        loss,
        name=name,
        kind="distillation",
        num_texts=(1, 1),
        labels="vector",
        in_batch=True,
    )


def halfway(first: SentenceTransformer, second: SentenceTransformer) -> SentenceTransformer:
    """Return the model whose params are the means of two models' params. The second model was tuned
    from the first. The mean keeps most of what each model has learned. Wortsman et al. 2022,
    https://arxiv.org/abs/2109.01903."""
    params = jax.tree.map(lambda one, other: (one + other) / 2, first.params, second.params)
    return SentenceTransformer.from_parts(dataclasses.replace(second.parts, params=params))


def halve(file: pathlib.Path) -> None:
    """Rewrite a safetensors file in float16."""
    with np.errstate(over="ignore"):  # An overflow is an error below.
        tensors = {
            name: tensor.astype(np.float16)
            for name, tensor in safetensors.numpy.load_file(file).items()
        }
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise ValueError(f"{file}: a value is too large for float16")
    write_tensors(file, tensors)


def _most_common_pieces(tokenizer, texts, vocabulary):
    """Return ids of pieces, special tokens first: all pieces of one ASCII character, so that no
    English word is unknown, and the most common other pieces."""
    counts = np.zeros(tokenizer.largest_id + 1, np.int64)
    for start in range(0, len(texts), 10_000):
        counts += np.bincount(tokenizer(texts[start : start + 10_000]).ids, minlength=len(counts))
    special = sorted(tokenizer.special_ids.values())
    letters = [
        i
        for piece, i in tokenizer.backend.get_vocab().items()
        if re.fullmatch(r"(##)?[!-~]", piece)
    ]
    counts[letters] += counts.max()
    counts[special] = -1
    return [
        *special,
        *sorted(np.argsort(-counts, kind="stable")[: vocabulary - len(special)].tolist()),
    ]


def _with_pieces(tokenizer, kept):
    """Return the tokenizer with only the pieces of these ids, with new ids in this order."""
    new = {old: number for number, old in enumerate(kept)}
    values = json.loads(tokenizer.backend.to_str())
    pieces = {i: piece for piece, i in values["model"]["vocab"].items()}
    values["model"]["vocab"] = {pieces[old]: number for old, number in new.items()}
    values["added_tokens"] = [token | {"id": new[token["id"]]} for token in values["added_tokens"]]
    backend = tokenizers.Tokenizer.from_str(json.dumps(values))
    backend.no_truncation()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    settings = json.loads(tokenizer.files["tokenizer_config.json"])
    settings = {
        key: settings[key] for key in ("tokenizer_class", "do_lower_case", "model_max_length")
    }
    settings |= {f"{kind}_token": f"[{kind.upper()}]" for kind in tokenizer.special_ids}
    with tempfile.TemporaryDirectory() as folder:
        backend.save(str(pathlib.Path(folder) / "tokenizer.json"))
        (pathlib.Path(folder) / "tokenizer_config.json").write_text(
            json.dumps(settings), encoding="utf8"
        )
        return Tokenizer.from_folder(pathlib.Path(folder), max_length=tokenizer.max_length)


def _taught(teacher, texts, folder, dtype, chunk=8192):
    """Return a teacher's vectors, (N, D) float32. They are kept on disk in chunks of float16; the
    rounding error, that of bfloat16 included, is a thousandth of a student's error."""
    teacher = SentenceTransformer(teacher, dtype=dtype)
    folder.mkdir(exist_ok=True)
    found = []
    for start in tqdm(range(0, len(texts), chunk), desc=folder.name, unit="chunk"):
        rows = texts[start : start + chunk]
        file = folder / f"{start:07d}-{len(rows)}.npy"
        if not file.is_file():
            np.save(
                file.with_suffix(".part.npy"),
                teacher.encode(rows, on_truncate="ignore").astype(np.float16),
            )
            file.with_suffix(".part.npy").replace(file)
        found.append(np.load(file))
    return np.concatenate(found).astype(np.float32)


def _labelled(texts, vectors):
    return Examples.from_columns({"sentence": texts, "label": vectors})


def _agreement(teacher, data):
    """Return the evaluator of how well a student orders held-out NLI pairs as its teacher does."""
    firsts, seconds = [], []
    for name in ("snli-dev", "mnli-dev-matched"):
        first, second = read_examples(data / f"nli/{name}.tsv.gz").texts
        firsts += first[:HELD_OUT]
        seconds += second[:HELD_OUT]
    scores = np.sum(teacher.encode(firsts) * teacher.encode(seconds), axis=1)
    return EmbeddingSimilarityEvaluator(firsts, seconds, scores.tolist(), name="")


def _both(pair, number):
    """Return the texts of a (title, passage): the two apart, or, of every second pair, as a
    document with its title, as search reads it."""
    title, passage = pair
    texts = [title, passage] if number % 2 or not title else [title, f"{title} {passage}"]
    return [text for text in texts if text]


def _finding(pairs):
    """Return the evaluator of how well passages are found by their titles. Passages with the same
    title are all relevant."""
    corpus = {str(number): passage for number, (_, passage) in enumerate(pairs) if passage}
    relevant: dict[str, set[str]] = {}
    for number, (title, _) in enumerate(pairs):
        if title and str(number) in corpus:
            relevant.setdefault(title, set()).add(str(number))
    return InformationRetrievalEvaluator(
        {title: title for title in relevant}, corpus, relevant, name=""
    )


def _score(evaluator, model):
    return evaluator(model)[evaluator.primary_metric]


def _facts(folder):
    files = [file for file in folder.rglob("*") if file.is_file()]
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    return {
        "parameters": sum(tensor.size for tensor in tensors.values()),
        "bytes": sum(file.stat().st_size for file in files),
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
    }


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
        "--teacher", default="all-MiniLM-L6-v2", help="a folder or name (all-MiniLM-L6-v2)"
    )
    parser.add_argument(
        "--sentences", type=int, default=200_000, help="sentences to distil on (200,000)"
    )
    parser.add_argument(
        "--passages", type=int, default=60_000, help="titles and passages to distil on (60,000)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="dtype of the products (float32); bfloat16 is faster where the processor has it",
    )
    parser.add_argument(
        "--tuning-sentences", type=int, default=120_000, help="further ones to tune on (120,000)"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
