"""Are the relevant documents among the first results of a search in a corpus?"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from jsbert.evaluate.evaluator import Evaluator, Outcome, embed
from jsbert.inputs import check_choice, check_positive
from jsbert.metrics import (
    average_precision_at_k,
    hit_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)
from jsbert.search import top_k
from jsbert.similarity import similarity_name

HEADERS = dict(
    accuracy="Accuracy", precision="Precision", recall="Recall", mrr="MRR", ndcg="NDCG", map="MAP"
)
"""The names of the measures in the csv file."""


@dataclass(repr=False, eq=False)
class InformationRetrievalEvaluator(Evaluator):
    """Measures of exact search: each query against the whole corpus, ties by ascending document id.

    Keys, for each similarity s: {s}_accuracy@k, {s}_precision@k, {s}_recall@k, {s}_ndcg@k,
    {s}_mrr@k, {s}_map@k: means over the queries that have relevant documents; see `jsbert.metrics`.
    A relevant document that is not in the corpus counts as not found. Primary: the ndcg at the
    largest k of `main_score_function`; by default of the similarity with the largest ndcg.

    Args:
        queries: texts by id; queries without relevant documents are left out.
        corpus: texts by id. The ids must be sortable.
        relevant_docs: ids of relevant documents by id of the query.
        corpus_chunk_size: the number of documents encoded at a time. The memory is that of the
            vectors of one chunk.
        mrr_at_k, ndcg_at_k, accuracy_at_k, precision_recall_at_k, map_at_k: the values of k.
        show_progress_bar, batch_size: as for `encode`.
        name: see `Evaluator`.
        write_csv: see `Evaluator`.
        truncate_dim: as for `encode`.
        score_functions: matrix functions of jsbert.similarity by their name in the keys; by default
            the model's similarity.
        main_score_function: the similarity of the primary metric.
        query_prompt, query_prompt_name, corpus_prompt, corpus_prompt_name: as for `encode_query`,
            `encode_document`.

    Reference: sentence-transformers' InformationRetrievalEvaluator.
    """

    queries: Mapping[str, str]
    corpus: Mapping[str, str]
    relevant_docs: Mapping[str, Collection[str]]
    corpus_chunk_size: int = 50_000
    mrr_at_k: Sequence[int] = (10,)
    ndcg_at_k: Sequence[int] = (10,)
    accuracy_at_k: Sequence[int] = (1, 3, 5, 10)
    precision_recall_at_k: Sequence[int] = (1, 3, 5, 10)
    map_at_k: Sequence[int] = (100,)
    show_progress_bar: bool | None = False
    batch_size: int | None = None
    name: str = ""
    write_csv: bool = True
    truncate_dim: int | None = None
    score_functions: Mapping[str, Callable] | None = None
    main_score_function: str | None = None
    query_prompt: str | None = None
    query_prompt_name: str | None = None
    corpus_prompt: str | None = None
    corpus_prompt_name: str | None = None

    def __post_init__(self):
        check_positive("corpus_chunk_size", self.corpus_chunk_size, or_none=False)
        for name in ("mrr_at_k", "ndcg_at_k", "accuracy_at_k", "precision_recall_at_k", "map_at_k"):
            for k in getattr(self, name):
                check_positive(f"an entry of {name}", k, or_none=False)
        if not self.ndcg_at_k:
            raise ValueError("ndcg_at_k is empty; the primary metric needs at least one k")
        self._similarities = {
            name: similarity_name(f) for name, f in (self.score_functions or {}).items()
        }
        if self.main_score_function and self._similarities:
            check_choice("main_score_function", self.main_score_function, tuple(self._similarities))
        self._relevant = {query: set(self.relevant_docs.get(query, ())) for query in self.queries}
        self._relevant = {
            query: documents for query, documents in self._relevant.items() if documents
        }
        if not self._relevant or not self.corpus:
            raise ValueError(
                f"of {len(self.queries)} queries {len(self._relevant)} have relevant documents, "
                "and the corpus holds "
                f"{len(self.corpus)}; at least one of each is needed"
            )
        try:
            # The search breaks ties by the lower index: with sorted ids, by the lower id.
            self._ids = sorted(self.corpus)
        except TypeError as error:
            raise TypeError(f"the corpus' ids cannot be sorted ({error}); give strings") from None

    @property
    def csv_file(self) -> str:
        """The name of the csv file."""
        return self._named("Information-Retrieval_evaluation")

    def _outcome(self, model):
        similarities = self._similarities or {model.similarity_fn_name: model.similarity_fn_name}
        if self.main_score_function:
            check_choice("main_score_function", self.main_score_function, tuple(similarities))
        results = self._search(model, similarities)
        values = {name: self._measures(found) for name, found in results.items()}
        metrics = {
            f"{name}_{kind}@{k}": value
            for name in values
            for (kind, k), value in values[name].items()
        }
        columns = {
            f"{name}-{HEADERS[kind]}@{k}": values[name][kind, k]
            for name in sorted(values)
            for kind, k in self._columns()
        }
        k = max(self.ndcg_at_k)
        main = self.main_score_function or max(
            sorted(values), key=lambda name: values[name]["ndcg", k]
        )
        return Outcome(metrics, f"{main}_ndcg@{k}", columns)

    def _search(self, model, similarities):
        """Search the corpus: {similarity: indices into the sorted ids, (Q, K), best first}."""
        queries = embed(
            model,
            [self.queries[query] for query in self._relevant],
            how="encode_query",
            prompt=self.query_prompt,
            prompt_name=self.query_prompt_name,
            **self._encoding,
        )
        deepest = max(k for _, k in self._columns())
        best = {
            name: (np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64))
            for name in similarities
        }
        # Search chunk by chunk, and merge the results of each chunk with the best so far. The sort
        # is stable: ties stay in the order of the ids.
        starts = range(0, len(self._ids), self.corpus_chunk_size)
        for start in tqdm(starts, desc="corpus", unit="chunk", disable=not self.show_progress_bar):
            ids = self._ids[start : start + self.corpus_chunk_size]
            documents = embed(
                model,
                [self.corpus[document] for document in ids],
                how="encode_document",
                prompt=self.corpus_prompt,
                prompt_name=self.corpus_prompt_name,
                **self._encoding,
            )
            for name, similarity in similarities.items():
                scores, indices = top_k(queries, documents, deepest, similarity=similarity)
                scores = np.append(best[name][0], scores, axis=1)
                indices = np.append(best[name][1], start + indices, axis=1)
                order = np.argsort(-scores, axis=1, kind="stable")[:, :deepest]
                best[name] = (
                    np.take_along_axis(scores, order, 1),
                    np.take_along_axis(indices, order, 1),
                )
        return {name: indices for name, (_, indices) in best.items()}

    def _measures(self, results):
        """{(kind, k): the mean over the queries}."""
        relevant = np.array(
            [
                [self._ids[index] in documents for index in row]
                for row, documents in zip(results.tolist(), self._relevant.values(), strict=True)
            ]
        )
        num_relevant = [len(documents) for documents in self._relevant.values()]
        values = (
            {("accuracy", k): hit_at_k(relevant, k) for k in self.accuracy_at_k}
            | {("precision", k): precision_at_k(relevant, k) for k in self.precision_recall_at_k}
            | {
                ("recall", k): recall_at_k(relevant, num_relevant, k)
                for k in self.precision_recall_at_k
            }
            | {("ndcg", k): ndcg_at_k(relevant, num_relevant, k) for k in self.ndcg_at_k}
            | {("mrr", k): reciprocal_rank_at_k(relevant, k) for k in self.mrr_at_k}
            | {("map", k): average_precision_at_k(relevant, num_relevant, k) for k in self.map_at_k}
        )
        return {key: value.mean() for key, value in values.items()}

    def _columns(self):
        """The (kind, k) of all measures, in the order of the csv file."""
        yield from (("accuracy", k) for k in self.accuracy_at_k)
        for k in self.precision_recall_at_k:
            yield from (("precision", k), ("recall", k))
        yield from (("mrr", k) for k in self.mrr_at_k)
        yield from (("ndcg", k) for k in self.ndcg_at_k)
        yield from (("map", k) for k in self.map_at_k)
