"""Mine hard negatives: texts that a model finds near a query although they do not answer it."""

import functools
import hashlib
import os
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

from jsbert.data.examples import Examples
from jsbert.files import staged_file
from jsbert.mining.candidates import cross_scores, leave_out, ranked, sampled, similarities
from jsbert.mining.formats import FORMATS, Mined, statistics
from jsbert.search import top_k


def mine_hard_negatives(
    dataset: Any,
    model: Any,
    anchor_column_name: str | None = None,
    positive_column_name: str | None = None,
    corpus: Sequence[str] | None = None,
    cross_encoder: Any = None,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    num_negatives: int = 3,
    sampling_strategy: Literal["random", "top"] = "top",
    query_prompt_name: str | None = None,
    query_prompt: str | None = None,
    corpus_prompt_name: str | None = None,
    corpus_prompt: str | None = None,
    include_positives: bool = False,
    output_format: Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"] = "triplet",
    output_scores: bool = False,
    batch_size: int | None = None,
    faiss_batch_size: int = 16384,
    use_faiss: bool = False,
    use_multi_process: Sequence[str] | bool = False,
    verbose: bool = True,
    cache_folder: str | os.PathLike | None = None,
    seed: int = 0,
) -> Any:
    """Mine hard negatives for the (anchor, positive) pairs of `dataset`. Return the pairs with
    their negatives: a `datasets.Dataset` for a `datasets.Dataset`, `Examples` for `Examples`.

    The candidates of a query are the texts nearest to the query, by the model's similarity of
    normalised vectors. The query's positives are no candidates; a query has several positives if
    its anchor is in several rows. Candidates that break a limit below are left out, and the other
    candidates are ranked by score. The negatives come from the ranks `range_min` to `range_max` -
    1; the best candidate has rank 0.

    Reference: sentence_transformers.util.mine_hard_negatives.

    Args:
        dataset: the pairs.
        model: a SentenceTransformer.
        anchor_column_name, positive_column_name: by default the first and the second column.
        corpus: texts that are candidates in addition to the positives of all rows.
        cross_encoder: a CrossEncoder with one label. If there is a limit, it scores the candidates
            and the positives again, and its scores replace those of the model.
        range_min, range_max: ranks. The default of range_max suffices for num_negatives; with
            limits it leaves room for ten times num_negatives.
        max_score, min_score: limits on a negative's score.
        absolute_margin: a negative's score must be at least this much below the lowest score of the
            query's positives.
        relative_margin: a negative's score must be at least this share of the size of that lowest
            score below it; 0.05 for 5 %.
        num_negatives: the largest number of negatives for each query.
        sampling_strategy: "top" takes the best ranks, "random" draws from all ranks of the range.
        query_prompt_name, query_prompt, corpus_prompt_name, corpus_prompt: as for the model's
            `encode_query` and `encode_document`.
        include_positives: whether positives are candidates too, to rank both; the format is then
            "n-tuple".
        output_format: "triplet" (anchor, positive, negative), one row for each negative; "n-tuple"
            (anchor, positive, negative_1, ...), only rows that have all negatives; "labeled-pair"
            (anchor, document, label 1 or 0); "labeled-list" (anchor, documents, labels), for a
            `datasets.Dataset` only.
        output_scores: whether to add a column `scores` ([the positive's, the negatives' ...]). In
            the labelled formats the scores replace the labels.
        batch_size: as for the model's `encode`.
        faiss_batch_size: accepted and not used.
        use_faiss, use_multi_process: must be False: the search is exact and goes block by block,
            and one process uses all devices.
        verbose: whether to show progress and print statistics.
        cache_folder: a folder that keeps the vectors for the next call with the same model, texts
            and prompts.
        seed: for "random": the draws are those of sentence-transformers after random.seed(seed).

    Raises:
        ValueError: if a column or an option is not possible; the message names it.
    """
    # Check the options, and read the pairs.
    _refuse("use_faiss", use_faiss, "the search is exact and in blocks already")
    _refuse("use_multi_process", use_multi_process, "one process uses all devices of the model")
    _check_choice("sampling_strategy", sampling_strategy, ("top", "random"))
    _check_choice("output_format", output_format, tuple(FORMATS))
    output_format = "n-tuple" if include_positives else output_format
    if output_format == "labeled-list" and isinstance(dataset, Examples):
        raise ValueError(
            "output_format 'labeled-list' has lists of texts, which Examples cannot hold; give a "
            "Dataset"
        )
    options = {
        "absolute_margin": absolute_margin,
        "relative_margin": relative_margin,
        "max_score": max_score,
        "min_score": min_score,
    }
    limits = {name: value for name, value in options.items() if value is not None}
    anchor, positive, anchors, positives = _read_pairs(
        dataset, anchor_column_name, positive_column_name
    )
    most_positives = max(Counter(anchors).values())
    if range_max is None:
        # The model's scores fall with the rank: min_score alone cuts only the last ranks, and more
        # candidates would not help.
        spare = 10 if limits.keys() - ({"min_score"} if cross_encoder is None else set()) else 1
        range_max = range_min + spare * num_negatives + most_positives
    _check_range(range_min, range_max, num_negatives)

    # Number the different queries and texts, and encode them.
    queries = list(dict.fromkeys(anchors))
    corpus = list(dict.fromkeys([*(corpus or ()), *positives]))
    owners, documents = _numbered_pairs(anchors, queries, positives, corpus)
    encode = {"batch_size": batch_size, "show_progress_bar": verbose}
    prompt = {"prompt_name": corpus_prompt_name, "prompt": corpus_prompt}
    corpus_vectors = _vectors(model, "document", corpus, prompt, encode, cache_folder)
    prompt = {"prompt_name": query_prompt_name, "prompt": query_prompt}
    query_vectors = _vectors(model, "query", queries, prompt, encode, cache_folder)

    # Search for more candidates than range_max, because some may be positives of the query.
    num_candidates, similarity = range_max + most_positives, model.similarity_fn_name
    scores, candidates = top_k(query_vectors, corpus_vectors, num_candidates, similarity=similarity)
    # Score the candidates and the positives, by the cross-encoder if a limit needs its scores.
    if cross_encoder is not None and limits:
        everyone = np.repeat(np.arange(len(queries)), candidates.shape[1])
        rescore = functools.partial(
            cross_scores, cross_encoder, batch_size=batch_size, show_progress_bar=verbose
        )
        scores = rescore(queries, everyone, corpus, candidates.ravel()).reshape(candidates.shape)
        positive_scores = rescore(queries, owners, corpus, documents)
    else:
        positive_scores = similarities(similarity, query_vectors, owners, corpus_vectors, documents)
    # A score of -inf marks what is no candidate: the query's positives, and what breaks a limit.
    if not include_positives:
        pairs, columns = np.nonzero(candidates[owners] == documents[:, None])
        scores[owners[pairs], columns] = -np.inf
    left_out = leave_out(scores, owners, positive_scores, limits)
    # With few texts the last ranks are empty: fill them with -inf, then take the ranks.
    empty = ((0, 0), (0, num_candidates - scores.shape[1]))
    scores, candidates = np.pad(scores, empty, constant_values=-np.inf), np.pad(candidates, empty)
    scores, candidates = ranked(scores, candidates, range_min, range_max)
    if sampling_strategy == "random":
        scores, candidates = sampled(scores, candidates, num_negatives, seed)
    negatives, negative_scores = candidates[:, :num_negatives], scores[:, :num_negatives]

    mined = Mined(queries, corpus, owners, documents, positive_scores, negatives, negative_scores)
    if verbose:
        print(statistics(mined, left_out))
    rows = FORMATS[output_format](mined, anchor, positive, output_scores)
    if isinstance(dataset, Examples):
        return Examples.from_columns(rows)
    return type(dataset).from_dict(rows)


