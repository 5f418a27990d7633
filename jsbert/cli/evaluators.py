"""A task's name and its data to an evaluator, for `jsbert eval` and for the scores during `jsbert
train`."""

import pathlib
import sys
from collections.abc import Collection, Sequence
from typing import Any, get_args

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
    """The evaluator of a task.

    Args:
        task: what is measured.
        data: a file for `read_examples`; a BEIR folder for "retrieval"; for "reranking" jsonl, see
            `read_samples`.
        cross_encoder: whether the model is one.
        split: of a BEIR folder.
        similarity_fns: of a bi-encoder; by default the model's.
        reading: options of `read_examples`.
        **options: of the evaluator: batch_size, name, show_progress_bar.

    Raises:
        OSError, ValueError: for data that is not there, malformed or lacks what the task needs, and
            for tasks that are not for this kind of model.
    """
    if cross_encoder and (task in ("triplet", "retrieval") or similarity_fns):
        raise ValueError(
            f"a cross-encoder makes no vectors to compare: {task!r} and --similarity-fns need a "
            "bi-encoder"
        )
    if task == "retrieval":
        functions = {name: SIMILARITIES[name][0] for name in similarity_fns or ()}
        return evaluate.InformationRetrievalEvaluator(
            *evaluate.read_beir(data, split), score_functions=functions or None, **options
        )
    if task == "reranking":
        kind = (
            evaluate.CrossEncoderRerankingEvaluator
            if cross_encoder
            else evaluate.RerankingEvaluator
        )
        return kind(read_samples(data), **options)
    examples = read_told(data, **reading)
    num_texts = 3 if task == "triplet" else 2
    if len(examples.texts) != num_texts or (task != "triplet" and examples.labels is None):
        raise ValueError(
            f"{data}: the task {task!r} needs {num_texts} columns of texts"
            f"{'' if task == 'triplet' else ' and a label'}; found {len(examples.texts)} columns "
            "and "
            f"{'no' if examples.labels is None else 'a'} label: choose with --columns and --label"
        )
    if cross_encoder:
        pairs = list(zip(*examples.texts, strict=True))
        if task == "sts":
            return evaluate.CrossEncoderCorrelationEvaluator(pairs, examples.labels, **options)
        return evaluate.CrossEncoderClassificationEvaluator(pairs, examples.labels, **options)
    options["similarity_fn_names"] = similarity_fns
    if task == "triplet":
        return evaluate.TripletEvaluator(*examples.texts, **options)
    kind = (
        evaluate.EmbeddingSimilarityEvaluator
        if task == "sts"
        else evaluate.BinaryClassificationEvaluator
    )
    return kind(*examples.texts, examples.labels, **options)


def make_scorer(eval_data: Sequence[str], *, cross_encoder: bool, **options: Any) -> Any:
    """The evaluator of all of TASK:FILE, each under its file's name; None for none. The last one's
    score decides."""
    evaluators: list = []
    for entry in eval_data:
        task, path = parted(entry, get_args(Task), "task")
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
    """(kind, path) of "KIND:PATH", or of a path alone where there is a default.

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
    """The file's name up to its first dot, with a number behind it where that is taken.

    >>> unique_name("sts/dev.tsv.gz", ["dev"])
    'dev-2'
    """
    stem = pathlib.Path(path).name.partition(".")[0] or "data"
    return next(
        name
        for name in (stem, *(f"{stem}-{n}" for n in range(2, len(taken) + 3)))
        if name not in taken
    )


def read_told(path: str, **options: Any) -> Examples:
    """`read_examples`, with a line on stderr about rows that were left out."""
    examples = read_examples(path, **options)
    if examples.num_bad_rows:
        print(
            f"jsbert: warning: {path}: {examples.num_bad_rows} malformed rows left out",
            file=sys.stderr,
        )
    return examples


def read_samples(path: str) -> list[dict[str, Any]]:
    """The samples of a jsonl file for reranking, {"query": text, "positive": [texts], "negative":
    [texts]} a line.

    Raises:
        OSError, ValueError: for a file that is not there or a malformed line; file and line are
            named.
    """
    samples = []
    for number, row in read_objects(path):
        if not _is_sample(row):
            raise ValueError(
                f'{path}, line {number}: {row!r:.40} is no object with "query" (a text), '
                f'"positive" and '
                '"negative" (lists of texts)'
            )
        samples.append(row)
    if not samples:
        raise ValueError(f"{path} holds no samples")
    return samples


def _is_sample(row):
    lists = [row.get(name) for name in ("positive", "negative")]
    return isinstance(row.get("query"), str) and all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists
    )
