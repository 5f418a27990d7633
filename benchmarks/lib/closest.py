"""The closest pair among n sentences: the cost with a bi-encoder, with a cross-encoder, and with
both, one after the other.

`benchmarks.tradeoff` uses this file. `benchmarks.pairwise` measures the first two in detail.
"""

import functools
import math
import pathlib
import random
import statistics
from typing import Any

import numpy as np

from benchmarks.lib import report
from benchmarks.lib.sentences import docstring_sentences, shuffled
from jsbert import CrossEncoder, SentenceTransformer
from jsbert.data import read_examples
from jsbert.search import close_pairs, most_similar_pair
from recipes.corpus import normalized

NEIGHBOURS = 10
"""The number of neighbours of each sentence among which the closest pairs are searched."""


def costs(
    bi: SentenceTransformer,
    cross: CrossEncoder,
    sentences: list[str],
    *,
    sample: int,
    rerank_pairs: int,
) -> dict[str, dict[str, Any]]:
    """Return passes and seconds of each method, to the closest pair of `sentences`, without
    compilation.

    Args:
        bi, cross: the models.
        sentences: n texts.
        sample: the number of random pairs on which the cross-encoder's seconds are measured. The
            seconds for all n(n-1)/2 pairs are extrapolated.
        rerank_pairs: the number of closest pairs by cosine that the cross-encoder scores after the
            bi-encoder.
    """
    pairs = [(sentences[i], sentences[j]) for i, j in sampled_pairs(len(sentences), sample)]

    def by_cosine():
        vectors = bi.encode(sentences)
        return len(vectors), most_similar_pair(vectors)

    def by_both():
        vectors = bi.encode(sentences)
        close = close_pairs(vectors, k=NEIGHBOURS, max_pairs=rerank_pairs)
        scores = cross.predict(
            [(sentences[i], sentences[j]) for i, j in zip(close.firsts, close.seconds, strict=True)]
        )
        best = int(np.argmax(scores))
        return len(vectors) + len(scores), (close.firsts[best], close.seconds[best])

    seconds, (passes, closest) = _timed(by_cosine)
    sample_seconds, _ = _timed(functools.partial(cross.predict, pairs))
    both_seconds, (both_passes, both_closest) = _timed(by_both)
    all_pairs = math.comb(len(sentences), 2)
    return {
        "bi-encoder": {
            "passes": passes,
            "seconds": seconds,
            "pair": [sentences[closest.first], sentences[closest.second]],
        },
        "cross-encoder": {
            "passes": all_pairs,
            "sample_pairs": len(pairs),
            "sample_seconds": sample_seconds,
            "extrapolated_seconds": statistics.median(sample_seconds) / len(pairs) * all_pairs,
        },
        "retrieve-then-rerank": {
            "passes": both_passes,
            "seconds": both_seconds,
            "pair": [sentences[i] for i in both_closest],
        },
    }


def sampled_pairs(num: int, count: int) -> list[tuple[int, int]]:
    """Return up to `count` different pairs i < j of 0 .. num - 1, drawn evenly, always the same.

    >>> sorted(sampled_pairs(4, 100))
    [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    """
    drawn = random.Random(0).sample(range(math.comb(num, 2)), min(count, math.comb(num, 2)))
    seconds = [(1 + math.isqrt(1 + 8 * number)) // 2 for number in drawn]
    return [(number - math.comb(j, 2), j) for number, j in zip(drawn, seconds, strict=True)]


def distinct_sentences(data: pathlib.Path, count: int) -> tuple[list[str], str]:
    """Return (`count` sentences, their source), shuffled, and distinct without case and
    punctuation. The source is the NLI sentences of `data`, or docstrings if `data` has no NLI
    sentences."""
    file = data / "nli/nli-train.tsv.gz"
    if file.is_file():
        first, second = read_examples(file, columns=["premise", "hypothesis"]).texts
        texts, source = [*first, *second], file.name
    else:
        texts, source = docstring_sentences(), "docstrings"
    distinct = {normalized(text): text for text in texts}
    if len(distinct) < count:
        raise SystemExit(
            f"{source}: {len(distinct)} distinct sentences are too few for --n {count}; "
            "give a smaller one"
        )
    return shuffled(list(distinct.values()), 0)[:count], source


def _timed(function):
    """Return (seconds of each run, the last result), after a run that compiles."""
    function()
    return report.measure(function)