def _read_pairs(dataset, anchor, positive):
    """Read the pairs: (name of the anchors' column, name of the positives' column, anchors,
    positives)."""
    available = (
        dataset.names
        if isinstance(dataset, Examples)
        else tuple(getattr(dataset, "column_names", ()))
    )
    if len(available) < 2 or len(dataset) == 0:
        raise ValueError(
            f"{len(dataset)} rows of {len(available)} columns; at least one row of two columns is "
            "needed"
        )
    anchor = available[0] if anchor is None else anchor
    positive = available[1] if positive is None else positive
    for name in (anchor, positive):
        if name not in available:
            raise ValueError(f"no column {name!r}; there are {', '.join(map(repr, available))}")
    if anchor == positive or {anchor, positive} & {
        "negative",
        "label",
        "labels",
        "score",
        "scores",
    }:
        raise ValueError(
            f"the anchors are in column {anchor!r} and the positives in {positive!r}; these must "
            "be two columns, with other names than the result's negative, label(s) and score(s)"
        )
    if not isinstance(dataset, Examples):
        dataset = Examples.from_dataset(dataset.select_columns([anchor, positive]))
    texts, _ = dataset.rows(np.arange(len(dataset)))
    return (
        anchor,
        positive,
        texts[dataset.names.index(anchor)],
        texts[dataset.names.index(positive)],
    )


def _check_range(range_min, range_max, num_negatives):
    if num_negatives < 1:
        raise ValueError(f"num_negatives is {num_negatives}; it must be at least 1")
    if range_min < 0 or range_max - range_min < num_negatives:
        raise ValueError(
            f"ranks from range_min={range_min} to range_max={range_max} do not hold "
            f"num_negatives={num_negatives}; "
            "range_min must be at least 0, and range_max at least range_min + num_negatives"
        )


def _numbered_pairs(anchors, queries, positives, corpus):
    """The different pairs as two arrays (P,): indices into `queries`, ascending, and indices into
    `corpus`."""
    query_places, corpus_places = (
        {text: i for i, text in enumerate(texts)} for texts in (queries, corpus)
    )
    pairs = dict.fromkeys(
        zip(map(query_places.get, anchors), map(corpus_places.get, positives), strict=True)
    )
    owners, documents = np.array(list(pairs), np.int64).T
    order = np.argsort(owners, kind="stable")
    return owners[order], documents[order]


def _vectors(model, role, texts, prompt, options, cache_folder):
    """Encode texts as normalised vectors. With a cache folder, read the vectors from the folder, or
    write them into it."""
    encode = model.encode_query if role == "query" else model.encode_document
    if cache_folder is None:
        return encode(texts, normalize_embeddings=True, **prompt, **options)
    folder = pathlib.Path(cache_folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{role}_embeddings_{_fingerprint(model, role, prompt, texts)}.npy"
    if not file.exists():
        vectors = encode(texts, normalize_embeddings=True, **prompt, **options)
        with staged_file(file) as staging:
            np.save(staging, vectors)
    return np.load(file)


def _fingerprint(model, role, prompt, texts):
    """A hexadecimal digest of everything that the vectors depend on: texts, prompt, settings and
    params."""
    routed = model if model.router is None else model.router.route(role)
    settings = (
        routed.config,
        routed.tokenizer.description,
        model.truncate_dim,
        model.prompts,
        model.default_prompt_name,
    )
    digest = hashlib.sha256(repr((settings, prompt, texts)).encode("utf8", "surrogatepass"))
    for path, leaf in jax.tree_util.tree_leaves_with_path(routed.params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _refuse(name, value, reason):
    if value:
        raise ValueError(f"{name} is {value!r}; leave it False: {reason}")


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}")
