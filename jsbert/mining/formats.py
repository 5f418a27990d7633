"""Write mined negatives as the rows of a data set, and show statistics of their scores."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Mined(NamedTuple):
    """The negatives of Q queries, and P pairs of a query and a positive. The pairs of a query are
    neighbours."""

    queries: Sequence[str]
    corpus: Sequence[str]
    owners: Int[np.ndarray, " pairs"]  # into queries, ascending
    positives: Int[np.ndarray, " pairs"]  # into the corpus
    positive_scores: Float[np.ndarray, " pairs"]
    negatives: Int[np.ndarray, "queries num_negatives"]  # into the corpus
    negative_scores: Float[np.ndarray, "queries num_negatives"]  # -inf where there is none


def triplets(mined: Mined, anchor: str, positive: str, output_scores: bool) -> dict[str, list]:
    """Columns anchor, positive, negative: one row for each negative of each pair. With
    `output_scores` a column `scores` has [the positive's score, the negative's score]."""
    scores = mined.negative_scores[mined.owners]
    pairs, places = np.nonzero(scores > -np.inf)
    columns = {
        **_pairs(mined, pairs, anchor, positive),
        "negative": _texts(mined.corpus, mined.negatives[mined.owners[pairs], places]),
    }
    if output_scores:
        columns["scores"] = np.stack(
            [mined.positive_scores[pairs], scores[pairs, places]], axis=1
        ).tolist()
    return columns


def n_tuples(mined: Mined, anchor: str, positive: str, output_scores: bool) -> dict[str, list]:
    """Columns anchor, positive, negative_1, negative_2, ...: one row for each pair that has all
    negatives. With `output_scores` a column `scores` has the scores of positive and negatives."""
    scores = mined.negative_scores[mined.owners]
    pairs = np.flatnonzero((scores > -np.inf).all(axis=1))
    negatives = mined.negatives[mined.owners[pairs]]
    columns = _pairs(mined, pairs, anchor, positive)
    for number in range(negatives.shape[1]):
        columns[f"negative_{number + 1}"] = _texts(mined.corpus, negatives[:, number])
    if output_scores:
        columns["scores"] = np.concatenate(
            [mined.positive_scores[pairs][:, None], scores[pairs]], axis=1
        ).tolist()
    return columns


def labeled_pairs(mined: Mined, anchor: str, positive: str, output_scores: bool) -> dict[str, list]:
    """Columns anchor, document and label, or score in place of label with `output_scores`: for each
    query its positives, then its negatives. The column of documents has the name `positive`."""
    owners, places = np.nonzero(mined.negative_scores > -np.inf)
    queries = np.concatenate([mined.owners, owners])
    order = np.argsort(queries, kind="stable")
    documents = np.concatenate([mined.positives, mined.negatives[owners, places]])
    scores = np.concatenate([mined.positive_scores, mined.negative_scores[owners, places]])
    labels = np.repeat([1, 0], [len(mined.owners), len(owners)])
    return {
        anchor: _texts(mined.queries, queries[order]),
        positive: _texts(mined.corpus, documents[order]),
        **(
            {"score": scores[order].tolist()}
            if output_scores
            else {"label": labels[order].tolist()}
        ),
    }


def labeled_lists(mined: Mined, anchor: str, positive: str, output_scores: bool) -> dict[str, list]:
    """Columns anchor, documents and labels, or scores in place of labels with `output_scores`: one
    row for each pair that has negatives, the positive first. The column of documents has the name
    `positive`."""
    found = (mined.negative_scores > -np.inf)[mined.owners]
    pairs = np.flatnonzero(found.any(axis=1))
    columns: dict[str, list] = {
        anchor: [],
        positive: [],
        "scores" if output_scores else "labels": [],
    }
    for pair in pairs:
        owner = mined.owners[pair]
        negatives = mined.negatives[owner][found[pair]]
        scores = [mined.positive_scores[pair], *mined.negative_scores[owner][found[pair]]]
        columns[anchor].append(mined.queries[owner])
        columns[positive].append(_texts(mined.corpus, [mined.positives[pair], *negatives]))
        if output_scores:
            columns["scores"].append([float(score) for score in scores])
        else:
            columns["labels"].append([1] + [0] * len(negatives))
    return columns


FORMATS = {
    "triplet": triplets,
    "n-tuple": n_tuples,
    "labeled-pair": labeled_pairs,
    "labeled-list": labeled_lists,
}


def statistics(mined: Mined, skipped: dict[str, tuple[Any, int, float]]) -> str:
    """A table of the scores of positives and negatives and of their differences; then the
    candidates that each limit removed, and the number of pairs with too few negatives.

    `skipped` is {limit: (value, number removed, share removed)}, as `leave_out` returns it.
    """
    negatives = mined.negative_scores[mined.owners]
    found = negatives > -np.inf
    differences = (mined.positive_scores[:, None] - negatives)[found]
    columns = [mined.positive_scores, negatives[found], differences]
    lines = [f"{'Metric':<6} {'Positive':>14} {'Negative':>14} {'Difference':>14}"]
    lines += [f"{'Count':<6} {len(columns[0]):>14,} {len(columns[1]):>14,}"]
    for name, of in _METRICS.items():
        lines.append(
            f"{name:<6} "
            + " ".join(f"{of(column) if len(column) else np.nan:>14.4f}" for column in columns)
        )
    for option, (value, count, share) in skipped.items():
        lines.append(
            f"Skipped {count:,} potential negatives ({share:.2%}) due to the {option} of {value}."
        )
    short = int((~found.all(axis=1)).sum())
    if short:
        lines.append(
            f"{short:,} of {len(found):,} pairs have fewer than {found.shape[1]} negatives; a "
            "larger range_max, or looser margins and scores, would find more."
        )
    return "\n".join(lines)


_METRICS: dict[str, Callable[[np.ndarray], np.floating | float]] = {
    "Mean": np.mean,
    "Median": np.median,
    "Std": lambda column: np.std(column, ddof=1) if len(column) > 1 else np.nan,
    "Min": np.min,
    "25%": lambda column: np.quantile(column, 0.25),
    "75%": lambda column: np.quantile(column, 0.75),
    "Max": np.max,
}


def _pairs(mined, pairs, anchor, positive):
    return {
        anchor: _texts(mined.queries, mined.owners[pairs]),
        positive: _texts(mined.corpus, mined.positives[pairs]),
    }


def _texts(texts, indices):
    return [texts[index] for index in indices]
