"""Are a query's relevant documents ranked before the other documents of a list?"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jsbert.evaluate.evaluator import Evaluator, Outcome, embed, pairwise, predict
from jsbert.inputs import check_positive
from jsbert.metrics import average_precision, ndcg, reciprocal_rank
from jsbert.similarity import cos_sim, similarity_name

Sample = Mapping[str, Any]


@dataclass(repr=False, eq=False)
class RerankingEvaluator(Evaluator):
    """How a bi-encoder ranks each query's relevant documents among the irrelevant documents.

    Keys: map, mrr@{at_k}, ndcg@{at_k}: means over the queries. The order of documents with equal
    scores does not matter: nDCG is averaged over all orders, average precision has one threshold
    for equal scores, and the reciprocal rank puts irrelevant documents first. Primary: ndcg.

    Args:
        samples: dicts of "query", a text, and "positive" and "negative", each a text or a list of
            texts; or a dict of such samples. Samples without a positive or without a negative are
            left out.
        at_k: the number of ranks that count for MRR and nDCG.
        name, write_csv: see `Evaluator`.
        similarity_fct: a matrix function of jsbert.similarity.
        batch_size, show_progress_bar, truncate_dim: as for `encode`.
        use_batched_encoding: accepted and not used.

    Reference: sentence-transformers' RerankingEvaluator. There the reciprocal rank of equal scores
    depends on the sort.
    """

    samples: Sequence[Sample] | Mapping[Any, Sample]
    at_k: int = 10
    name: str = ""
    write_csv: bool = True
    similarity_fct: Callable = cos_sim
    batch_size: int | None = None
    show_progress_bar: bool | None = False
    use_batched_encoding: bool = True
    truncate_dim: int | None = None

    def __post_init__(self):
        check_positive("at_k", self.at_k, or_none=False)
        self._similarity = similarity_name(self.similarity_fct)
        self._samples = [
            (sample["query"], _texts(sample["positive"]), _texts(sample["negative"]))
            for sample in _checked(self.samples, "query", "positive", "negative")
        ]
        self._samples = [
            (query, some, others) for query, some, others in self._samples if some and others
        ]
        if not self._samples:
            raise ValueError(
                f"none of {len(self.samples)} samples has a positive and a negative document"
            )

    @property
    def csv_file(self) -> str:
        """The name of the csv file."""
        return self._named("RerankingEvaluator", f"_results_@{self.at_k}.csv")

    def _outcome(self, model):
        queries = [query for query, some, others in self._samples for _ in (*some, *others)]
        documents = [document for _, some, others in self._samples for document in (*some, *others)]
        scores = pairwise(
            self._similarity,
            embed(model, queries, how="encode_query", **self._encoding),
            embed(model, documents, how="encode_document", **self._encoding),
        )
        relevant = [[True] * len(some) + [False] * len(others) for _, some, others in self._samples]
        return _outcome(_mean_measures(relevant, scores, self.at_k), self.at_k)


@dataclass(repr=False, eq=False)
class CrossEncoderRerankingEvaluator(Evaluator):
    """How a cross-encoder ranks each query's relevant documents among other documents, or reranks
    the results of a first search.

    Keys: map, mrr@{at_k}, ndcg@{at_k}: means over all samples, with equal scores as in
    `RerankingEvaluator`. With "documents" also base_map, base_mrr@{at_k}, base_ndcg@{at_k}: the
    measures of the first search. Primary: ndcg.

    Args:
        samples: dicts of "query", a text; "positive", the relevant documents; and either
            "negative", irrelevant documents, or "documents", the results of a first search, best
            first, relevant or not. A sample without relevant documents scores 0.
        at_k: the number of ranks that count for MRR and nDCG.
        always_rerank_positives: with "documents": whether to rank also the positives that the first
            search did not find. The base measures put these positives after all documents; if the
            first search found no positive, the base measures are 0.
        name: see `Evaluator`.
        batch_size, show_progress_bar: as for `predict`.
        write_csv: see `Evaluator`.

    Reference: sentence-transformers' CrossEncoderRerankingEvaluator. There the reciprocal rank of
    equal scores depends on the sort.
    """

    samples: Sequence[Sample] | Mapping[Any, Sample]
    at_k: int = 10
    always_rerank_positives: bool = True
    name: str = ""
    batch_size: int | None = None
    show_progress_bar: bool | None = False
    write_csv: bool = True

    def __post_init__(self):
        check_positive("at_k", self.at_k, or_none=False)
        self._ranked, self._base = [], []
        for index, sample in enumerate(_checked(self.samples, "query", "positive")):
            if ("negative" in sample) == ("documents" in sample):
                raise ValueError(
                    f"sample {index} has {', '.join(sample)}; give either 'negative' or 'documents'"
                )
            positive = _texts(sample["positive"])
            if "negative" in sample:
                self._add(sample["query"], positive, _texts(sample["negative"]))
                continue
            documents = _texts(sample["documents"])
            found = [document in positive for document in documents]
            self._base.append(found + [True] * (len(positive) - sum(found)) if any(found) else [])
            others = [document for document in documents if document not in positive]
            if not self.always_rerank_positives:
                positive = [document for document in documents if document in positive]
            self._add(sample["query"], positive, others)
        if not self._ranked:
            raise ValueError("samples is empty; give at least one")

    def _add(self, query, positive, others):
        pairs = [(query, document) for document in (*positive, *others)] if positive else []
        self._ranked.append(
            (pairs, [True] * len(positive) + [False] * (len(pairs) - len(positive)))
        )

    @property
    def csv_file(self) -> str:
        """The name of the csv file."""
        return self._named("CrossEncoderRerankingEvaluator", f"_results_@{self.at_k}.csv")

    def _outcome(self, model):
        pairs = [pair for sample, _ in self._ranked for pair in sample]
        scores = np.zeros(0)
        if pairs:
            scores = predict(
                model, pairs, batch_size=self.batch_size, show_progress_bar=self.show_progress_bar
            )
        if scores.ndim != 1:
            raise ValueError(
                f"reranking needs one score a pair; this model gives {scores.shape[1]}"
            )
        outcome = _outcome(
            _mean_measures([relevant for _, relevant in self._ranked], scores, self.at_k), self.at_k
        )
        if self._base:
            places = np.concatenate([-np.arange(len(relevant)) for relevant in self._base])
            base = _outcome(_mean_measures(self._base, places, self.at_k), self.at_k)
            outcome.metrics.update({f"base_{key}": value for key, value in base.metrics.items()})
        return outcome


def _mean_measures(relevant: Iterable[Sequence[bool]], scores, k):
    """(MAP, MRR, nDCG) over samples. `relevant` are lists for each sample; `scores` are those of
    all samples, concatenated."""
    measures, start = [], 0
    for sample in relevant:
        found = scores[start : start + len(sample)]
        start += len(sample)
        if any(sample):
            measures.append(
                (
                    average_precision(sample, found),
                    reciprocal_rank(sample, found, k=k),
                    ndcg(sample, found, k=k),
                )
            )
        else:
            measures.append((0.0, 0.0, 0.0))
    return np.mean(measures, axis=0)


def _outcome(measures, k):
    mean_ap, mrr, mean_ndcg = measures
    metrics = {"map": mean_ap, f"mrr@{k}": mrr, f"ndcg@{k}": mean_ndcg}
    return Outcome(metrics, f"ndcg@{k}", {"MAP": mean_ap, f"MRR@{k}": mrr, f"NDCG@{k}": mean_ndcg})


def _checked(samples, *keys):
    """Yield the samples. Raise ValueError for the first sample that lacks a key."""
    for index, sample in enumerate(samples.values() if isinstance(samples, Mapping) else samples):
        for key in keys:
            if key not in sample:
                raise ValueError(f"sample {index} has no {key!r}, only {', '.join(sample)}")
        yield sample


def _texts(texts):
    return [texts] if isinstance(texts, str) else list(texts)
