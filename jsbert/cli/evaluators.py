"""Make evaluators from tasks' names and data, for `jsbert eval` and for the scores during `jsbert
train`."""

import pathlib
import sys
from collections.abc import Collection, Sequence
from typing import Any, cast, get_args

from jsbert import evaluate
from jsbert.cli.options import Task
from jsbert.data import Examples, read_examples
from jsbert.lines import read_objects
from jsbert.similarity import SIMILARITIES


def make_evaluator(
    task: Task,
    data: str,
    *,
    cross_encoder: bool,
    split: str = "test",
    similarity_fns: Sequence[str] | None = None,
    reading: dict[str, Any],
    **options: Any,
) -> evaluate.Evaluator:
    """Return the evaluator of a task.

    Args:
        task: what the evaluator measures.
        data: a file for `read_examples`; for "retrieval" a BEIR folder; for "reranking" a jsonl
            file, see `read_samples`.
        cross_encoder: whether the model is a cross-encoder.
        split: the split of a BEIR folder.
        similarity_fns: the similarities by which a bi-encoder's vectors are compared; by default
            the model's.
        reading: options of `read_examples`.
        **options: options of the evaluator: batch_size, name, show_progress_bar.

    Raises:
        OSError, ValueError: if the data does not exist, is malformed or lacks what the task needs,
            or if the task is not for this kind of model.
    """
    if cross_encoder and (task in ("triplet", "retrieval") or similarity_fns):
        raise ValueError(
            f"a cross-encoder makes no vectors to compare: {task!r} and --similarity-fns "
            "need a bi-encoder"
        )
    if task == "retrieval":
        functions = {name: SIMILARITIES[name][0] for name in similarity_fns or ()}
        return evaluate.InformationRetrievalEvaluator(
            *evaluate.read_beir(data, split), score_functions=functions or None, **options
        )
    if task == "reranking":
        samples = read_samples(data)
        if cross_encoder:
            return evaluate.CrossEncoderRerankingEvaluator(samples, **options)
        return evaluate.RerankingEvaluator(samples, **options)
    # The other tasks take columns of texts: three for "triplet", else two and a label.
    examples = read_examples_warning(data, **reading)
    num_texts = 3 if task == "triplet" else 2
    if len(examples.texts) != num_texts or (task != "triplet" and examples.labels is None):
        raise ValueError(
            f"{data}: the task {task!r} needs {num_texts} columns of texts"
            f"{'' if task == 'triplet' else ' and a label'}; found {len(examples.texts)} columns "
            f"and {'no' if examples.labels is None else 'a'} label: choose with --columns and "
            "--label"
        )
    if cross_encoder:
        pairs = list(zip(*examples.texts, strict=True))
        if task == "sts":
            return evaluate.CrossEncoderCorrelationEvaluator(pairs, examples.labels, **options)
        return evaluate.CrossEncoderClassificationEvaluator(pairs, examples.labels, **options)
    options["similarity_fn_names"] = similarity_fns
    if task == "triplet":
        anchors, positives, negatives = examples.texts
        return evaluate.TripletEvaluator(anchors, positives, negatives, **options)
    first, second = examples.texts
    if task == "sts":
        return evaluate.EmbeddingSimilarityEvaluator(first, second, examples.labels, **options)
    return evaluate.BinaryClassificationEvaluator(first, second, examples.labels, **options)


def make_scorer(
    eval_data: Sequence[str], *, cross_encoder: bool, **options: Any
) -> evaluate.Evaluator | None:
    """Return one evaluator for all entries TASK:FILE, each named after its file; None if there are
    no entries. The last entry's score is the score that counts."""
    evaluators: list[evaluate.Evaluator] = []
    for entry in eval_data:
        kind, path = parted(entry, get_args(Task), "task")
        task = cast(Task, kind)  # `parted` returns only kinds from its list
        name = unique_name(path, [one.name for one in evaluators])
        evaluators.append(
            make_evaluator(
                task, path, cross_encoder=cross_encoder, reading={}, name=name, **options
            )
        )
    return (
        evaluate.SequentialEvaluator(evaluators)
        if len(evaluators) > 1
        else next(iter(evaluators), None)
    )


def parted(
    entry: str, kinds: Sequence[str], what: str, default: str | None = None
) -> tuple[str, str]:
    """Split "KIND:PATH" into (kind, path). A path alone gets the default kind, if there is one.

    Raises:
        ValueError: if the kind is unknown, or missing without a default.

    >>> parted("sts:dev.tsv", ["sts", "binary"], "task")
    ('sts', 'dev.tsv')
    """
    kind, colon, path = entry.partition(":")
    if colon and kind in kinds:
        return kind, path
    if colon and not pathlib.Path(entry).exists():
        raise ValueError(
            f"{entry!r}: no such file, and {kind!r} is no {what}; there are {', '.join(kinds)}"
        )
    if default is None:
        raise ValueError(
            f"{entry!r} names no {what}; write {what.upper()}:FILE, with one of {', '.join(kinds)}"
        )
    return default, entry


def unique_name(path: str, taken: Collection[str]) -> str:
    """Return the file's name up to the first dot, followed by a number if the name is taken.

    >>> unique_name("sts/dev.tsv.gz", ["dev"])
    'dev-2'
    """
    stem = pathlib.Path(path).name.partition(".")[0] or "data"
    return next(
        name
        for name in (stem, *(f"{stem}-{n}" for n in range(2, len(taken) + 3)))
        if name not in taken
    )


def read_examples_warning(path: str, **options: Any) -> Examples:
    """Call `read_examples`, and print a line on stderr if rows were left out."""
    examples = read_examples(path, **options)
    if examples.num_bad_rows:
        print(
            f"jsbert: warning: {path}: {examples.num_bad_rows} malformed rows left out",
            file=sys.stderr,
        )
    return examples


def read_samples(path: str) -> list[dict[str, Any]]:
    """Read the samples of a jsonl file for reranking. Each line is an object {"query": text,
    "positive": [texts], "negative": [texts]}.

    Raises:
        OSError, ValueError: if the file does not exist or a line is malformed; the message names
            the file and the line.
    """
    samples = []
    for number, row in read_objects(path):
        if not _is_sample(row):
            raise ValueError(
                f'{path}, line {number}: {row!r:.40} is no object with "query" (a text), '
                '"positive" and "negative" (lists of texts)'
            )
        samples.append(row)
    if not samples:
        raise ValueError(f"{path} holds no samples")
    return samples


def _is_sample(row: dict[str, Any]) -> bool:
    lists = [row.get(name) for name in ("positive", "negative")]
    return isinstance(row.get("query"), str) and all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists
    )
